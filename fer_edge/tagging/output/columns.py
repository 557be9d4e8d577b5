"""The rows and columns of a table of faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fer_edge.tagging.output.column import Column
from fer_edge.tagging.records import FaceRecord

if TYPE_CHECKING:
    from fer_edge.geometry import Box


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What made a table; each row repeats it.

    Attributes:
        labels: labels of the model, in order.
        model: name of the model.
        model_sha256: hash of the model's file.
        version: version of fer-edge.
    """

    labels: tuple[str, ...]
    model: str
    model_sha256: str
    version: str


class FaceRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row: one face, an image or frame without a face, or an error.

    Attributes:
        path: the image or video, or the archive and the member.
        record: the face or the error.
        track: number of the face within its video; None for images.
        sha256: hash of the file.
    """

    path: str
    record: FaceRecord
    track: int | None = None
    sha256: str | None = None


def table_columns(labels: tuple[str, ...]) -> tuple[Column, ...]:
    """Return the columns of a table, in order; all but ``path`` may be empty."""
    return (
        Column("path", str, "the image or video, or the archive and the member in it"),
        Column("time", float, "time of the frame within its video; empty for images", "in seconds"),
        Column("track", int, "of a video: rows with one number show one face; counts from 1 in each video"),
        Column("x", float, "left edge of the face; empty if there is none", "in pixels of the upright image"),
        Column("y", float, "top edge", "in pixels of the upright image"),
        Column("width", float, "width of the face", "in pixels of the upright image"),
        Column("height", float, "height of the face", "in pixels of the upright image"),
        Column("emotion", str, "label with the highest score"),
        Column("score", float, "score of that label", "0 to 1"),
        *(
            Column(f"score_{label}", float, "score of each label of the model; they add up to 1", "0 to 1")
            for label in labels
        ),
        Column(
            "reliable",
            int,
            "1 if the face is large, sharp and frontal enough to tell its expression, otherwise 0; `fer-edge report`"
            " counts such faces as unclear",
        ),
        Column("size", float, "longer side of the face", "in pixels of the upright image"),
        Column("roll", float, "clockwise rotation of the line through the eyes; empty with `--face`", "in degrees"),
        Column(
            "yaw",
            float,
            "how far the head is turned, above 0 towards the right of the image, estimated from the landmarks; empty"
            " with `--face`",
            "in degrees",
        ),
        Column(
            "sharpness",
            float,
            "variance of the Laplacian of the classifier's input over the variance of its pixels",
            "0 or more",
        ),
        Column(
            "detector_score",
            float,
            "confidence of the detector; with the shipped one, the expected share of such boxes that are faces; empty"
            " with `--face`",
            "0 to 1",
        ),
        Column("sha256", str, "SHA-256 of the file; empty without `--sha256`"),
        Column("error", str, "what went wrong; then all columns above are empty but `path` and `time`"),
        Column("model", str, "name of the model"),
        Column("model_sha256", str, "SHA-256 of the model's file"),
        Column("version", str, "version of fer-edge"),
    )


def column_types(labels: tuple[str, ...]) -> dict[str, type]:
    """Return the names of the columns of a table with the type of each."""
    return {column.name: column.kind for column in table_columns(labels)}


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
        int(face.reliable) if face else None,
        *(msgspec.structs.astuple(face.quality) if face and face.quality else (None,) * 4),
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
        "reliable": face.reliable if face else None,
        "quality": msgspec.structs.asdict(face.quality) if face and face.quality else None,
        "detector_score": record.detector_score,
        "sha256": row.sha256,
        "error": record.error or None,
        "model": provenance.model,
        "model_sha256": provenance.model_sha256,
        "version": provenance.version,
    }
