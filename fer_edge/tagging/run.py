"""Run a tagging job: from images to a table, which appears when the last image is done; it can be interrupted."""

from __future__ import annotations

import dataclasses
import hashlib
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fer_edge.classification.selection import is_rare
from fer_edge.detection.factory import detector_file
from fer_edge.errors import InputError, printable
from fer_edge.quality import UNCLEAR
from fer_edge.tagging.cluster import connect
from fer_edge.tagging.dispatch import process_all, video_measurer
from fer_edge.tagging.input import remote, tempdirs
from fer_edge.tagging.input.sources import Sources
from fer_edge.tagging.input.video import measure_video
from fer_edge.tagging.journal import Journal, RunKey
from fer_edge.tagging.output import parquet_dataset, table_writer
from fer_edge.tagging.output.contact_sheet import write_sheet
from fer_edge.tagging.output.destinations import check_outputs, result_folders
from fer_edge.tagging.output.error_list import open_error_list
from fer_edge.tagging.output.face_folder import FaceFolder
from fer_edge.tagging.provenance import read_provenance
from fer_edge.tagging.tracks import make_rows
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.limits import MODEL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fer_edge.tagging.cluster import Cluster
    from fer_edge.tagging.input.source import Source
    from fer_edge.tagging.options import TagOptions
    from fer_edge.tagging.output.columns import FaceRow, Provenance
    from fer_edge.tagging.output.destinations import Outputs
    from fer_edge.tagging.records import SourceResult


@dataclasses.dataclass(frozen=True, slots=True)
class TagSummary:
    """Counts over a whole table.

    Attributes:
        images: images and videos.
        faces: faces found.
        errors: rows with an error.
        emotions: number of faces of each emotion, without those of which it cannot be told.
        unclear: number of those.
        selected: number of faces that were selected for review; None if that was not requested.
        resumed: images and videos that an interrupted run had processed before.
        left_out: one line for each kind of files and folders that were left out of the inputs' folders.
    """

    images: int
    faces: int
    errors: int
    emotions: dict[str, int]
    unclear: int = 0
    selected: int | None = None
    resumed: int = 0
    left_out: tuple[str, ...] = ()


def tag(
    inputs: Sequence[str],
    outputs: Outputs,
    options: TagOptions,
    *,
    processes: int = 0,
    cluster: str | None = None,
    null: bool = False,
    on_result: Callable[[SourceResult | None], None] = lambda _result: None,
) -> TagSummary:
    """Tag images and videos, and write a table of the faces in them.

    If the run is interrupted, the same call continues it.

    Args:
        inputs: files, folders, patterns and addresses; see `Sources`.
        outputs: where the results go.
        options: how to process the images.
        processes: number of worker processes; 0 for none, then an image that crashes its process ends the run.
        cluster: address of the scheduler of a Dask cluster that does the work; None for this machine.
        null: whether a NUL ends each name of a list on standard input; see `Sources`.
        on_result: called with the result of each source; with None for a source of the interrupted run.

    Raises:
        InputError: an input does not exist, there are no images, a result cannot be written or would replace other
            files, an interrupted run differs from this one, or there is no such cluster.
        MissingExtraError: an optional package is not installed.
        FerEdgeError: the disk is full.
    """
    table_writer.check_table_path(outputs.table)
    provenance = read_provenance(Path(options.model))
    table_writer.check_columns(outputs.table, provenance)
    folders = result_folders(outputs, options)
    sources = Sources(inputs, null=null, every=options.every, exclude=folders, max_bytes=options.max_fetch)
    check_outputs(inputs, outputs, options)
    run_key = _make_run_key(inputs, outputs, options, provenance)
    with (
        video_measurer() if cluster or processes else nullcontext(measure_video) as sources.measure,
        _clean_tempdirs(),
        connect(cluster) if cluster else nullcontext() as connected,
        closing(Journal(outputs.journal, run_key, overwrite=outputs.overwrite)) as journal,
    ):
        processed = _fill_journal(journal, sources, options, connected or processes, on_result)
        if journal.is_empty():
            journal.delete()
            left_out = f" (left out: {'; '.join(lines)})" if (lines := sources.left_out.lines()) else ""
            names = printable(", ".join(map(remote.without_secrets, inputs)))
            raise InputError(f"{names}: contains no images{left_out}")
        summary = _write_outputs(journal, outputs, options, provenance, connected)
        journal.delete()
    return dataclasses.replace(summary, resumed=summary.images - processed, left_out=sources.left_out.lines())


