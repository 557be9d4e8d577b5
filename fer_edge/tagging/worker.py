"""Looking at images: some sources in, what was seen in each out.

This is what runs in other processes and on other machines: all that goes in and out can be pickled.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import msgspec
import numpy as np

from fer_edge.classification.classifier import TFLiteClassifier, classify_faces
from fer_edge.classification.crop import crop_face
from fer_edge.detection.factory import DetectorName, make_detector
from fer_edge.drawing import annotate
from fer_edge.errors import DataError, FerEdgeError, InputError, first_line, printable
from fer_edge.expression import Expression, expression
from fer_edge.geometry import NO_MARGIN, Box, Face
from fer_edge.tagging.input import archives, image_decode, remote, tempdirs
from fer_edge.tagging.input.video import frames
from fer_edge.tagging.output import xmp
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.image_io import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from fer_edge.detection.base import FaceDetector
    from fer_edge.tagging.input.image_decode import Still
    from fer_edge.tagging.input.sources import Source

THUMBNAIL: Final = 96  # pixels


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """How images are looked at.

    Attributes:
        model: the classifier's file.
        threads: of the classifier.
        face: whether the images are face crops.
        detector: what finds faces.
        detector_model: its file; None for the shipped network's.
        min_face: side of the smallest face to find, in pixels.
        every: seconds between the frames of a video that are looked at; None for every frame.
        sha256: whether files are hashed.
        sidecars: whether XMP sidecars are written.
        sidecar_dir: the folder for them; None for beside the images.
        annotate: the folder for annotated images, if any.
        thumbnails: whether a small image of each face is kept.
        max_fetch: bytes of the largest file that is fetched from an address, or video that is unpacked.
    """

    model: str
    threads: int = 1
    face: bool = False
    detector: DetectorName = "network"
    detector_model: str | None = None
    min_face: int | None = None
    every: float | None = None
    sha256: bool = False
    sidecars: bool = False
    sidecar_dir: str | None = None
    annotate: str | None = None
    thumbnails: bool = False
    max_fetch: int = 4_000_000_000


class Sighting(msgspec.Struct, frozen=True, array_like=True):
    """One face of an image, an image or frame without a face, or what went wrong.

    Attributes:
        face: how it looks; None where there is none.
        detector_score: the detector's own measure of how sure it is; None of a face crop.
        time: of a frame of a video, in seconds.
        error: what went wrong; empty where nothing did.
    """

    face: Expression | None = None
    detector_score: float | None = None
    time: float | None = None
    error: str = ""


class Looked(msgspec.Struct, frozen=True, array_like=True):
    """What was seen in a source.

    Attributes:
        sightings: at least one of an image.
        sha256: of the file, where it was wanted and could be read.
        thumbnails: a JPEG of each face, in the order of the sightings that have one, where they were wanted.
    """

    sightings: tuple[Sighting, ...]
    sha256: str | None = None
    thumbnails: tuple[bytes, ...] = ()


def failed(source: Source, why: str) -> Looked:
    """What is seen of a source that cannot be looked at."""
    return Looked((Sighting(time=source.begin if source.kind == "video" else None, error=printable(why)),))


def look_at(job: Job, sources: Sequence[Source]) -> list[Looked]:
    """Look at some images and parts of videos.

    Args:
        job: how.
        sources: where they are.

    Returns:
        What was seen in each; errors of a source are among it.

    Raises:
        ModelError: the model or the detector cannot be loaded.
    """
    looker = _looker(job)
    far = [source.place for source in sources if source.kind == "file" and remote.is_address(source.place)]
    if not far:
        return [looker.look(source) for source in sources]
    most = min(image_decode.LARGEST_FILE, job.max_fetch)
    with tempdirs.folder() as folder:
        fetched = dict(zip(far, remote.fetch_all(far, folder, most), strict=True))
        return [looker.look(source, fetched.get(source.place)) for source in sources]


class _Kept(threading.local):
    """What was loaded last; a worker of a cluster may have several threads, and an interpreter is for one."""

    job: Job | None = None
    looker: _Looker


_KEPT: Final = _Kept()


def _looker(job: Job) -> _Looker:
    if job != _KEPT.job:
        cv2.setNumThreads(1)  # there is a process or a thread for each core
        tempdirs.clean()  # on a machine of a cluster nobody else does
        _KEPT.looker, _KEPT.job = _Looker(job), job
    return _KEPT.looker


class _Looker:
    """A model and a detector that are loaded."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._classifier = TFLiteClassifier(Path(job.model), job.threads)
        spec = self._classifier.card.input
        self._smallest = max(spec.height, spec.width)
        self._detectors: dict[int, FaceDetector] = {}

    def look(self, source: Source, fetched: Path | DataError | None = None) -> Looked:
        """Look at one source; whatever is odd about it costs its own rows and no others.

        Args:
            source: where it is.
            fetched: of an image from far away: where it is now, or why it could not be had.
        """
        name = printable(source.path)
        if source.error:
            return failed(source, source.error)
        try:
            if isinstance(fetched, DataError):
                return failed(source, str(fetched))
            if source.kind == "video":
                return self._video(source, name)
            return self._still(source, name, _data(source, fetched))
        except DataError as error:
            return failed(source, str(error))
        except Exception as error:  # noqa: BLE001 - nobody knows what all decoders raise
            return failed(source, f"{name}: cannot be looked at ({type(error).__name__}: {first_line(error)})")

    def _still(self, source: Source, name: str, data: bytes) -> Looked:
        job = self._job
        still = image_decode.decode(data, name, self._smallest, min_face=job.min_face, is_face=job.face)
        found, small = self._faces(still.gray, still.reduced)
        sightings = [
            Sighting(msgspec.structs.replace(face, box=_enlarged(face.box, still.reduced)), score)
            for face, score in found
        ]
        errors = []
        if job.annotate and found:
            drawn = annotate(image_decode.colour(data, name, still), [face for face, _ in found])
            errors += _save(drawn, Path(job.annotate) / xmp.inner_path(source.path), source.place)
        if job.sidecars:
            faces = [sighting.face for sighting in sightings if sighting.face]
            errors += self._sidecar(source, still, faces)
        digest = hashlib.sha256(data).hexdigest() if job.sha256 else None
        return Looked((*(sightings or [Sighting()]), *(Sighting(error=what) for what in errors)), digest, tuple(small))

    def _video(self, source: Source, name: str) -> Looked:
        sightings: list[Sighting] = []
        thumbnails: list[bytes] = []
        digest, here = None, name
        try:
            with _at_hand(source, self._job.max_fetch) as path:
                here = str(path)
                if self._job.sha256:
                    digest = _digest(path, path.stat().st_mtime_ns)
                for frame in frames(path, source.begin, source.end, self._job.every):
                    gray = np.asarray(cv2.cvtColor(frame.colour, cv2.COLOR_BGR2GRAY), np.uint8)
                    found, small = self._faces(gray, 1)
                    thumbnails += small
                    sightings += [Sighting(face, score, frame.time) for face, score in found]
                    if not found:
                        sightings.append(Sighting(time=frame.time))
                    if self._job.annotate and found:
                        drawn = annotate(frame.colour, [face for face, _ in found])
                        place = Path(self._job.annotate) / xmp.inner_path(source.path) / f"{frame.time:012.3f}.jpg"
                        sightings += [
                            Sighting(time=frame.time, error=what) for what in _save(drawn, place, source.place)
                        ]
        except DataError as error:  # what came before it counts
            sightings.append(Sighting(time=source.begin, error=printable(str(error).replace(here, name))))
        return Looked(tuple(sightings), digest, tuple(thumbnails))

    def _faces(
        self, gray: npt.NDArray[np.uint8], reduced: int
    ) -> tuple[list[tuple[Expression, float | None]], list[bytes]]:
        """Faces with the detector's scores, and thumbnails of them where they are wanted."""
        job = self._job
        rows, columns = gray.shape
        scores: list[float | None] = [None]
        if job.face:
            faces, crop_spec = [Face(Box(0, 0, columns, rows), 1.0)], NO_MARGIN
        else:
            detector = self._detector(reduced)
            faces, crop_spec = detector.detect(gray), detector.crop_spec
            scores = [round(face.score, 4) for face in faces]
        given = classify_faces(gray, faces, crop_spec, self._classifier)
        labels = self._classifier.card.labels
        found = [
            (expression(face.box, row, labels), score) for face, row, score in zip(faces, given, scores, strict=True)
        ]
        crops = (crop_face(gray, face.box, THUMBNAIL, THUMBNAIL, crop_spec) for face in faces if job.thumbnails)
        return found, [cv2.imencode(".jpg", crop)[1].tobytes() for crop in crops]

    def _detector(self, reduced: int) -> FaceDetector:
        """The detector for images that are so many times smaller than they were."""
        if reduced not in self._detectors:
            job = self._job
            path = Path(job.detector_model) if job.detector_model else None
            smallest = job.min_face // reduced if job.min_face else None
            self._detectors[reduced] = make_detector(job.detector, path, smallest)
        return self._detectors[reduced]

    def _sidecar(self, source: Source, still: Still, faces: list[Expression]) -> list[str]:
        job = self._job
        if job.sidecar_dir:
            place = Path(job.sidecar_dir) / xmp.inner_path(source.path)
        elif source.kind == "member" or remote.is_address(source.place):
            return [f"{printable(source.path)}: no sidecar can be beside it; give --sidecar-dir"]
        else:
            place = Path(source.place)
        place = place.with_name(f"{place.name}.xmp")
        try:
            xmp.write(place, still, faces)
        except (FerEdgeError, OSError) as error:
            return [_not_written(place, error)]
        return []


