"""Process sources: detect and classify the faces in them.

This code runs in other processes and on other machines, so all its arguments and results can be pickled.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import msgspec

from fer_edge.classification.classifier import TFLiteClassifier, classify_faces
from fer_edge.classification.crop import crop_face
from fer_edge.classification.selection import (
    MARGIN,
    contradicts_mirror_image,
    crop_for_review,
    label_scores,
    score_margin,
)
from fer_edge.detection.factory import make_detector
from fer_edge.drawing import draw_faces
from fer_edge.errors import DataError, first_line, one_line, printable
from fer_edge.expression import Expression, expression
from fer_edge.geometry import NO_MARGIN, Box, Face
from fer_edge.tagging.input import image_decode, remote, tempdirs
from fer_edge.tagging.input.local_file import hash_video, local_video, read_image
from fer_edge.tagging.input.video import read_frames
from fer_edge.tagging.output.image_files import save_copy, save_sidecar
from fer_edge.tagging.output.xmp import relative_path
from fer_edge.tagging.records import THUMBNAIL_SIDE, Candidate, FaceRecord, SourceResult, failed_result
from fer_edge.tagging.selected_face import GROUP_CHARACTERS, SelectedFace
from fer_edge.tflite.trial import trust_models
from fer_edge.utils.limits import IMAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from fer_edge.detection.base import FaceDetector
    from fer_edge.geometry import CropSpec
    from fer_edge.tagging.input.image_decode import StoredImage
    from fer_edge.tagging.input.source import Source
    from fer_edge.tagging.options import TagOptions
    from fer_edge.video.base import VideoFrame

_CANDIDATES_S: Final = 10.0  # between two frames of a video whose faces may be selected: neighbours are much alike


def process_in_worker(options: TagOptions, sources: Sequence[Source]) -> Iterator[SourceResult]:
    """Process sources in a process or thread that is one of several: like `process`, on one core."""
    cv2.setNumThreads(1)
    trust_models()  # which the process that hands out the work has tried
    return process(options, sources)


def process(options: TagOptions, sources: Sequence[Source]) -> Iterator[SourceResult]:
    """Process images and parts of videos one by one.

    Args:
        options: how to process them.
        sources: the images and parts.

    Yields:
        The result of each source; errors of a source are part of its result.

    Raises:
        ModelError: the model or the detector cannot be loaded.
    """
    processor = _load_processor(options)
    addresses = [source.uri for source in sources if source.kind == "file" and remote.is_address(source.uri)]
    if not addresses:
        yield from map(processor.process, sources)
        return
    max_bytes = min(IMAGE_BYTES, options.max_fetch)
    with tempdirs.folder() as folder:
        fetched = dict(zip(addresses, remote.fetch_all(addresses, folder, max_bytes), strict=True))
        yield from (processor.process(source, fetched.get(source.uri)) for source in sources)


class _Cache(threading.local):
    """The processor that was loaded last, one a thread: a worker of a cluster may have several threads."""

    options: TagOptions | None = None
    processor: _Processor


_CACHE: Final = _Cache()


def _load_processor(options: TagOptions) -> _Processor:
    if options != _CACHE.options:
        tempdirs.clean()  # on a machine of a cluster nothing else does
        _CACHE.processor, _CACHE.options = _Processor(options), options
    return _CACHE.processor


class _FoundFaces(NamedTuple):
    """The faces of an image.

    Attributes:
        faces: each face with the detector's score.
        thumbnails: a JPEG of each, if they were requested.
        candidates: faces that may be selected for review, if they were requested.
    """

    faces: list[tuple[Expression, float | None]]
    thumbnails: list[bytes]
    candidates: list[Candidate]


class _Processor:
    """A loaded classifier and detector."""

    def __init__(self, options: TagOptions) -> None:
        self._options = options
        self._classifier = TFLiteClassifier(Path(options.model), options.threads)
        spec = self._classifier.card.input
        self._min_side = max(spec.height, spec.width)
        self._detectors: dict[int, FaceDetector] = {}
        self._last_copy: tuple[Path, float] | None = None

    def process(self, source: Source, fetched: Path | DataError | None = None) -> SourceResult:
        """Process one source; an error in it affects its own records only.

        Args:
            source: the source.
            fetched: the local copy of an image from an address, or the error that fetching it gave.
        """
        name = printable(source.path)
        if source.error:
            return failed_result(source, source.error)
        try:
            if isinstance(fetched, DataError):
                return failed_result(source, str(fetched))
            if source.kind == "video":
                return self._process_video(source, name)
            return self._process_image(source, name, read_image(source, fetched))
        except DataError as error:
            return failed_result(source, str(error))
        except Exception as error:  # noqa: BLE001 - decoders raise errors of many kinds
            message = f"{name}: cannot be processed ({type(error).__name__}: {first_line(error)})"
            return failed_result(source, message)

    def _process_image(self, source: Source, name: str, data: bytes) -> SourceResult:
        options = self._options
        image = image_decode.decode_image(data, name, self._min_side, min_face=options.min_face, is_face=options.face)
        found = self._find_faces(image.gray, image.reduction, source.path)
        records = [FaceRecord(_scale(face, image.reduction), score) for face, score in found.faces]
        errors = []
        if options.annotate and found.faces:
            errors.append(self._annotate_image(source, name, data, image, [face for face, _ in found.faces]))
        if options.sidecars:
            faces = [record.face for record in records if record.face]
            errors.append(save_sidecar(source, image, faces, options.sidecar_dir))
        failures = [FaceRecord(error=error) for error in errors if error]
        digest = hashlib.sha256(data).hexdigest() if options.sha256 else None
        records = [*(records or [FaceRecord()]), *failures]
        return SourceResult(tuple(records), digest, tuple(found.thumbnails), tuple(found.candidates))

    def _annotate_image(
        self, source: Source, name: str, data: bytes, image: StoredImage, faces: Sequence[Expression]
    ) -> str:
        """Write a copy with the faces drawn, and return why that failed; empty if it did not."""
        try:
            copy = image_decode.decode_colour_at(data, name, image)
        except DataError as error:  # the faces count
            return f"{error}; it was not annotated"
        draw_faces(copy, faces)
        return save_copy(copy, Path(self._options.annotate or "") / relative_path(source.path), source.uri)

    def _process_video(self, source: Source, name: str) -> SourceResult:
        records: list[FaceRecord] = []
        thumbnails: list[bytes] = []
        candidates: list[Candidate] = []
        candidates_at = source.begin
        digest, local_name = None, name
        try:
            with local_video(source, self._options.max_fetch) as path:
                local_name = str(path)
                if self._options.sha256:
                    digest = hash_video(path)
                frames = read_frames(path, source.begin, source.end, self._options.every)
                for number, frame in enumerate(frames):
                    frame_records, found = self._process_frame(
                        frame, number, source, is_due=frame.time >= candidates_at
                    )
                    records += frame_records
                    thumbnails += found.thumbnails
                    candidates += found.candidates
                    if found.candidates:
                        candidates_at = frame.time + _CANDIDATES_S
        except DataError as error:  # the frames before the error count
            message = printable(str(error).replace(local_name, name))
            records.append(FaceRecord(time=source.begin, error=message))
        return SourceResult(tuple(records), digest, tuple(thumbnails), tuple(candidates))

    def _process_frame(
        self, frame: VideoFrame, number: int, source: Source, *, is_due: bool
    ) -> tuple[list[FaceRecord], _FoundFaces]:
        time = round(frame.time, 3)
        found = self._find_faces(frame.gray(), 1, source.path if is_due else None)
        records = [FaceRecord(face, score, time, frame=number) for face, score in found.faces]
        records = records or [FaceRecord(time=time, frame=number)]
        if self._options.annotate and found.faces:
            copy = frame.bgr()
            draw_faces(copy, [face for face, _ in found.faces])
            folder = Path(self._options.annotate) / relative_path(source.path)
            if error := save_copy(copy, self._copy_path(folder, time, number), source.uri):
                records.append(FaceRecord(time=time, error=error, frame=number))
        return records, found

    def _copy_path(self, folder: Path, time: float, number: int) -> Path:
        """Return where the copy of a frame goes; the second and later frames of the same time get their number, too."""
        repeated = self._last_copy == (folder, time)
        self._last_copy = folder, time
        return folder / (f"{time:012.3f}-{number}.jpg" if repeated else f"{time:012.3f}.jpg")

    def _find_faces(self, gray: npt.NDArray[np.uint8], reduction: int, group: str | None) -> _FoundFaces:
        """Find the faces of an image.

        Args:
            gray: the image.
            reduction: how many times smaller it is than the original.
            group: what the faces that may be selected for review belong to; None selects none.
        """
        options = self._options
        rows, columns = gray.shape
        detector_scores: list[float | None] = [None]
        if options.face:
            faces, crop_spec = [Face(Box(0, 0, columns, rows), 1.0)], NO_MARGIN
        else:
            detector = self._load_detector(reduction)
            faces, crop_spec = detector.detect(gray), detector.crop_spec
            detector_scores = [round(face.score, 4) for face in faces]
        classified = classify_faces(gray, faces, crop_spec, self._classifier)
        labels = self._classifier.card.labels
        found = [
            (expression(face.box, row, labels, quality), detector_score)
            for face, row, quality, detector_score in zip(faces, *classified, detector_scores, strict=True)
        ]
        crops = (
            crop_face(gray, face.box, THUMBNAIL_SIDE, THUMBNAIL_SIDE, crop_spec) for face in faces if options.thumbnails
        )
        thumbnails = [cv2.imencode(".jpg", crop)[1].tobytes() for crop in crops]
        candidates = []
        if options.candidates and group is not None:
            candidates = [
                self._candidate(gray, face, crop_spec, row, group)
                for face, row, quality in zip(faces, *classified, strict=True)
                if quality.suffices()
            ]
        return _FoundFaces(found, thumbnails, candidates)

    def _candidate(
        self, gray: npt.NDArray[np.uint8], face: Face, crop_spec: CropSpec, scores: npt.NDArray[np.float32], group: str
    ) -> Candidate:
        """Cut out a face, and say whether it is hard for the classifier."""
        classifier = self._classifier
        crop = crop_for_review(gray, face, crop_spec, classifier.card.input)
        is_uncertain = score_margin(scores) < MARGIN
        labels = classifier.card.labels
        return Candidate(
            SelectedFace(
                png=cv2.imencode(".png", crop)[1].tobytes(),
                time=None,
                node="",
                model=f"{classifier.card.name}-{classifier.sha256[:8]}",
                emotion=labels[int(scores.argmax())],
                scores=label_scores(scores, labels),
                reason="uncertain" if is_uncertain else "contradictory",
                group=one_line(printable(group))[-GROUP_CHARACTERS:],
            ),
            is_hard=is_uncertain or contradicts_mirror_image(crop, classifier),
        )

    def _load_detector(self, reduction: int) -> FaceDetector:
        """Return the detector for images that are decoded at a reduction."""
        if reduction not in self._detectors:
            options = self._options
            path = Path(options.detector_model) if options.detector_model else None
            min_face = options.min_face // reduction if options.min_face else None
            self._detectors[reduction] = make_detector(options.detector, path, min_face, options.min_score)
        return self._detectors[reduction]


def _scale(face: Expression, factor: int) -> Expression:
    """Return a face of an image that was decoded at a reduction, in pixels of the full image."""
    if factor == 1 or face.quality is None:
        return face
    box = Box(*(round(value * factor, 1) for value in face.box))
    quality = msgspec.structs.replace(face.quality, size=round(face.quality.size * factor, 1))
    return msgspec.structs.replace(face, box=box, quality=quality)
