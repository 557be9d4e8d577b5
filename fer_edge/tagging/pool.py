"""Work in other processes, so that an error, a crash or a hang costs a single item.

Each process is served by a thread of its own, which starts it, hands it chunks, and ends it if it hangs. No other
process is touched.
"""

from __future__ import annotations

import multiprocessing
import pickle
import queue
import signal
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NamedTuple, Self, TypeVar

from fer_edge.errors import FerEdgeError, InputError, first_line
from fer_edge.tagging.gate import Gate
from fer_edge.utils.address_space import own_process
from fer_edge.utils.limits import PATIENCE_S, WAITING_BYTES
from fer_edge.utils.signals import defer_signals
from fer_edge.utils.worker import init_worker, on_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from ctypes import c_int
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNKS_PER_PROCESS: Final = 3  # one in work, one queued, one whose result waits for its turn
_TICK_S: Final = 1.0
_START_TRIES: Final = 3
_starting: Final = threading.Lock()
_CONTEXT: Final = multiprocessing.get_context("spawn")  # a fork would inherit locks of threads that it does not have


class _Message(NamedTuple):
    """What a process tells: that it lives, the results of all items, why one failed, or an error that ends the run."""

    kind: Literal["alive", "results", "failure", "error"]
    content: Any = None


class ProcessPool(Generic[Item, Result]):
    """Some processes that work on chunks of items.

    An item whose process crashes is tried again while no other process works. If it then succeeds, the memory was too
    small for all processes, and one process fewer works from then on.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Iterable[Result]],
        processes: int,
        on_failure: Callable[[Item, str], Result],
        patience_s: int = PATIENCE_S,
    ) -> None:
        """Create a pool; processes start when there is work for them.

        Args:
            work: a function of a module, or a partial of one; it gives the result of each item, one after the other.
                It may call `report_progress` during long work. A `FerEdgeError` ends the run.
            processes: number of processes.
            on_failure: makes the result of an item that failed, from the item and the reason.
            patience_s: seconds without progress after which a process is ended.
        """
        self._work, self._on_failure, self._patience_s = work, on_failure, patience_s
        self._tasks: queue.SimpleQueue[tuple[list[Item], Future[list[Result]]] | None] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._processes = processes
        self._threads: list[threading.Thread] = []
        self._gate = Gate()
        self._surplus: set[_Worker] = set()

    def __enter__(self) -> Self:
        """Return the pool."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """End the processes; work that is not done is not waited for."""
        for _ in self._threads:
            self._tasks.put(None)
        for worker in self._workers:
            worker.close()
        for thread in self._threads:
            thread.join()
        for worker in self._workers:
            worker.join()

    def submit(self, chunk: list[Item]) -> Future[list[Result]]:
        """Queue a chunk; its future gives a result for each item."""
        future: Future[list[Result]] = Future()
        self._tasks.put((chunk, future))
        if len(self._threads) < self._processes:
            with defer_signals():  # a thread that is not started cannot be waited for
                worker = _Worker(self._work, self._patience_s)
                self._workers.append(worker)
                self._threads.append(threading.Thread(target=self._serve, args=(worker,), name="pool", daemon=True))
                self._threads[-1].start()
        return future

    def _serve(self, worker: _Worker) -> None:
        while worker not in self._surplus and (task := self._tasks.get()) is not None:
            chunk, future = task
            try:
                future.set_result(self._process(worker, chunk))
            except Exception as error:  # noqa: BLE001 - raised where the result is awaited
                future.set_exception(error)
            del task, chunk, future  # they would stay in memory while this waits for the next
        worker.end()

    def _process(self, worker: _Worker, chunk: list[Item]) -> list[Result]:
        results: dict[int, Result] = {}
        while remaining := [number for number in range(len(chunk)) if number not in results]:
            with self._gate.together():
                try:
                    done, failure = worker.run([chunk[number] for number in remaining])
                except _StartError as error:
                    if self._processes == 1:
                        raise
                    failure = _Failure(0, str(error), is_crash=True)
            if failure is None:
                results.update(zip(remaining, done, strict=True))
                break
            number = remaining[min(failure.position, len(remaining) - 1)]  # the last one, if only sending failed
            if failure.is_crash and (len(chunk) > 1 or self._processes > 1):
                done, failure = self._run_alone(worker, chunk[number])
            results[number] = self._on_failure(chunk[number], failure.reason) if failure else done[0]
        return [results[number] for number in range(len(chunk))]

    def _run_alone(self, worker: _Worker, item: Item) -> tuple[list[Result], _Failure | None]:
        """Process an item while no other process holds memory, for which the kernel might kill its process."""
        with self._gate.alone():
            others = [one for one in self._workers if one is not worker]
            for other in others:
                other.end()
            done, failure = worker.run([item])
            if failure is None and len(self._surplus) < len(others):
                self._surplus.add(worker)
            return done, failure


class _StartError(FerEdgeError):
    """A process cannot be started."""


class _Failure(NamedTuple):
    """Why an item failed.

    Attributes:
        position: position of the item among those that were sent.
        reason: why it failed.
        is_crash: whether its process ended.
    """

    position: int
    reason: str
    is_crash: bool = False


class _Worker:
    """A process, which is started again after a crash."""

    def __init__(self, work: Callable[[list[Any]], Iterable[Any]], patience_s: int) -> None:
        self._work, self._patience_s = work, patience_s
        self._process: SpawnProcess | None = None
        self._connection: Connection[Any, Any] | None = None
        self._position = _CONTEXT.RawValue("i")  # shared with the process: how many of the items it has done
        self._is_closed = False
        self._lock = threading.Lock()  # between the start of a process and the end of the pool

    def run(self, items: list[Any]) -> tuple[list[Any], _Failure | None]:
        """Process items.

        Returns:
            Their results, or which item failed, and why.

        Raises:
            FerEdgeError: an error that ends the run, or the process cannot be started.
        """
        try:
            connection = self._connection or self._start()
            self._position.value = 0
            _send(connection, items)
            while True:
                message = self._receive(connection, self._patience_s)
                if message is None:
                    self._end()
                    return [], _Failure(self._position.value, f"no progress within {self._patience_s} s; left out")
                if message.kind == "results":
                    return message.content, None
                if message.kind == "failure":
                    return [], _Failure(self._position.value, message.content)
                if message.kind == "error":
                    raise message.content
        except (EOFError, OSError):
            reason = f"crashed the process that worked on it ({self._end()})"
            return [], _Failure(self._position.value, reason, is_crash=True)

    def close(self) -> None:
        """End the process for good."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                self._process.kill()

    def end(self) -> None:
        """End the process, which must have no work; the next work starts another."""
        self._end()

    def join(self) -> None:
        """Wait until the process has ended."""
        if self._process is not None:
            self._process.join()

    def _start(self) -> Connection[Any, Any]:
        for _ in range(_START_TRIES):
            with self._lock:
                if self._is_closed:
                    raise FerEdgeError("the pool is closed")
                self._connection, other = _CONTEXT.Pipe()
                arguments = (other, self._position, self._work)
                self._process = _CONTEXT.Process(target=_serve_process, args=arguments, daemon=True)
                with _allow_children():
                    self._process.start()
                other.close()
            try:
                if self._receive(self._connection, PATIENCE_S) is not None:
                    return self._connection
            except (EOFError, OSError):
                pass
            reason = self._end()
        raise _StartError(f"a worker process cannot be started ({reason}); the same command continues")

    @staticmethod
    def _receive(connection: Connection[Any, Any], patience_s: int) -> _Message | None:
        """Return the next message; None if none came in time."""
        # Ticks are counted, not seconds: while this machine sleeps, or this process is stopped, no time passes.
        for _ in range(max(round(patience_s / _TICK_S), 1)):
            if connection.poll(_TICK_S):
                message: _Message = _receive(connection)
                return message
        return None

    def _end(self) -> str:
        """Kill the process, if it still runs, and return how it ended."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is None or connection is None:
            return "never started"
        connection.close()
        process.join(_TICK_S)  # one that crashed ends by itself
        process.kill()
        process.join()
        code = process.exitcode or 0
        if code == -signal.SIGKILL:
            return "SIGKILL; is there too little memory?"
        return signal.Signals(-code).name if code < 0 else f"status {code}"


@contextmanager
def _allow_children() -> Iterator[None]:
    """Let this process start another one even if it is a daemon, like the workers of Dask.

    `multiprocessing` forbids it, because it would not end the children of a daemon that is killed; ours end by
    themselves when their parent does.
    """
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined] # noqa: SLF001 - it has no setter
    with _starting:
        is_daemon, config["daemon"] = config.get("daemon"), False
        try:
            yield
        finally:
            config["daemon"] = is_daemon


def _send(connection: Connection[Any, Any], content: object) -> None:
    """Send something; large buffers in it are not copied, as `Connection.send` would."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(content, 5, buffer_callback=buffers.append)
    connection.send_bytes(len(buffers).to_bytes(4) + head)
    for buffer in buffers:
        connection.send_bytes(buffer.raw())


