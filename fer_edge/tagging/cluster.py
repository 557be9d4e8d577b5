"""The same work over machines: a Dask cluster that is there already, of which this is a client.

What a worker needs besides fer-edge is the model: a task of its own, so that Dask brings it to each worker once, and
again to those that come later.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import re
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from fer_edge.errors import FerEdgeError, InputError, MissingExtraError, first_line
from fer_edge.tagging.input import remote
from fer_edge.tagging.pool import AHEAD, in_order
from fer_edge.tagging.worker import Job, Looked, look_at
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.image_io import read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from fer_edge.tagging.input.sources import Source

Item = TypeVar("Item")
Result = TypeVar("Result")

_VERSION: Final = importlib.metadata.version("fer-edge")
_CONNECT_S: Final = 10
_NO_WORKERS_S: Final = 60.0
_AGAIN: Final = "; the same command goes on when it can"


class _File(msgspec.Struct, frozen=True):
    """A file as it travels."""

    name: str
    data: bytes


class _Files(msgspec.Struct, frozen=True):
    model: _File
    detector_model: _File | None


class Cluster:
    """Workers that look at images and write tables."""

    def __init__(self, client: Any, address: str) -> None:  # noqa: ANN401 - Dask has no types
        """Of a client that is connected; see `connected`."""
        self._client, self._address = client, address
        self._submit = client.get_executor(pure=False).submit

    def look(
        self, job: Job, chunks: Iterable[list[Source]], lost: Callable[[Source], Looked]
    ) -> Generator[tuple[Source, Looked], None, None]:
        """Look at sources, some at a time.

        Args:
            job: how, in paths of this machine; the model goes along, folders are to be reached from the workers.
            chunks: the sources.
            lost: what is seen in a source that ends each worker that looks at it.

        Yields:
            Sources and what was seen in each, in order.

        Raises:
            FerEdgeError: the scheduler or all workers went away.
        """
        detector = _file(job.detector_model) if job.detector_model else None
        files = self._client.submit(_whole, _Files(_file(job.model), detector), pure=False)
        yield from self._in_order(partial(_look, _from_anywhere(job), str(Path.cwd())), chunks, lost, files)

    def each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Do a function with each of some things, as `map` does it.

        Raises:
            FerEdgeError: the scheduler or all workers went away, or one of the things ends each worker.
        """

        def lost(_: Item) -> Result:
            raise FerEdgeError(f"{self._address}: what is to be written ends each worker; have they too little memory?")

        done = self._in_order(partial(_each, function), ([item] for item in items), lost)
        return (result for _, result in done)

    def _in_order(
        self,
        work: Callable[..., list[Result]],
        chunks: Iterable[list[Item]],
        lost: Callable[[Item], Result],
        *given: object,
    ) -> Generator[tuple[Item, Result], None, None]:
        def submit(chunk: list[Item]) -> Future[list[Result]]:
            result: Future[list[Result]] = self._submit(work, chunk, *given)
            return result

        yield from in_order(
            chunks, submit=submit, submit_alone=submit, is_broken=self._is_broken, ahead=self._ahead, lost=lost
        )

    def _ahead(self) -> int:
        return AHEAD * max(self._threads(), 1)

    def _threads(self) -> int:
        try:
            threads: dict[str, int] = self._client.nthreads()
        except OSError as error:
            raise FerEdgeError(f"{self._address}: the scheduler went away{_AGAIN}") from error
        return sum(threads.values())

    def _is_broken(self, future: Future[list[Result]]) -> bool:
        from distributed import KilledWorker  # noqa: PLC0415 - an extra

        while True:
            try:
                error = future.exception(_NO_WORKERS_S)
                break
            except TimeoutError:
                if not self._threads():
                    raise FerEdgeError(f"{self._address}: has lost all its workers{_AGAIN}") from None
            except CancelledError:
                raise FerEdgeError(f"{self._address}: the scheduler went away{_AGAIN}") from None
        if isinstance(error, ImportError):  # of a worker that came later
            raise FerEdgeError(f"{self._address}: a worker without this fer-edge ({first_line(error)}){_AGAIN}")
        return isinstance(error, KilledWorker)


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """The cluster of a scheduler, such as ``tcp://10.0.0.2:8786``, that has workers with this fer-edge.

    Raises:
        MissingExtraError: Dask is not installed.
        InputError: there is no such scheduler, it has no workers, or they have no or another fer-edge.
    """
    if importlib.util.find_spec("distributed") is None:
        raise MissingExtraError("dask and distributed", "cluster")
    import dask  # noqa: PLC0415 - an extra
    from distributed import Client, Security  # noqa: PLC0415 - likewise

    if not re.fullmatch(r"((tcp|tls)://)?[^/@]+:\d+", address):
        told = address.rpartition("@")[2]
        raise InputError(f"--cluster {told}: no address of a scheduler, as tcp://host:8786")
    if address.startswith("tls:") and not Security().get_connection_args("client").get("ssl_context"):
        raise InputError(f"--cluster {address}: say in Dask's configuration, distributed.comm.tls, what to trust")

    # A large image out of an archive goes as a part of the work; Dask would warn of it.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}), _silent("distributed.client"):
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
def _silent(name: str) -> Iterator[None]:
    """Leave out what a logger says: Dask's has a traceback on a scheduler that went away, and ours is one line."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _check_versions(client: Any, address: str) -> None:  # noqa: ANN401 - Dask has no types
    """Raise InputError where one there has no fer-edge, or another."""
    # A function of the standard library: one of ours could not be sent to where fer-edge is not.
    version = partial(client.run, importlib.metadata.version, "fer-edge", on_error="return")
    for where, found in {**version(), **_of_scheduler(client)}.items():
        if found != _VERSION:
            what = f"fer-edge {found}" if isinstance(found, str) else "no fer-edge"
            raise InputError(f"--cluster {address}: {where} has {what}; this is {_VERSION}; install the same there")


def _of_scheduler(client: Any) -> dict[str, object]:  # noqa: ANN401 - Dask has no types
    try:
        return {"the scheduler": client.run_on_scheduler(importlib.metadata.version, "fer-edge")}
    except importlib.metadata.PackageNotFoundError as error:
        return {"the scheduler": error}


def _file(path: str) -> _File:
    data = read_bytes(Path(path))
    return _File(f"fer-edge-{hashlib.sha256(data).hexdigest()}{Path(path).suffix}", data)


def _from_anywhere(job: Job) -> Job:
    """The same job with folders that do not depend on the working directory."""
    folders = {
        name: str(Path(given).absolute()) for name in ("sidecar_dir", "annotate") if (given := getattr(job, name))
    }
    return msgspec.structs.replace(job, **folders)


def _each(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [function(item) for item in items]


def _whole(files: _Files) -> _Files:
    return files


def _look(job: Job, start: str, sources: list[Source], files: _Files) -> list[Looked]:
    """On a worker: look at sources, whose places begin at a folder, with the model that came along."""
    from distributed import get_worker  # noqa: PLC0415 - an extra

    folder = Path(get_worker().local_directory)
    detector = files.detector_model and str(_unpacked(files.detector_model, folder))
    model = str(_unpacked(files.model, folder))
    near = [
        source
        if remote.is_address(source.place)
        else msgspec.structs.replace(source, place=str(Path(start, source.place)))
        for source in sources
    ]
    return look_at(msgspec.structs.replace(job, model=model, detector_model=detector), near)


def _unpacked(file: _File, folder: Path) -> Path:
    path = folder / file.name
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_bytes(file.data)
    return path
