"""Readers of what a review reads: the table of a folder, logs of other reviewers, and the manifest of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_edge.review.agreement import Agreement, ReviewerCount
from fer_edge.review.choices import NO_EMOTION, emotion_problem
from fer_edge.review.decisions import read_log
from fer_edge.review.face_table import read_face_table
from fer_edge.review.manifest import SCHEMA, DatasetFace, Manifest, Review, dataset_file, read_manifest

from .reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FACE: Final = "ab" * 32
_TABLE: Final = (
    "file,sha256,time,node,model,emotion,score_happy,score_sad,reason,group\n"
    f"a.png,{_FACE},2026-11-30T12:00:00Z,hall,edge,happy,0.75,0.25,rare,ann\nb.png,,,,,sad,0.1,0.9,,\n"
)
_LOG: Final = (
    f'{{"time":"2026-11-30T12:00:00Z","labels":{{"{_FACE}":"happy"}}}}\n'
    f'{{"time":"2026-11-30T12:00:01Z","labels":{{"{_FACE}":null}},"undo":true}}\n'
)


def review_readers() -> Iterator[Reader]:
    """Yield the readers."""
    yield Reader("faces.csv", (_TABLE.encode(),), _read_table)
    yield Reader("ann.jsonl", (_LOG.encode(),), _read_log)
    yield Reader("manifest.json", (_manifest(),), _read_manifest)


def _manifest() -> bytes:
    face = DatasetFace(
        file=dataset_file("train", "happy", _FACE),
        sha256=_FACE,
        source="a.png",
        source_sha256=_FACE,
        label="happy",
        split="train",
        group="",
        reviews=(Review("ann", "happy", "2026-11-30T12:00:00Z"),),
    )
    return Manifest(
        schema=SCHEMA,
        version=1,
        created="2026-11-30T12:00:00Z",
        program="fer-edge 1",
        test_share=0.2,
        agreement=Agreement((ReviewerCount("ann", 1),), (), 0, None),
        faces=(face,),
        left_out=(),
    ).encode()


def _read_table(path: Path) -> None:
    table = read_face_table(path, {"a.png", "b.png"})
    assert not any(map(emotion_problem, table.emotions))
    assert set(table.rows) <= {"a.png", "b.png"}
    for row in table.rows.values():
        assert not row.scores or row.emotion in row.scores
        assert all(0 <= score <= 1 for score in row.scores.values())


def _read_log(path: Path) -> None:
    for answer in read_log(path).answers.values():
        assert answer.label in NO_EMOTION or not emotion_problem(answer.label)


def _read_manifest(path: Path) -> None:
    manifest = read_manifest(path.parent)
    for face in manifest.faces if manifest else ():
        folder, label, name = face.file.split("/")
        assert folder in {"train", "test"}
        assert not emotion_problem(label)
        assert name.removesuffix(".png").isalnum()
