from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.classification.labels import FER2013, FERPLUS, FERPLUS_COLUMNS
from fer_edge.datasets.ferplus import add_votes, label_by_majority
from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import DataError

from .files import write

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Sample


def votes_of(fer2013_csv: Path) -> Path:
    return fer2013_csv.with_name("fer2013new.csv")


def test_votes_have_the_order_of_the_labels(fer2013_csv: Path, sample: Sample) -> None:
    data = load_dataset(fer2013_csv)
    assert data.votes_for(FER2013) is None
    votes = add_votes(data, votes_of(fer2013_csv)).votes_for(FER2013)
    assert votes is not None
    assert votes.shape == (700, 7)
    for row, label in ((0, "angry"), (120, "fear"), (699, "neutral")):
        column = {"angry": "anger"}.get(label, label)
        assert votes[row, FER2013.index(label)] == int(sample.rows[row][column])


def test_rejects_votes_beyond_any_number(fer2013_csv: Path, tmp_path: Path) -> None:
    table = tmp_path / "votes.csv"
    head, first, *_ = votes_of(fer2013_csv).read_text().splitlines()
    table.write_text(f"{head}\n{first.rpartition(',')[0]},{'9' * 400}\n")
    with pytest.raises(DataError, match=r"votes\.csv: damaged \(int too large"):
        add_votes(load_dataset(fer2013_csv), table)


def test_rejects_votes_of_other_rows(fer2013_csv: Path, sample: Sample, tmp_path: Path) -> None:
    data = load_dataset(fer2013_csv)
    short = sample.write_votes(tmp_path / "short.csv", slice(0, 699))
    with pytest.raises(DataError, match=r"its 699 rows are not the 700 rows"):
        add_votes(data, short)
    ragged = tmp_path / "ragged.csv"
    ragged.write_text(short.read_text() + "PublicTest,fer1.png,1,2\n")
    with pytest.raises(DataError, match="line 701: not as many columns"):
        add_votes(data, ragged)
    with pytest.raises(DataError, match="no column Usage"):
        add_votes(data, write(tmp_path / "other.csv", "a,b\n1,2\n"))


def test_majority_follows_the_papers_protocol(fer2013_csv: Path) -> None:
    data = add_votes(load_dataset(fer2013_csv), votes_of(fer2013_csv))
    votes = np.zeros((6, 10), np.float32)
    votes[0, [FERPLUS_COLUMNS.index("sad"), 0]] = 6, 4
    votes[1, [1, 0, 2, 3]] = 5, 2, 2, 1  # without the single vote, five of nine
    votes[2, [1, 0]] = 5, 5  # half is not a majority
    votes[3, [8, 0]] = 6, 4  # most voted for unknown
    votes[4, 9] = 10  # no face
    # the sixth face has no votes
    first_six = data.select(np.arange(700) < 6)
    relabelled = label_by_majority(replace(first_six, votes=votes, classes=np.full(6, FER2013.index("fear"))))
    assert relabelled.labels == FERPLUS
    assert [relabelled.labels[i] for i in relabelled.classes] == ["sad", "happy", "fear"]
    with pytest.raises(DataError, match="give --votes"):
        label_by_majority(load_dataset(fer2013_csv))


def test_majority_mostly_agrees_with_fer2013(fer2013_csv: Path) -> None:
    data = add_votes(load_dataset(fer2013_csv), votes_of(fer2013_csv))
    relabelled = label_by_majority(data)
    assert 500 < len(relabelled) < 700
    assert relabelled.votes is not None
    assert (relabelled.votes.argmax(axis=1) == relabelled.classes).all()
    happy = data.select(data.classes == FER2013.index("happy"))
    assert (np.array(FERPLUS)[label_by_majority(happy).classes] == "happy").mean() > 0.8
