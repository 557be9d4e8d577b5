"""Test that whatever one item does in a worker process costs that item alone."""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from functools import partial
from multiprocessing import Process, active_children
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from fer_edge.errors import FerEdgeError, InputError, MissingExtraError
from fer_edge.tagging.input.source import Source
from fer_edge.tagging.pool import ProcessPool, map_in_order, map_in_processes
from fer_edge.utils.worker import report_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CRASH, SEGFAULT, HANG, LEAK, FAIL, SLOW, BREAK, EXTRA = range(100, 108)


def raise_error(error: Exception) -> NoReturn:
    raise error


def work_slowly() -> None:
    for _ in range(35):
        threading.Event().wait(0.1)
        report_progress()


DEEDS: dict[int, Callable[[], object]] = {
    CRASH: lambda: os.kill(os.getpid(), signal.SIGKILL),
    SEGFAULT: lambda: os.kill(os.getpid(), signal.SIGSEGV),
    HANG: lambda: threading.Event().wait(),
    LEAK: lambda: raise_error(MemoryError()),
    FAIL: lambda: raise_error(LookupError("odd\nlines")),
    SLOW: work_slowly,
    BREAK: lambda: raise_error(InputError("the model is broken")),
    EXTRA: lambda: raise_error(MissingExtraError("Pillow", "tag")),
}


def work(items: list[int]) -> Iterator[int]:
    """Double numbers; some of them do what damaged files make decoders do."""
    for item in items:
        if item in DEEDS:
            DEEDS[item]()
        yield item * 2


def results_of(*chunks: list[int], processes: int = 2) -> list[tuple[int, int | str]]:
    return list(map_in_processes(work, chunks, processes, lambda _, reason: reason, patience_s=2))


def test_results_come_in_order() -> None:
    chunks = [[number, number + 1] for number in range(0, 40, 2)]
    assert results_of(*chunks) == [(number, number * 2) for number in range(40)]
    assert results_of() == []


def test_bytes_in_flight_are_bounded() -> None:
    def most_waiting(size: int) -> int:
        read = done = most = 0

        def chunks() -> Iterator[list[int]]:
            nonlocal read, most
            for number in range(20):
                read += 1
                most = max(most, read - done)
                yield [number]

        def submit(chunk: list[int]) -> Future[list[int]]:
            future: Future[list[int]] = Future()
            future.set_result(chunk)
            return future

        results = map_in_order(
            chunks(),
            submit=submit,
            results=lambda _, future: future.result(),
            max_pending=lambda: 6,
            size=lambda _: size,
            max_bytes=lambda: 100,
        )
        for item, result in results:
            assert item == result == done
            done += 1
        assert done == 20
        return most

    assert (most_waiting(1), most_waiting(60), most_waiting(500)) == (6, 2, 1)


def test_images_travel_without_copies() -> None:
    source = Source("a/b.png", "a.zip", "member", "1-2", data=b"image" * 1000, member_position=3)
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps([source], 5, buffer_callback=buffers.append)
    assert len(head) < len(source.data)
    (copy,) = pickle.loads(head, buffers=[source.data])  # noqa: S301 - our own
    assert copy == source
    assert copy.data is source.data
    for protocol in (2, 4, 5):
        assert pickle.loads(pickle.dumps(source, protocol)) == source  # noqa: S301 - likewise
    assert list(map_in_processes(_first_bytes, [[source]], 1, lambda _, reason: reason)) == [(source, b"image")]


def _first_bytes(sources: list[Source]) -> Iterator[bytes | str]:
    for source in sources:
        yield source.data[:5]


def test_item_that_crashes_hangs_or_raises_fails_alone() -> None:
    chunks = [[1, CRASH, 2], [HANG, 3], [4, LEAK, FAIL, 5], [6, SEGFAULT], [7, SLOW, 8]]
    assert results_of(*chunks) == [
        (1, 2),
        (CRASH, "crashed the process that worked on it (SIGKILL; is there too little memory?)"),
        (2, 4),
        (HANG, "no progress within 2 s; left out"),
        (3, 6),
        (4, 8),
        (LEAK, "cannot be processed (MemoryError: MemoryError)"),
        (FAIL, "cannot be processed (LookupError: odd)"),
        (5, 10),
        (6, 12),
        (SEGFAULT, "crashed the process that worked on it (SIGSEGV)"),
        (7, 14),
        (SLOW, SLOW * 2),
        (8, 16),
    ]


