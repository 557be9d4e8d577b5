"""Measure how much time PyTorch's own kernels save in training, compared with Keras's operations.

    KERAS_BACKEND=torch python benchmarks/train_kernels.py [--steps 10]

Measures training steps of the networks of the shipped classifier and detector on random images. Both ways alternate in
one process. Prints milliseconds per image and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import keras
import msgspec
import numpy as np

from fer_edge_train.faces import detector_network as detector
from fer_edge_train.faces.detector_loss import DetectorLoss
from fer_edge_train.faces.detector_targets import Annotations, pack
from fer_edge_train.hardware import fast_precision
from fer_edge_train.recipe_files import load_detector_recipe, load_recipe
from fer_edge_train.torch_kernels import native_kernels

if TYPE_CHECKING:
    import numpy.typing as npt

Step = tuple[keras.Model, "npt.NDArray[np.float32]", Any]


def classifier() -> Step:
    """Make the network of ``edge`` and a batch of its size."""
    recipe = load_recipe("edge")
    count = recipe.optimizer.batch_size
    model = recipe.network.build(7, 48)
    model.compile(keras.optimizers.AdamW(1e-3), keras.losses.CategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(1)
    faces = rng.uniform(-1, 1, (count, 48, 48, 1)).astype(np.float32)
    return model, faces, np.eye(7, dtype=np.float32)[rng.integers(0, 7, count)]


def faces() -> Step:
    """Make the detector's network and a batch of its size, with three faces in each image."""
    recipe = load_detector_recipe()
    count, side = recipe.optimizer.batch_size, round(recipe.schedule.sizes[0][1])
    model = detector.build_detector(recipe.network)
    model.compile(keras.optimizers.AdamW(1e-3), DetectorLoss(side, **msgspec.to_builtins(recipe.loss)))
    rng = np.random.default_rng(1)
    images = rng.uniform(-1, 1, (count, side, side, 1)).astype(np.float32)
    boxes = np.array([[10, 10, 30, 36], [90, 90, 20, 25], [100, 10, 90, 120]], np.float32)
    points = boxes[:, None, :2] + boxes[:, None, 2:] * rng.random((1, 5, 2)).astype(np.float32)
    annotations = Annotations(boxes, points, np.ones(3, np.float32), np.empty((0, 4), np.float32))
    return model, images, pack([annotations] * count)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    keras.config.set_dtype_policy(fast_precision())
    print(f"{keras.backend.backend()}, medians of {options.steps} steps")
    for make in (classifier, faces):
        model, images, truth = make()
        taken: dict[str, list[float]] = {"Keras": [], "native": []}
        for _ in range(options.steps + 2):
            for name, kernels in (("Keras", nullcontext), ("native", native_kernels)):
                began = time.perf_counter()
                with kernels():
                    model.train_on_batch(images, truth)
                taken[name].append((time.perf_counter() - began) / len(images) * 1e3)
        plain, native = (statistics.median(times[2:]) for times in taken.values())
        print(f"{make.__name__}: Keras {plain:.2f} ms per image, native {native:.2f}, ratio {native / plain:.2f}")


if __name__ == "__main__":
    main()
