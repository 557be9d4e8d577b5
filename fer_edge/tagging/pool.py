"""Work in other processes: results come in the order of the chunks, and few of either are in memory."""

from __future__ import annotations

import multiprocessing
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fer_edge.utils.signals import defer_signals
from fer_edge.utils.worker import init_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNKS_PER_PROCESS: Final = 3  # one in work, one queued, one whose result waits for its turn


def map_in_processes(
    work: Callable[[list[Item]], list[Result]],
    chunks: Iterable[list[Item]],
    processes: int,
    on_crash: Callable[[Item], Result],
) -> Generator[tuple[Item, Result], None, None]:
    """Process chunks of items in several processes.

    If the system kills a process, as it does when memory runs out, the items of its chunk are tried again one by one.
    Only an item that crashes a process again is lost.

    Args:
        work: A function of a module, or a partial of one; it maps items to their results.
        chunks: The items.
        processes: Number of processes.
        on_crash: Makes the result of an item that crashes a process of its own.

    Yields:
        Items and results, in the order of the chunks.
    """
    with _process_pool(processes) as submit, _process_pool(1) as submit_alone:
        yield from map_in_order(
            chunks,
            submit=partial(submit, work),
            submit_alone=partial(submit_alone, work),
            has_crashed=lambda future: isinstance(future.exception(), BrokenProcessPool),
            max_pending=lambda: CHUNKS_PER_PROCESS * processes,
            on_crash=on_crash,
        )


def map_in_order(
    chunks: Iterable[list[Item]],
    *,
    submit: Callable[[list[Item]], Future[list[Result]]],
    submit_alone: Callable[[list[Item]], Future[list[Result]]],
    has_crashed: Callable[[Future[list[Result]]], bool],
    max_pending: Callable[[], int],
    on_crash: Callable[[Item], Result],
) -> Generator[tuple[Item, Result], None, None]:
    """Process chunks of items wherever they are submitted to.

    Args:
        chunks: The items.
        submit: Submits a chunk.
        submit_alone: Submits a single item whose chunk crashed its process.
        has_crashed: Waits for a future; tells whether its process crashed.
        max_pending: Gives the number of chunks that may be queued or in work now.
        on_crash: Makes the result of an item that crashes a process of its own.

    Yields:
        Items and results, in the order of the chunks.
    """
    chunks = iter(chunks)
    pending: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    while True:
        while len(pending) < max_pending() and (chunk := next(chunks, None)) is not None:
            pending.append((chunk, submit(chunk)))
        if not pending:
            return
        chunk, future = pending.popleft()
        if not has_crashed(future):
            yield from zip(chunk, future.result(), strict=True)
            continue
        for item in chunk:
            alone = submit_alone([item])
            yield item, on_crash(item) if has_crashed(alone) else alone.result()[0]


@contextmanager
def _process_pool(count: int) -> Iterator[Callable[..., Future[Any]]]:
    """Yield a function that submits work; it starts the processes when needed, and again after a crash."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit locks of threads that it does not have
    before = set(multiprocessing.active_children())
    pool: ProcessPoolExecutor | None = None

    def submit(work: Callable[..., object], *args: object) -> Future[Any]:
        nonlocal pool
        if pool is not None:
            try:
                return pool.submit(work, *args)
            except BrokenProcessPool:
                pool.shutdown()
        with defer_signals():  # a pool that is interrupted while it starts cannot be shut down
            pool = ProcessPoolExecutor(count, context, init_worker)
            return pool.submit(work, *args)

    try:
        yield submit
    finally:
        for child in set(multiprocessing.active_children()) - before:
            child.kill()  # after an interruption, the rest is not waited for
        if pool is not None:
            pool.shutdown(cancel_futures=True)
