"""Work on a Dask cluster, as a client of a scheduler that is running already.

The model travels to the workers as a task of its own, so that Dask sends it to each worker once, also to workers that
join later.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import re
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from fer_edge.errors import FerEdgeError, InputError, MissingExtraError, first_line
from fer_edge.tagging.cluster_worker import FileContent, ModelFiles, close_pool, process_on_worker
from fer_edge.tagging.input.source import data_size
from fer_edge.tagging.pool import CHUNKS_PER_PROCESS, map_in_order
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.limits import MODEL_BYTES, PATIENCE_S, WAITING_BYTES, WAITING_BYTES_PER_THREAD

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from fer_edge.tagging.input.source import Source
    from fer_edge.tagging.options import TagOptions
    from fer_edge.tagging.records import SourceResult

Item = TypeVar("Item")
Result = TypeVar("Result")

_VERSION: Final = importlib.metadata.version("fer-edge")
_CONNECT_S: Final = 10
_NO_WORKERS_S: Final = 60.0
_CONTINUE: Final = "; when it is back, the same command continues"


class Cluster:
    """The workers of a Dask cluster."""

    def __init__(self, client: Any, address: str) -> None:  # noqa: ANN401 - Dask has no types
        """Use a connected client; see `connect`."""
        self._client, self._address = client, address
        self._submit = client.get_executor(pure=False).submit

    def process(
        self, options: TagOptions, chunks: Iterable[list[Source]], on_failure: Callable[[Source, str], SourceResult]
    ) -> Generator[tuple[Source, SourceResult], None, None]:
        """Process chunks of sources.

        Args:
            options: how to process them, with paths of this machine. The model files are sent to the workers; the
                workers must see the folders.
            chunks: the sources.
            on_failure: makes the result of a source that crashes each worker, from the source and the reason.

        Yields:
            Sources and results, in order.

        Raises:
            FerEdgeError: the scheduler or all workers are gone.
        """
        detector = _read_file(options.detector_model) if options.detector_model else None
        files = self._client.submit(_identity, ModelFiles(_read_file(options.model), detector), pure=False)
        work = partial(process_on_worker, _with_absolute_folders(options), str(Path.cwd()), PATIENCE_S)
        try:
            yield from self._map_in_order(work, chunks, on_failure, files, size=data_size)
        finally:
            with suppress(Exception):  # a worker that has gone has no processes
                self._client.run(close_pool)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Call a function with each item, as `map` does.

        Raises:
            FerEdgeError: the scheduler or all workers are gone, or an item crashes each worker.
        """

        def on_failure(_item: Item, _reason: str) -> Result:
            raise FerEdgeError(
                f"{self._address}: writing a part of the table crashes each worker; do they lack memory?"
            )

        pairs = self._map_in_order(partial(_call_each, function), ([item] for item in items), on_failure)
        return (result for _, result in pairs)

    def _map_in_order(
        self,
        work: Callable[..., list[Result]],
        chunks: Iterable[list[Item]],
        on_failure: Callable[[Item, str], Result],
        *args: object,
        size: Callable[[Item], int] = lambda _item: 0,
    ) -> Generator[tuple[Item, Result], None, None]:
        def submit(chunk: list[Item]) -> Future[list[Result]]:
            result: Future[list[Result]] = self._submit(work, chunk, *args)
            return result

        def results(chunk: list[Item], future: Future[list[Result]]) -> Iterator[Result]:
            if not self._has_crashed(future):
                yield from future.result()
                return
            for item in chunk:  # only one that crashes each worker again is lost
                alone = submit([item])
                failed = self._has_crashed(alone)
                yield on_failure(item, "crashed each worker; do they lack memory?") if failed else alone.result()[0]

        yield from map_in_order(
            chunks,
            submit=submit,
            results=results,
            max_pending=lambda: CHUNKS_PER_PROCESS * max(self._count_threads(), 1),
            size=size,
            max_bytes=lambda: max(WAITING_BYTES, WAITING_BYTES_PER_THREAD * self._count_threads()),
        )

    def _count_threads(self) -> int:
        try:
            threads: dict[str, int] = self._client.nthreads()
        except OSError as error:
            raise FerEdgeError(f"{self._address}: lost the scheduler{_CONTINUE}") from error
        return sum(threads.values())

    def _has_crashed(self, future: Future[list[Result]]) -> bool:
        from distributed import KilledWorker  # noqa: PLC0415 - an extra

        while True:
            try:
                error = future.exception(_NO_WORKERS_S)
                break
            except TimeoutError:
                if not self._count_threads():
                    raise FerEdgeError(f"{self._address}: lost all its workers{_CONTINUE}") from None
            except CancelledError:
                raise FerEdgeError(f"{self._address}: lost the scheduler{_CONTINUE}") from None
        if isinstance(error, ImportError):  # a worker that joined later
            raise FerEdgeError(
                f"{self._address}: a worker lacks this fer-edge ({first_line(error)}); install it there,"
                " and the same command continues"
            )
        return isinstance(error, KilledWorker)


@contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """Connect to a scheduler whose workers have the same fer-edge.

    Args:
        address: the scheduler's address, such as ``tcp://10.0.0.2:8786``.

    Raises:
        MissingExtraError: dask is not installed.
        InputError: there is no scheduler at the address, it has no workers, or they lack this fer-edge.
    """
    if importlib.util.find_spec("distributed") is None:
        raise MissingExtraError("dask and distributed", "cluster")
    import dask  # noqa: PLC0415 - an extra
    from distributed import Client, Security  # noqa: PLC0415 - an extra

    if not re.fullmatch(r"((tcp|tls)://)?[^/@]+:\d+", address):
        name = address.rpartition("@")[2]
        raise InputError(f"--cluster {name}: not the address of a scheduler; give one such as tcp://host:8786")
    if address.startswith("tls:") and not Security().get_connection_args("client").get("ssl_context"):
        raise InputError(
            f"--cluster {address}: Dask does not know which certificates to trust; set distributed.comm.tls in its"
            " configuration"
        )

    # A large image from an archive is part of its task; Dask would warn of it.
    with (
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}),
        _mute_logger("distributed.client"),
    ):
        try:
            client = Client(address, timeout=_CONNECT_S, set_as_default=False)
        except OSError as error:
            raise InputError(f"--cluster {address}: no Dask scheduler there ({first_line(error)})") from error
        with client:
            try:
                client.wait_for_workers(1, timeout=_CONNECT_S)
            except TimeoutError as error:
                raise InputError(f"--cluster {address}: has no workers; start some with `dask worker`") from error
            _check_versions(client, address)
            yield Cluster(client, address)


@contextmanager
def _mute_logger(name: str) -> Iterator[None]:
    """Mute a logger: Dask's logs a traceback when the scheduler is lost, which our message already says."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _check_versions(client: Any, address: str) -> None:  # noqa: ANN401 - Dask has no types
    """Check that the scheduler and all workers have the same fer-edge.

    Raises:
        InputError: one has another version, or none.
    """
    # A function of the standard library, because one of ours cannot be sent to where fer-edge is not.
    versions = client.run(importlib.metadata.version, "fer-edge", on_error="return")
    for machine, found in {**versions, "the scheduler": _scheduler_version(client)}.items():
        if found != _VERSION:
            label = f"fer-edge {found}" if isinstance(found, str) else "no fer-edge"
            raise InputError(
                f"--cluster {address}: {machine} has {label}, but this is {_VERSION}; install the same version there"
            )


def _scheduler_version(client: Any) -> object:  # noqa: ANN401 - Dask has no types
    try:
        return client.run_on_scheduler(importlib.metadata.version, "fer-edge")
    except importlib.metadata.PackageNotFoundError as error:
        return error


def _read_file(path: str) -> FileContent:
    data = read_bytes(Path(path), MODEL_BYTES)
    return FileContent(f"fer-edge-{hashlib.sha256(data).hexdigest()}{Path(path).suffix}", data)


def _with_absolute_folders(options: TagOptions) -> TagOptions:
    """Return the options with folders that do not depend on the working directory."""
    folders = {
        name: str(Path(folder).absolute()) for name in ("sidecar_dir", "annotate") if (folder := getattr(options, name))
    }
    return msgspec.structs.replace(options, **folders)


def _call_each(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [function(item) for item in items]


def _identity(files: ModelFiles) -> ModelFiles:
    return files
