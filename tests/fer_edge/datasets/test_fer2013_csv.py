from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fer_edge.classification.labels import FER2013
from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import DataError

from .files import ONE_ROW, write

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Sample


def test_reads_every_pixel_and_usage(sample: Sample, fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv)
    assert data.labels == FER2013
    assert (data.faces == sample.faces).all()
    assert data.classes.tolist() == [int(row["emotion"]) for row in sample.rows]
    assert data.usages.tolist() == [row["Usage"] for row in sample.rows]


def test_columns_may_have_spaces_and_any_order(tmp_path: Path) -> None:
    path = write(tmp_path / "icml.csv", f"emotion, Usage, pixels\n3,PublicTest,{ONE_ROW[2:]}\n")
    data = load_dataset(path)
    assert (data.classes.tolist(), data.usages.tolist()) == ([3], ["PublicTest"])


def test_missing_usage_column_means_training(tmp_path: Path) -> None:
    assert load_dataset(write(tmp_path / "train.csv", f"emotion,pixels\n{ONE_ROW}\n")).usages.tolist() == ["Training"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column emotion or pixels"),
        ("emotion,pixels,Usage\n", "no rows"),
        (f"label,pixels\n{ONE_ROW}\n", "no column emotion in its first line"),
        (f"emotion,pixels\n{ONE_ROW[:-2]}\n", "line 2: 2303 pixels, not 2304"),
        (f"emotion,pixels\n{ONE_ROW}\n{ONE_ROW} 7\n", "line 3: 2305 pixels, not 2304"),
        (f"emotion,pixels\n{ONE_ROW[:-1]}300\n", "pixels outside 0 to 255"),
        (f"emotion,pixels\n{ONE_ROW[:-1]}x\n", "pixels that are not whole numbers"),
        (f"emotion,pixels\n9{ONE_ROW[1:]}\n", "emotion is '9', not a number from 0 to 6"),
        (f"emotion,pixels,Usage\n{ONE_ROW}\n", "2 of 3 columns"),
    ],
)
def test_rejects_damaged_csv_and_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(write(tmp_path / "fer2013.csv", text))