def _receive(connection: Connection[Any, Any]) -> Any:  # noqa: ANN401 - whatever was sent
    head = connection.recv_bytes()
    buffers = [connection.recv_bytes() for _ in range(int.from_bytes(head[:4]))]
    return pickle.loads(memoryview(head)[4:], buffers=buffers)  # noqa: S301 - from our own process


def _serve_process(
    connection: Connection[Any, Any], position: c_int, work: Callable[[list[Any]], Iterable[Any]]
) -> None:
    """Process chunks, until the other end of the connection is closed."""
    init_worker()
    own_process()
    lock = threading.Lock()

    def send(message: _Message) -> None:
        with lock:
            _send(connection, message)

    on_progress(lambda: send(_Message("alive")))
    send(_Message("alive"))
    while True:
        try:
            items = _receive(connection)
        except EOFError:
            return
        try:
            results = []
            for result in work(items):
                results.append(result)
                position.value = len(results)
            items = None  # which would stay in memory until the next ones come
            send(_Message("results", results))
        except FerEdgeError as error:
            # Errors with more arguments than a message cannot be pickled.
            send(_Message("error", (InputError if error.exit_status == 2 else FerEdgeError)(str(error))))
        except Exception as error:  # noqa: BLE001 - libraries raise errors of many kinds
            send(_Message("failure", f"cannot be processed ({type(error).__name__}: {first_line(error)})"))


