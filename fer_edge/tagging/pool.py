"""Work done elsewhere: chunks in, results out in the same order, few of either in memory."""

from __future__ import annotations

import multiprocessing
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fer_edge.utils.worker import init_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD: Final = 3  # chunks for each process: one in work, one next, one whose result waits its turn


def in_processes(
    work: Callable[[list[Item]], list[Result]],
    chunks: Iterable[list[Item]],
    processes: int,
    lost: Callable[[Item], Result],
) -> Generator[tuple[Item, Result], None, None]:
    """Do work over processes.

    When the system ends a process, as it does when memory runs out, what was in work is done again one by one: what
    ends a process again is lost, and nothing else.

    Args:
        work: a function of a module, or a partial of one: some items to their results.
        chunks: the items, some at a time.
        processes: how many at once.
        lost: the result of an item that ends the process that it is alone in.

    Yields:
        Items and results, in the order of the chunks.
    """
    with _processes(processes) as submit, _processes(1) as submit_alone:
        yield from in_order(
            chunks,
            submit=partial(submit, work),
            submit_alone=partial(submit_alone, work),
            is_broken=lambda future: isinstance(future.exception(), BrokenProcessPool),
            ahead=lambda: AHEAD * processes,
            lost=lost,
        )


def in_order(
    chunks: Iterable[list[Item]],
    *,
    submit: Callable[[list[Item]], Future[list[Result]]],
    submit_alone: Callable[[list[Item]], Future[list[Result]]],
    is_broken: Callable[[Future[list[Result]]], bool],
    ahead: Callable[[], int],
    lost: Callable[[Item], Result],
) -> Generator[tuple[Item, Result], None, None]:
    """Do work wherever it is submitted to.

    Args:
        chunks: the items, some at a time.
        submit: gives a chunk away.
        submit_alone: the same with one item, after its chunk ended the process that it was in.
        is_broken: waits for a result, and says whether there is none because the process ended.
        ahead: how many chunks may wait or be in work now.
        lost: the result of an item that ends the process that it is alone in.

    Yields:
        Items and results, in the order of the chunks.
    """
    chunks = iter(chunks)
    waiting: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    while True:
        while len(waiting) < ahead() and (chunk := next(chunks, None)) is not None:
            waiting.append((chunk, submit(chunk)))
        if not waiting:
            return
        chunk, future = waiting.popleft()
        if not is_broken(future):
            yield from zip(chunk, future.result(), strict=True)
            continue
        for item in chunk:
            alone = submit_alone([item])
            yield item, lost(item) if is_broken(alone) else alone.result()[0]


@contextmanager
def _processes(count: int) -> Iterator[Callable[..., Future[Any]]]:
    """What gives work to processes, which are started when they are needed, and again when one was lost."""
    context = multiprocessing.get_context("spawn")  # a fork would have the locks of threads that it has not
    before = set(multiprocessing.active_children())
    pool: ProcessPoolExecutor | None = None

    def submit(work: Callable[..., object], *given: object) -> Future[Any]:
        nonlocal pool
        if pool is not None:
            try:
                return pool.submit(work, *given)
            except BrokenProcessPool:
                pool.shutdown()
        pool = ProcessPoolExecutor(count, context, init_worker)
        return pool.submit(work, *given)

    try:
        yield submit
    finally:
        for child in set(multiprocessing.active_children()) - before:
            child.kill()  # who stops in the middle does not want to wait for the rest
        if pool is not None:
            pool.shutdown(cancel_futures=True)
