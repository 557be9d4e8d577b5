"""Measure whether training waits for augmentation.

    KERAS_BACKEND=tensorflow python benchmarks/augmentation.py [--recipe edge] [--size 48]

Prints the time to augment a batch, the time of a training step on it, and their ratio. Both are measured alternately
in one process. In training, threads make the batches while steps run.
"""

from __future__ import annotations

import argparse
import statistics
import time

import keras
import numpy as np

from fer_edge.modelcard.schema import InputSpec
from fer_edge_train.architectures.base import HEAD
from fer_edge_train.batch_workers import batch_workers
from fer_edge_train.batches import AugmentedBatches, FaceSource
from fer_edge_train.hardware import fast_precision
from fer_edge_train.recipe_files import load_recipe

FACES = 4096
STEPS = 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="edge")
    parser.add_argument("--size", type=int, default=48)
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    rng = np.random.default_rng(1)
    faces = rng.integers(0, 256, (FACES, 48, 48), dtype=np.uint8)
    targets = {HEAD: np.eye(7, dtype=np.float32)[rng.integers(0, 7, FACES)]}
    spec = InputSpec(height=48, width=48, scale=1 / 128, offset=-1.0)
    source = FaceSource(faces, targets, np.arange(FACES), spec)
    keras.config.set_dtype_policy(fast_precision())
    model = recipe.network.build(7, options.size)
    model.compile(keras.optimizers.AdamW(1e-3), keras.losses.CategoricalCrossentropy(from_logits=True))
    make_times, step_times = [], []
    with batch_workers(source.arrays, 0) as workers:
        batches = AugmentedBatches(source, workers, recipe, options.size, range(STEPS))
        for step in range(STEPS):
            began = time.perf_counter()
            batch = batches.make(*divmod(step, len(batches)))
            made = time.perf_counter()
            model.train_on_batch(*batch)
            make_times.append(made - began)
            step_times.append(time.perf_counter() - made)
    making, training = (1e3 * statistics.median(times[3:]) for times in (make_times, step_times))
    print(
        f"{options.recipe} on {keras.backend.backend()}, batches of {recipe.optimizer.batch_size} at {options.size}:",
        end="",
    )
    print(f" augmentation {making:.1f} ms, step {training:.1f} ms, ratio {making / training:.3f}")


if __name__ == "__main__":
    main()
