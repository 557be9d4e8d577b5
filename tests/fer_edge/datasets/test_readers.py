from __future__ import annotations

import os
import zipfile
from typing import TYPE_CHECKING

import pytest

from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import DataError

from .files import zipped

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.datasets.dataset import Dataset
    from tests.conftest import Sample


def test_folders_and_zips_give_the_same_dataset_as_the_csv(sample: Sample, tmp_path: Path) -> None:
    part = slice(0, 700, 25)
    expected = load_dataset(sample.write_csv(tmp_path / "some.csv", part))
    tree = sample.write_tree(tmp_path / "tree", part)
    members = {str(p.relative_to(tree)): p.read_bytes() for p in sorted(tree.rglob("*.png"))}
    forms = [
        tree,
        zipped(tmp_path / "tree.zip", members),
        zipped(tmp_path / "inside.zip", {f"archive/{name}": data for name, data in members.items()}),
        zipped(tmp_path / "csv.zip", {"fer2013.csv": (tmp_path / "some.csv").read_bytes()}, zipfile.ZIP_DEFLATED),
    ]

    def content(data: Dataset) -> list[tuple[bytes, int, bool]]:
        usages = [usage == "Training" for usage in data.usages]
        return sorted(
            (face.tobytes(), int(label), usage)
            for face, label, usage in zip(data.faces, data.classes, usages, strict=True)
        )

    for form in forms:
        assert content(load_dataset(form)) == content(expected), form


def test_default_usage_is_the_test_set(fer2013_csv: Path, sample: Sample, tmp_path: Path) -> None:
    data = load_dataset(fer2013_csv)
    assert set(data.select_usage().usages) == {"PublicTest"}
    assert set(data.select_usage("train").usages) == {"Training"}
    only = load_dataset(sample.write_csv(tmp_path / "only.csv", slice(0, 5)))
    assert len(only.select_usage()) == 5
    with pytest.raises(DataError, match="no rows of usage PrivateTest; it has PublicTest, Training"):
        data.select_usage("PrivateTest")


def test_rejects_missing_binary_and_empty_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load_dataset(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="no images in class folders"):
        load_dataset(tmp_path)
    (tmp_path / "model.bin").write_bytes(os.urandom(999))
    with pytest.raises(DataError, match=r"not a text file|no column"):
        load_dataset(tmp_path / "model.bin")
