from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.errors import FerEdgeError
from fer_edge_train.augment import augmented
from fer_edge_train.batch_workers import makers
from fer_edge_train.recipe import load_recipe

if TYPE_CHECKING:
    from tests.conftest import Sample

HOW = load_recipe("edge").augmentation


def own_process(source: object) -> int:
    del source
    return os.getpid()


def end(source: object) -> None:
    del source
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_make_the_batches_that_a_thread_makes(sample: Sample) -> None:
    source = (sample.faces, {"logits": np.eye(7, dtype=np.float32)[np.arange(700) % 7]})
    rows = np.arange(0, 700, 11)
    with makers(source, 0) as alone, makers(source, 2) as crew:
        assert alone.make(own_process) == os.getpid()
        assert crew.make(own_process) != os.getpid()
        for step in range(3):
            asked = (augmented, rows, 40, HOW, (1, 0, step))
            (one, targets), (other, same) = alone.make(*asked), crew.make(*asked)
            assert one.shape == (64, 40, 40)
            assert (one == other).all()
            assert (targets["logits"] == same["logits"]).all()


def test_a_process_that_the_system_ends_is_told_in_a_line() -> None:
    with makers(None, 1) as crew, pytest.raises(FerEdgeError, match="ended by the system"):
        crew.make(end)
