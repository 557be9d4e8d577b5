from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import DataError
from fer_edge_train.split import hold_out, hold_out_each_class, split_dataset, split_own_faces

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


def test_held_out_part_has_right_size_and_splits_no_group() -> None:
    groups = np.repeat(np.arange(400), 3)
    keys = random_keys(len(groups), 3)
    training, held_out = hold_out(groups, keys, 0.1)
    assert sorted([*training, *held_out]) == list(range(1200))
    assert 100 <= len(held_out) <= 120
    assert not set(groups[training]) & set(groups[held_out])
    assert (hold_out(groups, keys, 0.1)[1] == held_out).all()
    assert hold_out(groups, random_keys(len(groups), 4), 0.1)[1].tolist() != held_out.tolist()


def test_large_groups_do_not_shrink_held_out_part() -> None:
    groups = np.concatenate([np.repeat(np.arange(5), 400), np.arange(5, 2005)])
    for seed in range(5):
        assert len(hold_out(groups, random_keys(len(groups), seed), 0.05)[1]) == 200
    assert len(hold_out(np.repeat(np.arange(10), 100), random_keys(1000, 1), 0.05)[1]) == 100


def random_keys(count: int, seed: int) -> npt.NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)


def test_data_with_other_labels_holds_out_same_faces(fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv)
    fewer = data.select(np.arange(len(data)) % 10 > 0)
    held_out, held_out_of_fewer, held_out_by_other_seed = (
        {each.faces[row].tobytes() for row in split_dataset(each, 0.1, seed, batch_size=32).validation}
        for each, seed in ((data, 1), (fewer, 1), (data, 2))
    )
    assert len(held_out & held_out_of_fewer) > 0.8 * len(held_out_of_fewer)
    assert len(held_out & held_out_by_other_seed) < 0.3 * len(held_out)


def test_counts_duplicates_of_training_faces(fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv)
    split = split_dataset(data, 0.1, seed=1, batch_size=32)
    assert not set(split.duplicates) & set(split.validation)
    faces = data.faces.copy()
    # The first ten test faces become copies of training faces.
    faces[split.test[:10]] = faces[split.train[:10]]
    after = split_dataset(replace(data, faces=faces), 0.1, seed=1, batch_size=32)
    assert set(after.duplicates) == {*split.duplicates, *split.test[:10]}


def test_uses_validation_part_of_dataset(fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv)
    usages = data.usages.astype("U12")
    usages[350:400] = "validation"
    split = split_dataset(replace(data, usages=usages), 0.1, seed=1, batch_size=32)
    assert split.validation.tolist() == list(range(350, 400))
    assert len(split.train) == 350
    assert len(split.test) == 300


def test_rejects_too_few_faces(fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv)
    with pytest.raises(
        DataError,
        match=r"are too few: one batch of this recipe takes 400; give more faces, or --set optimizer.batch_size=256$",
    ):
        split_dataset(data, 0.1, seed=1, batch_size=400)
    with pytest.raises(DataError, match="no Training rows to train on; it has PublicTest"):
        split_dataset(data.select_usage("PublicTest"), 0.1, seed=1, batch_size=4)


def test_holds_out_some_faces_of_each_class_and_divides_no_group() -> None:
    classes = np.repeat(np.arange(7), 20)
    groups = np.arange(140) // 2
    held_out = hold_out_each_class(groups, classes, random_keys(140, 1), 0.2)
    assert held_out is not None
    assert np.bincount(classes[held_out]).tolist() == [4] * 7
    assert not set(groups[held_out]) & set(groups[~held_out])


def test_large_group_is_held_out_if_no_smaller_one_can_be() -> None:
    classes = np.tile(np.arange(2), 15)
    groups = np.arange(30) // 10
    held_out = hold_out_each_class(groups, classes, random_keys(30, 1), 0.1)
    assert held_out is not None
    assert held_out.sum() == 10
    assert len(set(groups[held_out])) == 1
    assert hold_out_each_class(np.zeros(30, np.int64), classes, random_keys(30, 1), 0.1) is None


def test_own_faces_of_one_group_stay_together_with_their_near_duplicates(fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv)
    faces = data.faces.copy()
    training = np.flatnonzero(data.usages == "Training")
    faces[training[1]] = faces[training[0]]
    groups = np.array([f"day {row % 40}" if row % 3 else "" for row in range(len(data))])
    split = split_own_faces(replace(data, faces=faces), 0.2, 1, groups)
    sides = {str(groups[row]) for row in split.validation} & {str(groups[row]) for row in split.train}
    assert sides <= {""}
    assert (training[0] in split.validation) == (training[1] in split.validation)
    assert set(data.classes[split.validation].tolist()) == set(range(7))
    assert not set(split.duplicates.tolist()) & set(split.validation.tolist())
    with pytest.raises(DataError, match="near-duplicates and groups leave no face of some class to hold out"):
        split_own_faces(data, 0.2, 1, np.full(len(data), "one day"))
