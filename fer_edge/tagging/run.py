"""A whole run: from images to a table that appears when the last is done; stopped before, it goes on where it was."""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
import os
import re
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.detection.factory import detector_file
from fer_edge.errors import InputError, printable
from fer_edge.geometry import Face
from fer_edge.tagging.cluster import connected
from fer_edge.tagging.input import remote, tempdirs
from fer_edge.tagging.input.sources import Sources
from fer_edge.tagging.journal import Journal, Made
from fer_edge.tagging.output import parquet_dataset, table_writer
from fer_edge.tagging.output.contact_sheet import write_sheet
from fer_edge.tagging.output.table_writer import Row
from fer_edge.tagging.pool import in_processes
from fer_edge.tagging.worker import Job, Looked, Sighting, failed, look_at
from fer_edge.tracking.tracker import Tracker
from fer_edge.utils.atomic_file import ensure_writable, replacing
from fer_edge.utils.image_io import read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from fer_edge.tagging.cluster import Cluster
    from fer_edge.tagging.input.sources import Source
    from fer_edge.tagging.output.table_writer import Maker

_CHUNK: Final = 16  # sources
_CHUNK_BYTES: Final = 4 << 20
_LOST_AFTER_S: Final = 2.0
_ERRORS_HEAD: Final = ("path", "error")


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """Counts over a whole table.

    Attributes:
        images: looked at, videos among them.
        faces: found.
        errors: rows with an error.
        emotions: faces by emotion.
        before: images that an earlier run had looked at.
    """

    images: int
    faces: int
    errors: int
    emotions: dict[str, int]
    before: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Outputs:
    """Where results go.

    Attributes:
        table: a path or an address that ends in ``.jsonl``, ``.csv``, ``.parquet`` or ``.sqlite``; or in a slash, for
            a folder of Parquet parquet_dataset.
        errors: a CSV of path and error, if wanted.
        montage: a folder for a contact sheet of each emotion, if wanted.
        overwrite: whether to start again, and replace what is there.
    """

    table: str
    errors: Path | None = None
    montage: Path | None = None
    overwrite: bool = False

    @property
    def journal(self) -> Path:
        """What was seen so far: beside the table, or in the working directory when the table goes far away."""
        name = f"{self.table.rstrip('/')}.part"
        return Path(name.rpartition("/")[2] if remote.is_address(self.table) else name)


def tag(
    inputs: Sequence[str],
    outputs: Outputs,
    job: Job,
    *,
    processes: int = 0,
    cluster: str | None = None,
    seen: Callable[[Looked | None], None] = lambda _looked: None,
) -> Summary:
    """Look at images and videos and write a table of the faces in them.

    Args:
        inputs: see `Sources`.
        outputs: where results go.
        job: how to look.
        processes: how many look at images; 0 for this one, which then ends with whatever ends it.
        cluster: the scheduler of a Dask cluster that looks at them instead, if any.
        seen: called with what was seen in each source; with None for one that an earlier run saw.

    Raises:
        InputError: an input is not there, nothing is, the table is there already, or files where copies of images
            go, it was begun otherwise, or it cannot be written, or there is no such cluster.
        MissingExtraError: what one of them needs is not installed.
        FerEdgeError: the disk is full; the same call goes on.
    """
    table_writer.check(outputs.table)
    classifier = TFLiteClassifier(Path(job.model))
    maker = table_writer.Maker(
        labels=classifier.card.labels,
        model=printable(classifier.card.name),
        model_sha256=classifier.sha256,
        version=importlib.metadata.version("fer-edge"),
    )
    folders = [Path(folder) for folder in (job.annotate, outputs.montage, job.sidecar_dir) if folder]
    sources = Sources(inputs, every=job.every, leave_out=folders, most=job.max_fetch)
    _refuse_within(inputs, folders)
    _prepare(outputs, folders)
    _refuse_filled(outputs, job)
    with (
        _cleaned(),
        connected(cluster) if cluster else nullcontext() as there,
        closing(Journal(outputs.journal, _made(inputs, outputs, job, maker), anew=outputs.overwrite)) as kept,
    ):
        new = _look(kept, sources, job, there or processes, seen)
        if kept.is_empty():
            kept.remove()
            raise InputError(f"{printable(', '.join(map(remote.shown, inputs)))}: no images there")
        summary = _write(kept, outputs, job, maker, there)
        kept.remove()
    return dataclasses.replace(summary, before=summary.images - new)