@contextmanager
def _clean_tempdirs() -> Iterator[None]:
    """Delete temporary folders that killed processes left: those of earlier runs, and those of this run's workers."""
    tempdirs.clean()
    try:
        yield
    finally:
        tempdirs.clean()


def _make_run_key(inputs: Sequence[str], outputs: Outputs, options: TagOptions, provenance: Provenance) -> RunKey:
    """Make the key of a run; files count by their content, not by their path."""
    values = msgspec.structs.asdict(options) | {"model": None, "threads": None, "thumbnails": None, "candidates": None}
    values |= {"montage": outputs.montage, "collect": outputs.collect}
    file = detector_file(options.detector, Path(options.detector_model) if options.detector_model else None)
    values["detector_model"] = hashlib.sha256(read_bytes(file, MODEL_BYTES)).hexdigest()[:12]
    return RunKey(
        model=f"{provenance.model} (sha256 {provenance.model_sha256[:12]})",
        version=provenance.version,
        options=", ".join(f"{name} {printable(str(value))}" for name, value in values.items() if value) or "none",
        inputs=hashlib.sha256("\0".join(inputs).encode("utf-8", "surrogateescape")).hexdigest(),
    )


def _fill_journal(
    journal: Journal,
    sources: Sources,
    options: TagOptions,
    executor: Cluster | int,
    on_result: Callable[[SourceResult | None], None],
) -> int:
    """Process all sources that the journal has no result for.

    Returns:
        The number of images and videos that were processed.
    """

    def unprocessed() -> Iterator[Source]:
        for pending in sources:
            if journal.append(pending.source):
                yield pending.load()
            else:
                on_result(None)

    count = 0
    with closing(process_all(unprocessed(), options, executor)) as results:
        for source, result in results:
            journal.store(source, result)
            on_result(result)
            count += source.begin == 0
            del source  # with its data, which would stay in memory while the next one is awaited
    return count


def _write_outputs(
    journal: Journal, outputs: Outputs, options: TagOptions, provenance: Provenance, cluster: Cluster | None
) -> TagSummary:
    """Write the table, the list of errors and the contact sheets."""
    images = faces = errors = unclear = 0
    emotions = dict.fromkeys(provenance.labels, 0)

    def counted_rows() -> Iterator[FaceRow]:
        nonlocal images, faces, errors, unclear
        for is_first, rows in make_rows(journal.results(), options.every):
            images += is_first
            for row in rows:
                yield row
                if row.record.error:
                    errors += 1
                    list_error(row.path, row.record.error)
                if face := row.record.face:
                    faces += 1
                    unclear += not face.reliable
                    emotions[face.emotion] += face.reliable

    with open_error_list(outputs.errors) as list_error:
        _write_table(outputs.table, counted_rows(), provenance, cluster)
    if outputs.montage:
        for emotion in (*provenance.labels, UNCLEAR):
            if thumbnails := journal.thumbnails(emotion):
                write_sheet(outputs.montage / f"{emotion.replace('/', '-')}.jpg", thumbnails)
    selected = _write_selection(journal, outputs.collect, emotions) if outputs.collect else None
    return TagSummary(images, faces, errors, emotions, unclear, selected)


def _write_selection(journal: Journal, folder: Path, counts: dict[str, int]) -> int:
    """Write the faces that are worth a person's review, and return their number."""
    selected = {
        f"{name}.png": candidate.face if candidate.is_hard else msgspec.structs.replace(candidate.face, reason="rare")
        for name, candidate in journal.candidates()
        if candidate.is_hard or is_rare(candidate.face.emotion, counts)
    }
    FaceFolder(folder).add(selected)
    return len(selected)


def _write_table(table: str, rows: Iterator[FaceRow], provenance: Provenance, cluster: Cluster | None) -> None:
    if parquet_dataset.is_dataset(table):
        parquet_dataset.write_dataset(table, rows, provenance, cluster.map if cluster else map)
        return
    with remote.writing(table) as path, table_writer.open_table(path, provenance) as writer:
        for row in rows:
            writer.append(row)