def _data(source: Source, fetched: Path | None) -> bytes:
    if source.kind == "member":
        return source.data
    path = fetched or Path(source.place)
    try:
        return read_bytes(path, image_decode.LARGEST_FILE)
    except DataError as error:
        raise DataError(str(error).replace(str(path), source.path)) from error


@contextmanager
def _at_hand(source: Source, most: int) -> Iterator[Path]:
    """A file of this machine with the video in it."""
    is_far = remote.is_address(source.place)
    if not is_far and source.number is None:
        yield Path(source.place)
        return
    with tempdirs.folder() as folder:
        path = folder / f"video{Path(source.path).suffix}"
        if is_far:
            remote.fetch(source.place, path, most)
        else:
            archives.unpack(Path(source.place), source.number or 0, printable(source.path), path, most)
        yield path


@functools.lru_cache(maxsize=1)
def _digest(path: Path, changed: int) -> str:  # noqa: ARG001 - a part of what is remembered
    """Of a video's file, read once for all its parts that come to this process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _enlarged(box: Box, factor: int) -> Box:
    return Box(*(round(value * factor, 1) for value in box)) if factor > 1 else box


def _save(image: npt.NDArray[np.uint8], path: Path, original: str) -> list[str]:
    """Write an image, but not over another; what went wrong, if anything did."""
    ending = path.suffix.lower() if path.suffix.lower() in {".jpg", ".jpeg", ".png"} else ".jpg"
    path = path if path.suffix.lower() == ending else path.with_name(path.name + ending)
    try:
        if path.exists() and Path(original).exists() and path.samefile(original):
            raise InputError(f"{path}: is the image itself; annotate into a folder of its own")
        with replacing(path) as temporary:
            temporary.write_bytes(cv2.imencode(ending, image)[1].tobytes())
    except (FerEdgeError, OSError) as error:
        return [_not_written(path, error)]
    return []


def _not_written(path: Path, error: FerEdgeError | OSError) -> str:
    return printable(f"{path}: cannot be written ({error.strerror})" if isinstance(error, OSError) else str(error))
