"""The results of processing a source; they travel between processes and machines, so all of them can be pickled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import printable
from fer_edge.expression import Expression
from fer_edge.tagging.selected_face import SelectedFace

if TYPE_CHECKING:
    from fer_edge.tagging.input.source import Source

THUMBNAIL_SIDE: Final = 96  # pixels


class FaceRecord(msgspec.Struct, frozen=True, array_like=True):
    """One face, an image or frame without a face, or an error.

    Attributes:
        face: the face and its expression; None if there is no face.
        detector_score: confidence of the detector; None for a face crop.
        time: time of the frame within its video, in seconds; None for an image.
        error: what went wrong; empty if nothing did.
        frame: number of the frame within its part of a video, because several frames may have the same time.
    """

    face: Expression | None = None
    detector_score: float | None = None
    time: float | None = None
    error: str = ""
    frame: int = 0


class Candidate(msgspec.Struct, frozen=True, array_like=True):
    """A face that may be selected for review.

    Attributes:
        face: the face and its crop.
        is_hard: whether it is uncertain or contradictory; otherwise it is selected only if its emotion turns out rare.
    """

    face: SelectedFace
    is_hard: bool


class SourceResult(msgspec.Struct, frozen=True, array_like=True):
    """Everything that was found in one source.

    Attributes:
        records: the records of the source; an image has at least one.
        sha256: hash of the file; None if it was not requested or the file could not be read.
        thumbnails: a JPEG for each record that has a face, in the same order; empty if they were not requested.
        candidates: faces that may be selected for review; empty if they were not requested.
    """

    records: tuple[FaceRecord, ...]
    sha256: str | None = None
    thumbnails: tuple[bytes, ...] = ()
    candidates: tuple[Candidate, ...] = ()


def failed_result(source: Source, error: str) -> SourceResult:
    """Return the result of a source that could not be processed."""
    time = source.begin if source.kind == "video" else None
    return SourceResult((FaceRecord(time=time, error=printable(error)),))


def result_of_failure(source: Source, reason: str) -> SourceResult:
    """Return the result of a source whose process crashed or was ended."""
    return failed_result(source, f"{source.path}: {reason}")
