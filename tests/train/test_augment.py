from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge_train.augment import augment, cutmix, mixup
from fer_edge_train.recipe import Augmentation
from fer_edge_train.recipe_files import load_recipe

if TYPE_CHECKING:
    from tests.conftest import Sample

EVERYTHING = load_recipe("edge").augmentation


def test_no_augmentation_keeps_faces_and_flip_mirrors_them(sample: Sample) -> None:
    faces = sample.faces[:20]
    rng = np.random.default_rng(1)
    assert (augment(faces, 48, Augmentation(), rng) == faces).all()
    assert (augment(faces, 48, Augmentation(flip=1.0), rng) == faces[:, :, ::-1]).all()


def test_batch_depends_on_generator_only(sample: Sample) -> None:
    faces = sample.faces[:20]
    first, same, other = (augment(faces, 32, EVERYTHING, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (20, 32, 32)
    assert (first == same).all()
    assert (first != other).mean() > 0.5


def test_identity_probability_keeps_faces_unwarped(sample: Sample) -> None:
    faces = sample.faces[:200]
    augmentation = Augmentation(
        flip=0.5, rotate_degrees=15, zoom=0.1, stretch=0.1, shear=0.1, shift=0.1, identity_probability=0.4
    )
    augmented = augment(faces, 48, augmentation, np.random.default_rng(1))
    unchanged, flipped = (augmented == faces).all(axis=(1, 2)), (augmented == faces[:, :, ::-1]).all(axis=(1, 2))
    assert 20 < unchanged.sum() < 60
    assert 20 < flipped.sum() < 60


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_blends_images_and_targets_by_same_share(name: str) -> None:
    count = 64
    level = np.arange(count, dtype=np.float32)
    faces = np.broadcast_to(4 * level.astype(np.uint8)[:, None, None], (count, 48, 48)).copy()
    targets = {"a": np.eye(count, dtype=np.float32), "b": level[:, None]}
    mix = {"mixup": mixup, "cutmix": cutmix}[name]
    mixed, blended = mix(faces, targets, 1.0, np.random.default_rng(1))
    assert mixed.dtype == np.uint8
    assert (mixed != faces).any()
    assert blended["a"].sum(axis=1) == pytest.approx(1, abs=1e-5)
    # The mean of an image of two grey levels shows the share of each, except for rounding.
    assert mixed.mean(axis=(1, 2)) / 4 == pytest.approx(blended["b"][:, 0], abs=0.13)
    assert blended["a"] @ level == pytest.approx(blended["b"][:, 0], abs=1e-4)
    unchanged, unchanged_targets = mixup(faces, targets, 0.0, np.random.default_rng(1))
    assert (unchanged == faces).all()
    assert (unchanged_targets["a"] == targets["a"]).all()
