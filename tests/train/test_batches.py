"""Each epoch of training sees its own batches, whatever Keras does besides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

EPOCHS = range(2, 5)
STEPS = 9

# With a network that answers 0 and learns nothing, the loss of a batch is its number; Keras tells means over the epoch.
_CODE = """
import json, sys, time
import keras, numpy as np
from fer_edge.errors import FerEdgeError
from fer_edge_train.batches import BatchesAhead
from fer_edge_train.batch_workers import makers

first, last, steps, broken = map(int, sys.argv[1:])

class Numbers(BatchesAhead):
    def make(self, epoch, step):
        if epoch == broken:
            raise FerEdgeError("no more of these")
        time.sleep(0.002 * ((epoch * step) % 3))
        return np.zeros((1, 1), np.float32), np.full((1, 1), 100 * epoch + step, np.float32)

class Seen(keras.callbacks.Callback):
    found = []
    def on_epoch_begin(self, epoch, logs=None):
        self.found.append([])
    def on_train_batch_end(self, batch, logs):
        self.found[-1].append(float(logs["loss"]))

model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
model.compile(keras.optimizers.SGD(0.0), "mae")
with makers(None, 0) as crew:
    for start, stop in ((first, last - 1), (last - 1, last)):
        batches = Numbers(crew, steps, range(start, stop))
        try:
            batches.teach(model, [Seen()])
        except FerEdgeError as error:
            sys.exit(f"{type(error).__name__}: {error}")
print(json.dumps(Seen.found))
"""


def learnt(backend: str, broken: int) -> subprocess.CompletedProcess[str]:
    """What learning from such batches gave, where those of an epoch cannot be made."""
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    return subprocess.run(
        [sys.executable, "-c", _CODE, *map(str, (EPOCHS.start, EPOCHS.stop, STEPS, broken))],
        capture_output=True, text=True, check=False, env={**os.environ, "KERAS_BACKEND": backend},
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_an_epoch_learns_from_its_own_batches_in_order(backend: str) -> None:
    done = learnt(backend, EPOCHS.stop)
    assert done.returncode == 0, done.stderr
    for epoch, means in zip(EPOCHS, json.loads(done.stdout.splitlines()[-1]), strict=True):
        sums = [mean * (i + 1) for i, mean in enumerate(means)]
        numbers = [after - before for before, after in zip([0, *sums], sums, strict=False)]
        assert numbers == pytest.approx([100 * epoch + step for step in range(STEPS)], abs=0.1)


@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_why_a_batch_could_not_be_made_is_told_on_every_backend(backend: str) -> None:
    done = learnt(backend, EPOCHS.start + 1)
    assert done.returncode == 1
    assert "FerEdgeError: no more of these" in done.stderr.splitlines()  # beside what TensorFlow logs itself
