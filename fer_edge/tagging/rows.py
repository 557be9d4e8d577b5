"""Tag images from Python: an iterator of rows, without a table on disk."""

from __future__ import annotations

import os
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_edge.detection.factory import detector_file, make_detector
from fer_edge.errors import InputError, printable
from fer_edge.model_zoo import DEFAULT_MODEL, DetectorName, find_model
from fer_edge.tagging.dispatch import process_all, video_measurer
from fer_edge.tagging.input import remote
from fer_edge.tagging.input.sources import Sources
from fer_edge.tagging.input.video import measure_video
from fer_edge.tagging.options import TagOptions
from fer_edge.tagging.output.columns import column_types, column_values
from fer_edge.tagging.provenance import read_provenance
from fer_edge.tagging.tracks import make_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fer_edge.tagging.input.source import Source
    from fer_edge.tagging.output.columns import Provenance
    from fer_edge.tagging.records import SourceResult


def tag_rows(
    paths: str | Path | Iterable[str | Path],
    *,
    every: float | None = None,
    model: str | Path = DEFAULT_MODEL,
    detector: DetectorName = "network",
    detector_model: Path | None = None,
    min_face: int | None = None,
    min_score: float | None = None,
    face: bool = False,
    sha256: bool = False,
    threads: int = 1,
    workers: int = 0,
    max_fetch: int = 4_000_000_000,
) -> Iterator[dict[str, Any]]:
    """Tag images and videos, and yield a row for each face.

    An image or frame without a face, and a source that cannot be read, give a row too.

    Args:
        paths: images, videos, archives, folders, patterns and addresses.
        every: seconds between the processed frames of a video; None for every frame.
        model: name of a shipped model, or path of a model file.
        detector: name of the face detector.
        detector_model: the detector's file; None for the shipped one.
        min_face: side of the smallest face to find, in pixels.
        min_score: lowest score of a face, 0..1; None for the detector's own.
        face: whether each image is a face crop, so that no detector is needed.
        sha256: whether to hash each file.
        threads: threads of the classifier.
        workers: number of worker processes; 0 for this process. A script that uses workers needs the usual
            ``if __name__ == "__main__":``.
        max_fetch: largest file to fetch from an address, and largest video to unpack, in bytes.

    Returns:
        An iterator of rows: the columns of `fer_edge.tagging.output.columns` and their values, None if empty. It
        raises InputError if there are no images.

    Raises:
        InputError: an input does not exist, or an option is wrong.
        ModelError: the model or the detector cannot be loaded.
        MissingExtraError: an optional package is not installed.
    """
    inputs = [os.fspath(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if every is not None and every <= 0:
        raise InputError(f"every={every:g}: give a number of seconds above 0")
    if workers < 0:
        raise InputError(f"workers={workers}: give a number of processes, or 0 for this process")
    options = TagOptions(
        model=str(find_model(Path(model))),
        threads=threads,
        face=face,
        detector=detector,
        detector_model=str(detector_file(detector, detector_model)),
        min_face=min_face,
        min_score=min_score,
        every=every,
        sha256=sha256,
        max_fetch=max_fetch,
    )
    provenance = read_provenance(Path(options.model))
    if not face:
        make_detector(detector, detector_model, min_face, min_score)  # errors come now, and not with the first row
    sources = Sources(inputs, every=every, max_bytes=max_fetch)
    return _iterate(inputs, sources, options, provenance, workers)


def _iterate(
    inputs: list[str], sources: Sources, options: TagOptions, provenance: Provenance, workers: int
) -> Iterator[dict[str, Any]]:
    columns = tuple(column_types(provenance.labels))
    is_empty = True
    with (
        video_measurer() if workers else nullcontext(measure_video) as sources.measure,
        closing(process_all(_unique(sources), options, workers)) as results,
    ):
        for source_rows in make_rows(_without_source(results), options.every):
            is_empty = False
            for row in source_rows.rows:
                yield dict(zip(columns, column_values(row, provenance), strict=True))
    if is_empty:
        raise InputError(f"{printable(', '.join(map(remote.without_secrets, inputs)))}: contains no images")


def _unique(sources: Sources) -> Iterator[Source]:
    """Load each source once, also if several inputs lead to it."""
    seen: set[bytes] = set()
    for pending in sources:
        key = pending.source.key
        if key not in seen:
            seen.add(key)
            yield pending.load()


def _without_source(
    results: Iterable[tuple[Source, SourceResult]],
) -> Iterator[tuple[str, bool, SourceResult]]:
    for source, result in results:
        yield source.path, source.kind == "video", result
