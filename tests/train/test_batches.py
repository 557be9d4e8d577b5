"""Test that each epoch of training gets its own batches on every backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

EPOCHS = range(2, 5)
STEPS = 9

# One process for both runs of a backend, because it takes longer to start than to train. The network outputs 0 and
# learns nothing, so the loss of a batch is its number. Keras reports means over the epoch.
_CODE = """
import json, sys, time
import keras, numpy as np
from fer_edge.errors import FerEdgeError
from fer_edge_train.prefetch import PrefetchedBatches
from fer_edge_train.batch_workers import batch_workers

first, last, steps = map(int, sys.argv[1:])

class Numbers(PrefetchedBatches):
    broken = None
    def make(self, epoch, step):
        if epoch == self.broken:
            raise FerEdgeError("no more of these")
        time.sleep(0.002 * ((epoch * step) % 3))
        return np.zeros((1, 1), np.float32), np.full((1, 1), 100 * epoch + step, np.float32)

class Losses(keras.callbacks.Callback):
    found = []
    def on_epoch_begin(self, epoch, logs=None):
        self.found.append([])
    def on_train_batch_end(self, batch, logs):
        self.found[-1].append(float(logs["loss"]))

model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
model.compile(keras.optimizers.SGD(0.0), "mae")
with batch_workers(None, 0) as workers:
    for start, stop in ((first, last - 1), (last - 1, last)):
        Numbers(workers, steps, range(start, stop)).fit(model, [Losses()])
    print(json.dumps(Losses.found), flush=True)
    Numbers.broken = first + 1
    try:
        Numbers(workers, steps, range(first, last)).fit(model, [])
    except FerEdgeError as error:
        sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_epoch_gets_its_own_batches_in_order_and_reports_a_failed_one(backend: str) -> None:
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    result = subprocess.run(
        [sys.executable, "-c", _CODE, *map(str, (EPOCHS.start, EPOCHS.stop, STEPS))],
        capture_output=True, text=True, check=False, env={**os.environ, "KERAS_BACKEND": backend},
    )  # fmt: skip
    assert result.stdout, result.stderr
    for epoch, means in zip(EPOCHS, json.loads(result.stdout.splitlines()[-1]), strict=True):
        sums = [mean * (i + 1) for i, mean in enumerate(means)]
        numbers = [after - before for before, after in zip([0, *sums], sums, strict=False)]
        assert numbers == pytest.approx([100 * epoch + step for step in range(STEPS)], abs=0.1)
    assert result.returncode == 1
    assert "FerEdgeError: no more of these" in result.stderr.splitlines()  # TensorFlow logs lines of its own
