from __future__ import annotations

import resource
import threading

import numpy as np
import pytest

from fer_edge.utils import address_space
from fer_edge.utils.address_space import bounded_address_space


@pytest.fixture
def _own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_space._Process, "is_ours", True)


def _allocate(size: int) -> int:
    return np.empty(size, np.uint8).nbytes


@pytest.mark.usefixtures("_own")
def test_allocations_fail_within_the_block_alone() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with bounded_address_space(100 << 20):
        assert _allocate(50 << 20)
        with pytest.raises(MemoryError):
            _allocate(200 << 20)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert _allocate(200 << 20)


@pytest.mark.usefixtures("_own")
def test_threads_may_have_their_addresses() -> None:
    with bounded_address_space(100 << 20, threads=4):
        assert _allocate(200 << 20)


def test_threads_of_other_programs_are_left_alone() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with bounded_address_space(1 << 20):
            assert _allocate(200 << 20)
    finally:
        done.set()
        thread.join()
