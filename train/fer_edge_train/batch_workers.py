"""Batches made by processes of their own, where a machine has the cores for it.

A GPU learns from a batch in milliseconds, which is less than Python needs to make one: threads, which share one
interpreter, would keep it waiting.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import tempfile
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import cv2

from fer_edge.datasets.face_store import no_space_error
from fer_edge.errors import FerEdgeError
from fer_edge.utils.worker import init_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Batch = TypeVar("Batch")

_MOST: Final = 8
_FEWEST_CORES: Final = 4  # with fewer, training itself wants them all
_ALIGNMENT: Final = 64


def makers_here() -> int:
    """How many processes should make batches on this machine; 0 leaves it to threads of this one."""
    cores = len(os.sched_getaffinity(0))
    return 0 if cores < _FEWEST_CORES else min(cores // 2, _MOST)


@dataclass(frozen=True, slots=True)
class Makers:
    """What makes batches of what it was given once.

    Attributes:
        ahead: how many batches to ask for before they are needed.
    """

    ahead: int
    _source: Any
    _threads: ThreadPoolExecutor
    _pool: ProcessPoolExecutor | None

    def soon(self, what: Callable[..., Batch], *asked: object) -> Future[Batch]:
        """Call ``what`` in a thread, in which it can `make` what it needs."""
        return self._threads.submit(what, *asked)

    def make(self, how: Callable[..., Batch], *asked: object) -> Batch:
        """Call a function of a module with what all batches are made of, and with what is ``asked`` of this one.

        Raises:
            FerEdgeError: the system ended a process, as it does when memory runs out.
        """
        if self._pool is None:
            return how(self._source, *asked)
        try:
            return self._pool.submit(_make, how, asked).result()
        except BrokenProcessPool as error:
            raise FerEdgeError(
                "a process that makes batches was ended by the system, mostly for want of memory;"
                " go on with --resume, with less beside it"
            ) from error


@contextmanager
def makers(source: object, processes: int) -> Iterator[Makers]:
    """Start what makes batches, and end it.

    Args:
        source: what all batches are made of; the arrays in it are shared, not copied for each process.
        processes: how many; 0 makes batches in the thread that asks.

    Raises:
        InputError: there is no place for the arrays.
    """
    if not processes:
        with _threads(2) as threads:
            yield Makers(4, source, threads, None)
        return
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(source, protocol=5, buffer_callback=buffers.append)
    spans = []
    # Without a name, it is gone with this process, however that ends.
    with tempfile.TemporaryFile() as file:
        try:
            for buffer in buffers:
                raw = buffer.raw()
                spans.append((file.tell(), raw.nbytes))
                file.write(raw)
                file.seek(-file.tell() % _ALIGNMENT, os.SEEK_CUR)
            file.truncate(max(file.tell(), 1))
            file.flush()
        except OSError as error:
            raise no_space_error(error) from error
        shared = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        context = multiprocessing.get_context("spawn")  # a fork would have the locks of threads that it has not
        with (
            ProcessPoolExecutor(processes, context, _begin, (shared, pickled, spans)) as pool,
            _threads(2 * processes) as threads,
        ):
            yield Makers(4 * processes, source, threads, pool)


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that at the end leave undone what they have not begun."""
    threads = ThreadPoolExecutor(count)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


_source: Any = None


def _begin(shared: Path, pickled: bytes, spans: list[tuple[int, int]]) -> None:
    """Have the source in a process that makes batches."""
    global _source  # noqa: PLW0603 - a process of the pool has no other place for it
    init_worker()
    cv2.setNumThreads(1)
    with shared.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    _source = pickle.loads(pickled, buffers=[mapped[at : at + size] for at, size in spans])  # noqa: S301 - our own


def _make(how: Callable[..., Batch], asked: tuple[object, ...]) -> Batch:
    return how(_source, *asked)
