"""Batches of scenes are the same whoever makes them."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from fer_edge_train.batch_workers import makers
from fer_edge_train.faces.detector_batches import SceneBatches
from fer_edge_train.faces.detector_recipe import load_faces_recipe
from fer_edge_train.faces.detector_targets import Marked
from fer_edge_train.faces.scenes import Source, Stock

RECIPE = load_faces_recipe(None, ["augmentation.paste=0.5", "optimizer.batch_size=8"])


def stock() -> Stock:
    """Noise with a face in each, and one image of a third without."""
    rng = np.random.default_rng(5)
    nothing = np.empty((0, 4), np.float32)
    box = np.array([[30, 20, 40, 50]], np.float32)
    face = Marked(box, rng.uniform(20, 60, (1, 5, 2)).astype(np.float32), np.ones(1, np.float32), nothing)
    empty = Marked(nothing, np.empty((0, 5, 2), np.float32), np.empty(0, np.float32), nothing)
    grays = rng.integers(0, 256, (18, 90, 120), np.uint8)
    images = [Source(gray, face if i % 3 else empty) for i, gray in enumerate(grays)]
    return Stock(images, np.arange(0, 18, 3), np.arange(18), rng.integers(0, 256, (4, 48, 48), np.uint8))


@pytest.mark.slow
def test_processes_make_the_batches_that_threads_make() -> None:
    source = stock()
    with makers(source, 2) as processes, makers(source, 0) as threads:
        others, own = (SceneBatches(crew, source.drawn, RECIPE, 96, range(3, 5)) for crew in (processes, threads))
        assert len(others) == 2
        for step in range(2):
            for one, other in zip(others[step], own[step], strict=True):
                np.testing.assert_array_equal(one, other)
            images, truth = own[step]
            assert images.shape == (8, 96, 96, 1)
            assert images.min() >= -1
            assert images.max() < 1
            assert truth.shape == (8, 8 if step else 9, 16)  # TensorFlow must see that they differ
        first = own[0][0]
        assert (own.make(4, 0)[0] != first).any()
