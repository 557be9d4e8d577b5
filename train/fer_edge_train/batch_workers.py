"""Making batches in processes of their own, on machines with enough processor cores.

A GPU trains on a batch in milliseconds, which is less time than Python needs to make one. Threads share one
interpreter and would keep the GPU waiting.
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

_MAX_PROCESSES: Final = 8
_MIN_CORES: Final = 4  # with fewer cores, training itself needs all of them
_ALIGNMENT: Final = 64


def worker_count() -> int:
    """Return how many processes should make batches on this machine. 0 means threads of this process."""
    cores = len(os.sched_getaffinity(0))
    return 0 if cores < _MIN_CORES else min(cores // 2, _MAX_PROCESSES)


@dataclass(frozen=True, slots=True)
class BatchWorkers:
    """Threads and, with enough cores, processes that make batches from one source.

    Attributes:
        prefetch: how many batches to request before they are needed.
    """

    prefetch: int
    _source: Any
    _threads: ThreadPoolExecutor
    _pool: ProcessPoolExecutor | None

    def submit(self, function: Callable[..., Batch], *args: object) -> Future[Batch]:
        """Call a function in a thread, which may use `run`."""
        return self._threads.submit(function, *args)

    def run(self, function: Callable[..., Batch], *args: object) -> Batch:
        """Call a module's function with the source and ``args``, in a process if there is one, and return its result.

        Raises:
            FerEdgeError: the system ended a process, as it does when memory runs out.
        """
        if self._pool is None:
            return function(self._source, *args)
        try:
            return self._pool.submit(_call, function, args).result()
        except BrokenProcessPool as error:
            raise FerEdgeError(
                "a process that makes batches was ended by the system, most likely because memory ran out;"
                " stop other programs and continue with --resume"
            ) from error


@contextmanager
def batch_workers(source: object, processes: int) -> Iterator[BatchWorkers]:
    """Start workers, and end them when the context is left.

    Args:
        source: what batches are made from. Processes share its arrays instead of copying them.
        processes: number of processes; 0 makes each batch in the thread that asks for it.

    Raises:
        InputError: there is no space for the arrays.
    """
    if not processes:
        with _thread_pool(2) as threads:
            yield BatchWorkers(4, source, threads, None)
        return
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(source, protocol=5, buffer_callback=buffers.append)
    spans = []
    # A file without a name disappears with this process, however that ends.
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
        context = multiprocessing.get_context("spawn")  # a fork would inherit locks of threads that it does not have
        with (
            ProcessPoolExecutor(processes, context, _init_process, (shared, pickled, spans)) as pool,
            _thread_pool(2 * processes) as threads,
        ):
            yield BatchWorkers(4 * processes, source, threads, pool)


@contextmanager
def _thread_pool(count: int) -> Iterator[ThreadPoolExecutor]:
    """Start threads. At the end, cancel the calls that have not begun."""
    threads = ThreadPoolExecutor(count)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


_source: Any = None


def _init_process(shared: Path, pickled: bytes, spans: list[tuple[int, int]]) -> None:
    """Load the source in a new process."""
    global _source  # noqa: PLW0603 - a process of the pool has no other place for it
    init_worker()
    cv2.setNumThreads(1)
    with shared.open("rb") as file:
        memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    buffers = [memory[start : start + size] for start, size in spans]
    _source = pickle.loads(pickled, buffers=buffers)  # noqa: S301 - this program wrote it


def _call(function: Callable[..., Batch], args: tuple[object, ...]) -> Batch:
    return function(_source, *args)
