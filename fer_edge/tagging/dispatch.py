"""Distribute sources over processes or a cluster, in chunks."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from fer_edge.tagging.input.source import data_size
from fer_edge.tagging.input.video import measure_videos
from fer_edge.tagging.pool import ProcessPool, map_in_processes
from fer_edge.tagging.records import result_of_failure
from fer_edge.tagging.worker import process, process_in_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

    from fer_edge.tagging.cluster import Cluster
    from fer_edge.tagging.input.source import Source
    from fer_edge.tagging.options import TagOptions
    from fer_edge.tagging.records import SourceResult

_PATIENCE_S: Final = 60  # with a video that is only opened
_CHUNK_SOURCES: Final = 16
_CHUNK_BYTES: Final = 4 << 20


def process_all(
    sources: Iterable[Source], options: TagOptions, executor: Cluster | int
) -> Generator[tuple[Source, SourceResult], None, None]:
    """Process sources and yield each with its result, in order.

    Args:
        sources: the sources.
        options: how to process them.
        executor: a cluster, or a number of processes; 0 for this process.
    """
    chunks = _make_chunks(sources)
    if not isinstance(executor, int):
        yield from executor.process(options, chunks, result_of_failure)
    elif executor:
        work = functools.partial(process_in_worker, options)
        yield from map_in_processes(work, chunks, executor, result_of_failure, size=data_size)
    else:
        for chunk in chunks:
            yield from zip(chunk, process(options, chunk), strict=True)


@contextmanager
def video_measurer() -> Iterator[Callable[[Path], float]]:
    """Yield a function that measures videos in a process of its own, which a damaged one may crash; see `Sources`."""
    with ProcessPool(measure_videos, 1, lambda _path, _reason: 0.0, _PATIENCE_S) as pool:
        yield lambda path: pool.submit([path]).result()[0]


def _make_chunks(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """Group sources: a limited number and size in each chunk, and each part of a video in a chunk of its own."""
    chunk: list[Source] = []
    size = 0
    for source in sources:
        chunk.append(source)
        size += data_size(source)
        is_full = len(chunk) == _CHUNK_SOURCES or size > _CHUNK_BYTES or source.kind == "video"
        del source  # with its data, which would stay in memory while the next source is read
        if is_full:
            full, chunk, size = [chunk], [], 0
            yield full.pop()
    if chunk:
        yield chunk