def map_in_order(
    chunks: Iterable[list[Item]],
    *,
    submit: Callable[[list[Item]], Future[list[Result]]],
    results: Callable[[list[Item], Future[list[Result]]], Iterable[Result]],
    max_pending: Callable[[], int],
    size: Callable[[Item], int],
    max_bytes: Callable[[], int] = lambda: WAITING_BYTES,
) -> Generator[tuple[Item, Result], None, None]:
    """Process chunks of items with any executor; few items and results are in memory at a time.

    Args:
        chunks: the items.
        submit: submits a chunk.
        results: waits for a future; gives the results of a chunk.
        max_pending: gives the number of chunks that may be queued or in work now.
        size: gives the memory that an item takes, in bytes.
        max_bytes: gives the memory, in bytes, that the chunks that are queued or in work may take.

    Yields:
        Items and results, in the order of the chunks.
    """
    chunks = iter(chunks)
    pending: deque[tuple[list[Item], Future[list[Result]], int]] = deque()
    in_flight = 0
    while True:
        while len(pending) < max_pending() and in_flight <= max_bytes() and (chunk := next(chunks, None)) is not None:
            chunk_size = sum(map(size, chunk))
            pending.append((chunk, submit(chunk), chunk_size))
            in_flight += chunk_size
            del chunk  # the last one would stay in memory
        if not pending:
            return
        chunk, future, chunk_size = pending.popleft()
        done, of_chunk = deque(chunk), deque(results(chunk, future))
        del chunk, future
        while done:  # each item leaves the memory when the caller has dropped it
            yield done.popleft(), of_chunk.popleft()
        in_flight -= chunk_size


def map_in_processes(
    work: Callable[[list[Item]], Iterable[Result]],
    chunks: Iterable[list[Item]],
    processes: int,
    on_failure: Callable[[Item, str], Result],
    *,
    size: Callable[[Item], int] = lambda _item: 0,
    patience_s: int = PATIENCE_S,
) -> Generator[tuple[Item, Result], None, None]:
    """Process chunks of items in several processes; see `ProcessPool` and `map_in_order`."""
    with ProcessPool(work, processes, on_failure, patience_s) as pool:
        yield from map_in_order(
            chunks,
            submit=pool.submit,
            results=lambda _, future: future.result(),
            max_pending=lambda: CHUNKS_PER_PROCESS * processes,
            size=size,
        )
