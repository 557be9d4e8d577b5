"""What runs on the workers of a Dask cluster: sources are processed in processes of their own, as on one machine.

So an input that hangs or crashes its decoder costs its own row, and not the worker.
"""

from __future__ import annotations

import atexit
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.tagging.input import remote
from fer_edge.tagging.pool import ProcessPool
from fer_edge.tagging.records import result_of_failure
from fer_edge.tagging.worker import process_in_worker
from fer_edge.utils.atomic_file import replacing

if TYPE_CHECKING:
    from fer_edge.tagging.input.source import Source
    from fer_edge.tagging.options import TagOptions
    from fer_edge.tagging.records import SourceResult


class FileContent(msgspec.Struct, frozen=True):
    """A file that is sent to workers."""

    name: str
    data: bytes


class ModelFiles(msgspec.Struct, frozen=True):
    """The files of the classifier and the detector; None for the detector that is shipped."""

    model: FileContent
    detector_model: FileContent | None


class _Pools:
    """The pool of this worker, which its threads share, and what it is for."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._key: tuple[TagOptions, int] | None = None
        self._pool: ProcessPool[Source, SourceResult] | None = None

    def get(self, options: TagOptions, threads: int, patience_s: int) -> ProcessPool[Source, SourceResult]:
        """Return the pool for some options; that of other options is closed."""
        with self._lock:
            if self._pool is None or self._key != (options, patience_s):
                self._close()
                work = partial(process_in_worker, options)
                self._pool = ProcessPool(work, threads, result_of_failure, patience_s)
                self._key = options, patience_s
            return self._pool

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.__exit__()
            self._pool = None


_POOLS: Final = _Pools()
atexit.register(_POOLS.close)


def process_on_worker(
    options: TagOptions, client_folder: str, patience_s: int, sources: list[Source], files: ModelFiles
) -> list[SourceResult]:
    """Process sources on a worker.

    Args:
        options: how to process them.
        client_folder: working directory of the client, which relative paths start from.
        patience_s: seconds without progress after which a source is left out.
        sources: the sources.
        files: the models that were sent along.
    """
    from distributed import get_worker  # noqa: PLC0415 - an extra

    worker = get_worker()
    folder = Path(worker.local_directory)
    detector = files.detector_model and str(_unpack(files.detector_model, folder))
    local = msgspec.structs.replace(options, model=str(_unpack(files.model, folder)), detector_model=detector)
    absolute = [
        source
        if remote.is_address(source.uri)
        else msgspec.structs.replace(source, uri=str(Path(client_folder, source.uri)))
        for source in sources
    ]
    return _POOLS.get(local, worker.state.nthreads, patience_s).submit(absolute).result()


def close_pool() -> None:
    """End the processes of this worker, when a run is over."""
    _POOLS.close()


def _unpack(file: FileContent, folder: Path) -> Path:
    path = folder / file.name
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_bytes(file.data)
    return path
