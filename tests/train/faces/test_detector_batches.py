"""Test that threads and processes make the same batches of scenes."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from fer_edge_train.batch_workers import batch_workers
from fer_edge_train.faces.detector_batches import SceneBatches
from fer_edge_train.faces.detector_targets import Annotations
from fer_edge_train.faces.scene_sources import AnnotatedImage, SceneSources
from fer_edge_train.recipe_files import load_detector_recipe

RECIPE = load_detector_recipe("faces", ["augmentation.paste=0.5", "optimizer.batch_size=8"])


def make_sources() -> SceneSources:
    """Make images of noise; two thirds of them have a face."""
    rng = np.random.default_rng(5)
    no_boxes = np.empty((0, 4), np.float32)
    box = np.array([[30, 20, 40, 50]], np.float32)
    face = Annotations(box, rng.uniform(20, 60, (1, 5, 2)).astype(np.float32), np.ones(1, np.float32), no_boxes)
    empty = Annotations(no_boxes, np.empty((0, 5, 2), np.float32), np.empty(0, np.float32), no_boxes)
    grays = rng.integers(0, 256, (18, 90, 120), np.uint8)
    images = [AnnotatedImage(gray, face if i % 3 else empty) for i, gray in enumerate(grays)]
    return SceneSources(images, np.arange(0, 18, 3), np.arange(18), rng.integers(0, 256, (4, 48, 48), np.uint8))


@pytest.mark.slow
def test_processes_make_same_batches_as_threads() -> None:
    sources = make_sources()
    with batch_workers(sources, 2) as processes, batch_workers(sources, 0) as threads:
        process_batches, thread_batches = (
            SceneBatches(workers, sources.drawn, RECIPE, 96, range(3, 5)) for workers in (processes, threads)
        )
        assert len(process_batches) == 2
        for step in range(2):
            for process_values, thread_values in zip(process_batches[step], thread_batches[step], strict=True):
                np.testing.assert_array_equal(process_values, thread_values)
            images, truth = thread_batches[step]
            assert images.shape == (8, 96, 96, 1)
            assert images.min() >= -1
            assert images.max() < 1
            assert truth.shape == (8, 8 if step else 9, 16)  # TensorFlow must see different shapes
        first = thread_batches[0][0]
        assert (thread_batches.make(4, 0)[0] != first).any()
