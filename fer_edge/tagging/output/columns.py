"""The rows and columns of a table of faces.

==================  ================================================================================================
column              content
==================  ================================================================================================
path                the image, video, or archive and member; bytes that are not UTF-8 are kept (see each format)
time                of a frame of a video, in seconds
track               of a video: rows with one number show one face, followed over time; counts from 1 in each video
x y width height    the face, in pixels of the upright image; ``box`` in JSON Lines
emotion score       the label with the highest score, and that score, 0..1
score_<label>       the score of each label, 0..1; ``scores`` in JSON Lines
detector_score      the detector's confidence; comparable only within one detector
sha256              of the file, with ``--sha256``
error               what went wrong; the columns above are empty then, except path and time
model               name of the model
model_sha256        of the model's file
version             of fer-edge
==================  ================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fer_edge.tagging.records import FaceRecord

if TYPE_CHECKING:
    from fer_edge.geometry import Box


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What made a table; each row repeats it.

    Attributes:
        labels: Labels of the model, in order.
        model: Name of the model.
        model_sha256: Hash of the model's file.
        version: Version of fer-edge.
    """

    labels: tuple[str, ...]
    model: str
    model_sha256: str
    version: str


class FaceRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row: one face, an image or frame without a face, or an error.

    Attributes:
        path: The image or video, or the archive and the member.
        record: The face or the error.
        track: Number of the face within its video; None for images.
        sha256: Hash of the file.
    """

    path: str
    record: FaceRecord
    track: int | None = None
    sha256: str | None = None


def column_types(labels: tuple[str, ...]) -> dict[str, type]:
    """Return the columns of a table with the type of each; all but ``path`` may be empty."""
    return {
        "path": str,
        "time": float,
        "track": int,
        **dict.fromkeys(("x", "y", "width", "height"), float),
        "emotion": str,
        "score": float,
        **{f"score_{label}": float for label in labels},
        "detector_score": float,
        "sha256": str,
        "error": str,
        "model": str,
        "model_sha256": str,
        "version": str,
    }


def column_values(row: FaceRow, provenance: Provenance) -> tuple[object, ...]:
    """Return the values of a row, in the order of `column_types`."""
    record, face = row.record, row.record.face
    box: Box | tuple[None, ...] = face.box if face else (None,) * 4
    return (
        row.path,
        record.time,
        row.track,
        *box,
        face.emotion if face else None,
        face.score if face else None,
        *(face.scores.values() if face else (None,) * len(provenance.labels)),
        record.detector_score,
        row.sha256,
        record.error or None,
        provenance.model,
        provenance.model_sha256,
        provenance.version,
    )


def json_fields(row: FaceRow, provenance: Provenance) -> dict[str, object]:
    """Return the fields of a row in JSON Lines, where the box and the scores are one field each."""
    record, face = row.record, row.record.face
    return {
        "path": row.path,
        "time": record.time,
        "track": row.track,
        "box": face.box if face else None,
        "emotion": face.emotion if face else None,
        "score": face.score if face else None,
        "scores": face.scores if face else None,
        "detector_score": record.detector_score,
        "sha256": row.sha256,
        "error": record.error or None,
        "model": provenance.model,
        "model_sha256": provenance.model_sha256,
        "version": provenance.version,
    }