@pytest.mark.parametrize(
    ("item", "message"), [(BREAK, "the model is broken"), (EXTRA, r"this needs Pillow, .* install .*pillow")]
)
def test_error_of_all_items_ends_the_run(item: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        results_of([1, item], [2])


def wait_for_kills(folder: Path, number: int, seconds: int) -> None:
    for _ in range(10 * seconds):
        if (folder / "kills").read_text().count("\n") >= number:
            return
        report_progress()
        threading.Event().wait(0.1)


def take_all_memory(folder: Path, items: list[str]) -> Iterator[str]:
    """Be killed if another process works as well, as by a kernel whose memory is enough for one of them."""
    for item in items:
        with (folder / "memory").open("w") as memory:
            try:
                fcntl.flock(memory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with (folder / "kills").open("a") as kills:
                    kills.write(f"{item}\n")
                os.kill(os.getpid(), signal.SIGKILL)
            if not (folder / "is_tried").exists():
                # Until another process was killed, and then was killed again or is clearly not tried meanwhile.
                wait_for_kills(folder, 1, seconds=60)
                wait_for_kills(folder, 2, seconds=2)
            (folder / "is_tried").touch()
        yield item.upper()


def test_item_is_tried_alone_if_memory_is_enough_for_one_process(tmp_path: Path) -> None:
    (tmp_path / "kills").touch()
    items = [f"item {number}" for number in range(12)]
    work_on_them = partial(take_all_memory, tmp_path)
    results = list(map_in_processes(work_on_them, [[item] for item in items], 3, lambda _, reason: reason))
    assert results == [(item, item.upper()) for item in items]
    # Each kill ends a process for good, down to one.
    assert 1 <= (tmp_path / "kills").read_text().count("\n") <= 2


def oom_scores(items: list[int]) -> list[int]:
    return [int(Path("/proc/self/oom_score_adj").read_text()) for _ in items]


def test_kernel_kills_workers_before_their_parent() -> None:
    ((_, of_worker),) = map_in_processes(oom_scores, [[1]], 1, lambda _, reason: reason)
    assert isinstance(of_worker, int)
    assert of_worker > int(Path("/proc/self/oom_score_adj").read_text())


def crash_at_start() -> NoReturn:
    os._exit(3)


class CrashesWhenLoaded:
    """Work that cannot be loaded by another process."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return crash_at_start, ()

    def __call__(self, items: list[int]) -> list[int]:
        return items


@pytest.mark.parametrize("processes", [1, 2])
def test_process_that_never_starts_ends_the_run(processes: int) -> None:
    with pytest.raises(FerEdgeError, match=r"a worker process cannot be started \(status 3\)"):
        list(map_in_processes(CrashesWhenLoaded(), [[1], [2]], processes, lambda _, reason: reason))


def test_ends_only_processes_that_it_started() -> None:
    child = Process(target=signal.pause)
    child.start()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        results = map_in_processes(work, [[1], [HANG]], 2, lambda _, reason: reason)
        assert next(results) == (1, 2)
        workers = set(active_children()) - {child}
        assert workers
        results.close()
        assert set(active_children()) == {child}
        assert all(not worker.is_alive() for worker in workers)
        assert child.is_alive()
        assert other.poll() is None
    finally:
        child.kill()
        child.join()
        other.communicate(b"\n")


def test_closed_pool_drops_queued_work() -> None:
    with ProcessPool(work, 1, lambda _, reason: reason) as pool:
        futures = [pool.submit([item]) for item in (1, HANG, 2)]
        assert futures[0].result() == [2]
    with pytest.raises(FerEdgeError, match="closed"):
        futures[2].result()


def test_signal_while_a_process_starts_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def start_after_signal(thread: threading.Thread) -> None:
        signal.raise_signal(signal.SIGINT)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_after_signal)
    with pytest.raises(KeyboardInterrupt):
        results_of([1])
