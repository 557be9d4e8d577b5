from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.errors import FerEdgeError
from fer_edge_train.batch_workers import batch_workers
from fer_edge_train.make_batch import BatchSource, make_batch
from fer_edge_train.recipe_files import load_recipe

if TYPE_CHECKING:
    from tests.conftest import Sample

RECIPE = load_recipe("edge")


def own_process(source: object) -> int:
    del source
    return os.getpid()


def kill_process(source: object) -> None:
    del source
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_make_same_batches_as_threads(sample: Sample) -> None:
    source = BatchSource(sample.faces, {"logits": np.eye(7, dtype=np.float32)[np.arange(700) % 7]})
    rows = np.arange(0, 700, 11)
    with batch_workers(source, 0) as threads, batch_workers(source, 2) as workers:
        assert threads.run(own_process) == os.getpid()
        assert workers.run(own_process) != os.getpid()
        for step in range(3):
            args = (make_batch, rows, 40, RECIPE, (0, step))
            (images, targets), (process_images, process_targets) = threads.run(*args), workers.run(*args)
            assert images.shape == (64, 40, 40)
            assert (images == process_images).all()
            assert (targets["logits"] == process_targets["logits"]).all()


def test_reports_process_ended_by_system() -> None:
    with batch_workers(None, 1) as workers, pytest.raises(FerEdgeError, match="ended by the system"):
        workers.run(kill_process)