@contextmanager
def _cleaned() -> Iterator[None]:
    """Take away what killed processes left behind: those of an earlier run, and those that are stopped at the end."""
    tempdirs.clean()
    try:
        yield
    finally:
        tempdirs.clean()


def _refuse_within(inputs: Sequence[str], folders: Sequence[Path]) -> None:
    """Raise InputError where results would come among the images: they might replace some, or be taken for some."""
    for one in inputs:
        if one == "-" or remote.is_address(one):
            continue
        # Of a pattern, the folder that all of it is in.
        place = Path(one) if os.path.lexists(one) else Path(re.split(r"[*?\[]", one)[0] + "*").parent
        for folder in folders:
            if Path(os.path.realpath(place)).is_relative_to(folder.resolve()):  # `resolve` raises where links loop
                raise InputError(
                    f"{printable(str(folder))}: there are images to look at in it; choose a folder of its own"
                )


def _prepare(outputs: Outputs, folders: Sequence[Path]) -> None:
    """Find out what cannot be written before the work is done that it is for."""
    dataset = parquet_dataset.is_dataset(outputs.table)
    if remote.is_address(outputs.table):
        remote.check(outputs.table)
        there = bool(parquet_dataset.there(outputs.table)) if dataset else remote.exists(outputs.table)
    elif dataset:
        ensure_writable(Path(parquet_dataset.name(outputs.table, 0)))
        there = bool(parquet_dataset.there(outputs.table))
    else:
        ensure_writable(Path(outputs.table))
        there = Path(outputs.table).exists()
    for path in (*(folder / "image" for folder in folders), *([outputs.errors] if outputs.errors else [])):
        ensure_writable(path)
    existing = [remote.shown(outputs.table)] if there else []
    if outputs.errors:
        if outputs.errors.exists() and not _is_error_list(outputs.errors):
            raise InputError(f"{printable(str(outputs.errors))}: is there, and no list of errors; choose another name")
        if not remote.is_address(outputs.table) and outputs.errors.resolve() == Path(outputs.table).resolve():
            raise InputError(f"{printable(outputs.table)}: the table and the list of errors; write them to two files")
        existing += [str(outputs.errors)] if outputs.errors.exists() else []
    if existing and not outputs.overwrite and not outputs.journal.exists():
        raise InputError(f"{printable(existing[0])}: is there already; --overwrite makes it again")


def _refuse_filled(outputs: Outputs, job: Job) -> None:
    """Raise InputError where copies or sheets might replace files of others; a run that goes on has its own there."""
    if outputs.overwrite or outputs.journal.exists():
        return
    for folder in (Path(folder) for folder in (job.annotate, outputs.montage) if folder):
        if any(not path.is_dir() for path in folder.rglob("*")):
            raise InputError(
                f"{printable(str(folder))}: there are files in it already; choose another folder, or --overwrite, which"
                " replaces those with the same names"
            )


def _made(inputs: Sequence[str], outputs: Outputs, job: Job, maker: Maker) -> Made:
    """What two halves of a table must agree in: of what is read, not where it lies, but what is in it."""
    given = msgspec.structs.asdict(job) | {"model": None, "threads": None, "thumbnails": None}
    given["montage"] = outputs.montage
    file = detector_file(job.detector, Path(job.detector_model) if job.detector_model else None)
    given["detector_model"] = hashlib.sha256(read_bytes(file)).hexdigest()[:12]
    return Made(
        model=f"{maker.model} (sha256 {maker.model_sha256[:12]})",
        version=maker.version,
        options=", ".join(f"{name} {printable(str(value))}" for name, value in given.items() if value) or "none",
        inputs=hashlib.sha256("\0".join(inputs).encode("utf-8", "surrogateescape")).hexdigest(),
    )


def _look(
    kept: Journal, sources: Sources, job: Job, where: Cluster | int, seen: Callable[[Looked | None], None]
) -> int:
    """Look at what is not known yet, in a cluster or in so many processes; gives how many images and videos it was."""

    def unknown() -> Iterator[Source]:
        for pending in sources:
            if kept.known(pending.source):
                seen(None)
            else:
                yield pending.ready()

    new = 0
    chunks = _chunks(unknown())
    done = _in_processes(job, chunks, where) if isinstance(where, int) else where.look(job, chunks, _lost)
    with closing(done):
        for source, looked in done:
            kept.add(source, looked)
            seen(looked)
            new += source.begin == 0
    return new


