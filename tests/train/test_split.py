from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import DataError
from fer_edge_train.split import divide, hold_out, near_duplicates

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from tests.conftest import Sample


def as_jpeg(face: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    image = cv2.imdecode(cv2.imencode(".jpg", face)[1], cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return np.asarray(image, np.uint8)


def test_copies_of_a_face_are_found_and_other_faces_are_not(sample: Sample) -> None:
    faces = sample.faces[:200]
    rng = np.random.default_rng(1)
    noisy = np.clip(faces.astype(float) + rng.normal(0, 2, faces.shape), 0, 255)
    darker = faces * 0.7 + 5
    squeezed = np.stack([as_jpeg(face) for face in faces])
    copies = np.concatenate([faces, noisy, darker, squeezed]).astype(np.uint8)
    group = near_duplicates(copies).reshape(4, 200)
    for copy in group[1:]:
        assert (copy == group[0]).mean() > 0.95
    assert len(np.unique(near_duplicates(faces))) > 190  # a few are in FER-2013 twice


def test_mirrored_and_plain_images_are_not_taken_for_one(sample: Sample) -> None:
    faces = np.concatenate([sample.faces[:50], sample.faces[:50, :, ::-1]])
    group = near_duplicates(faces)
    assert (group[:50] == group[50:]).mean() < 0.1
    plain = np.stack([np.full((48, 48), 10, np.uint8), np.full((48, 48), 200, np.uint8)])
    assert len(np.unique(near_duplicates(plain))) == 2


def test_held_out_part_is_of_the_size_asked_for_and_splits_no_group() -> None:
    groups = np.repeat(np.arange(400), 3)
    lots = drawn(len(groups), 3)
    kept, held = hold_out(groups, lots, 0.1)
    assert sorted([*kept, *held]) == list(range(1200))
    assert 100 <= len(held) <= 120
    assert not set(groups[kept]) & set(groups[held])
    assert (hold_out(groups, lots, 0.1)[1] == held).all()
    assert hold_out(groups, drawn(len(groups), 4), 0.1)[1].tolist() != held.tolist()


def test_large_groups_do_not_starve_the_held_out_part() -> None:
    groups = np.concatenate([np.repeat(np.arange(5), 400), np.arange(5, 2005)])
    for seed in range(5):
        assert len(hold_out(groups, drawn(len(groups), seed), 0.05)[1]) == 200
    assert len(hold_out(np.repeat(np.arange(10), 100), drawn(1000, 1), 0.05)[1]) == 100


def drawn(count: int, seed: int) -> npt.NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)


def test_data_with_other_labels_holds_out_the_same_faces(fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv)
    fewer = data.select(np.arange(len(data)) % 10 > 0)
    one, other, third = (
        {each.faces[row].tobytes() for row in divide(each, 0.1, seed, smallest=32).held}
        for each, seed in ((data, 1), (fewer, 1), (data, 2))
    )
    assert len(one & other) > 0.8 * len(other)
    assert len(one & third) < 0.3 * len(one)


def test_a_plain_image_does_not_hide_that_others_of_its_hash_are_alike() -> None:
    slope = np.broadcast_to(np.arange(240, 0, -5, dtype=np.uint8), (48, 48))
    group = near_duplicates(np.stack([np.zeros((48, 48), np.uint8), slope, slope]))
    assert group[1] == group[2] != group[0]


def test_a_thousand_copies_of_a_face_are_one_group(sample: Sample) -> None:
    assert len(np.unique(near_duplicates(np.repeat(sample.faces[:2], 1000, axis=0)))) == 2


def test_faces_on_both_sides_are_counted(fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv)
    parts = divide(data, 0.1, seed=1, smallest=32)
    assert not set(parts.repeated) & set(parts.held)
    faces = data.faces.copy()
    # The first ten tested faces become copies of faces that are learnt from.
    faces[parts.tested[:10]] = faces[parts.kept[:10]]
    after = divide(replace(data, faces=faces), 0.1, seed=1, smallest=32)
    assert set(after.repeated) == {*parts.repeated, *parts.tested[:10]}


def test_a_validation_part_of_the_datasets_own_is_used(fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv)
    usages = data.usages.astype("U12")
    usages[350:400] = "validation"
    parts = divide(replace(data, usages=usages), 0.1, seed=1, smallest=32)
    assert parts.held.tolist() == list(range(350, 400))
    assert len(parts.kept) == 350
    assert len(parts.tested) == 300


def test_too_few_faces_are_refused(fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv)
    with pytest.raises(DataError, match="are too few: one batch of this recipe takes 400"):
        divide(data, 0.1, seed=1, smallest=400)
    with pytest.raises(DataError, match="no Training rows to train on; it has PublicTest"):
        divide(data.select_usage("PublicTest"), 0.1, seed=1, smallest=4)