def _in_processes(job: Job, chunks: Iterator[list[Source]], processes: int) -> Generator[tuple[Source, Looked]]:
    work = functools.partial(look_at, job)
    if processes:
        yield from in_processes(work, chunks, processes, _lost)
        return
    for chunk in chunks:
        yield from zip(chunk, work(chunk), strict=True)


def _chunks(sources: Iterator[Source]) -> Iterator[list[Source]]:
    """Some sources at a time: not many, not much, and a part of a video alone."""
    chunk: list[Source] = []
    size = 0
    for source in sources:
        chunk.append(source)
        size += len(source.data)
        if len(chunk) == _CHUNK or size > _CHUNK_BYTES or source.kind == "video":
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _lost(source: Source) -> Looked:
    return failed(source, f"{source.path}: ended the process that looked at it; is there too little memory?")


def _write(kept: Journal, outputs: Outputs, job: Job, maker: Maker, cluster: Cluster | None) -> Summary:
    """Make the table, and what else is wanted, of all that was seen."""
    images = faces = errors = 0
    emotions = dict.fromkeys(maker.labels, 0)

    def counted() -> Iterator[Row]:
        nonlocal images, faces, errors
        for path, new, rows in _rows(kept, job.every):
            images += new
            for row in rows:
                yield row
                if row.sighting.error:
                    errors += 1
                    listed(path, row.sighting.error)
                if row.sighting.face:
                    faces += 1
                    emotions[row.sighting.face.emotion] += 1

    with _error_list(outputs.errors) as listed:
        _fill(outputs.table, counted(), maker, cluster)
    if outputs.montage:
        for emotion in maker.labels:
            if thumbnails := kept.thumbnails(emotion):
                write_sheet(outputs.montage / f"{emotion.replace('/', '-')}.jpg", thumbnails)
    return Summary(images, faces, errors, emotions)


def _fill(out: str, rows: Iterator[Row], maker: Maker, cluster: Cluster | None) -> None:
    if parquet_dataset.is_dataset(out):
        parquet_dataset.write(out, rows, maker, cluster.each if cluster else map)
        return
    with remote.arriving(out) as place, table_writer.writing(place, maker) as table:
        for row in rows:
            table.append(row)


def _rows(kept: Journal, every: float | None) -> Iterator[tuple[str, bool, list[Row]]]:
    """The rows of each source, and whether it is another image or video than the one before; videos with tracks."""
    before = None
    tracker = Tracker(_LOST_AFTER_S)
    for path, video, looked in kept.looked():
        new = not video or path != before
        if new:
            tracker = Tracker(max(_LOST_AFTER_S, 2.5 * (every or 0)))
        before = path
        tracks = _tracks(tracker, looked.sightings) if video else itertools.repeat(None)
        yield (
            path,
            new,
            [
                Row(path=path, sighting=sighting, track=track, sha256=looked.sha256)
                for sighting, track in zip(looked.sightings, tracks, strict=False)
            ],
        )


def _tracks(tracker: Tracker, sightings: Sequence[Sighting]) -> Iterator[int | None]:
    """The number of the track of each sighting; None of those without a face."""
    for time, at_once in itertools.groupby(sightings, key=lambda sighting: sighting.time):
        some = list(at_once)
        tracker.end_lost(time or 0.0)
        tracker.next_frame(time or 0.0)
        tracks = iter(tracker.update([Face(one.face.box, one.detector_score or 0.0) for one in some if one.face]))
        yield from (next(tracks).number if sighting.face else None for sighting in some)


def _is_error_list(path: Path) -> bool:
    head = ",".join(_ERRORS_HEAD).encode()
    with path.open("rb") as file:
        return file.read(len(head)) in {head, b""}


@contextmanager
def _error_list(path: Path | None) -> Iterator[Callable[[str, str], object]]:
    """What takes a path and what went wrong with it."""
    if path is None:
        yield lambda _path, _error: None
        return
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(_ERRORS_HEAD)
        yield lambda where, error: writer.writerow((where, error))
