"""Readers of tables: those of `fer-edge tag` in every format, of datasets, and results of `fer-edge bench`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import cv2
import msgspec
import numpy as np

from fer_edge.bench import compare, page, text
from fer_edge.bench.results import SCHEMA, Report, decode_report, read_report
from fer_edge.datasets.faces import load_faces
from fer_edge.datasets.ferplus import add_votes
from fer_edge.datasets.readers import load_dataset
from fer_edge.expression import expression
from fer_edge.geometry import Box
from fer_edge.quality import FaceQuality
from fer_edge.tagging.input import sources
from fer_edge.tagging.output.columns import FaceRow, Provenance, column_types
from fer_edge.tagging.output.table_reader import read_table
from fer_edge.tagging.output.table_writer import open_table
from fer_edge.tagging.records import FaceRecord

from .reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

GRAY: Final = np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8)
_VOTES: Final = (
    b"Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
    b"Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0\nPublicTest,fer0000001.png,0,9,0,0,0,0,0,0,0,1\n"
)


def table_readers() -> Iterator[Reader]:
    """Yield the readers."""
    yield Reader("fer2013.csv", (face_table(),), load_dataset)
    yield Reader("labels.csv", (b"file,x,y,w,h\na.png,1,2,30,40\na.png,,,,\n",), _read_boxes)
    yield Reader("fer2013new.csv", (_VOTES,), _read_votes)
    for ending in ("csv", "jsonl", "sqlite", "parquet"):
        yield Reader(f"t.{ending}", (_tag_table(ending),), _read_rows, cost=1 if ending in {"csv", "jsonl"} else 3)
    yield Reader("bench.json", (_report(),), _compare)
    yield Reader("list.txt", (b"a.png\nb.png\r\n-\n", "ä.png\n".encode("utf-16"), b"a\0b\nc\0"), _read_list)


def face_table() -> bytes:
    """Return a small `fer2013.csv`."""
    face = " ".join(map(str, GRAY[:48, :48].ravel()))
    return f"emotion,pixels,Usage\n3,{face},Training\n4,{face},PublicTest\n".encode()


def _tag_table(ending: str) -> bytes:
    if ending == "csv":
        row = "a.png,,,1,2,30,40,happy,0.9,0.9,1,40,1,2,0.5,0.8,,,edge,abc,1"
        error = "b.mp4,1.5,1,,,,,,,,,,,,,,,damaged,edge,abc,1"
        return "\n".join([",".join(column_types(("happy",))), row, error, ""]).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"t.{ending}")
        with open_table(
            path, Provenance(labels=("happy", "sad"), model="edge", model_sha256="abc", version="1")
        ) as writer:
            face = expression(
                Box(1, 2, 30, 40), np.array([0.9, 0.1], np.float32), ("happy", "sad"), FaceQuality(40, 1, 2, 0.5)
            )
            writer.append(FaceRow(path="a.png", record=FaceRecord(face, 0.9)))
            writer.append(FaceRow(path="b.mp4", record=FaceRecord(time=1.5, error="damaged"), track=1))
        return path.read_bytes()


def _report() -> bytes:
    """Return a result of `fer-edge bench` with each field filled by its type."""
    return msgspec.json.encode({**_example(Report), "schema": SCHEMA})


def _example(kind: Any) -> Any:  # noqa: ANN401 - of any type
    """Return a value of a type, in the form that JSON has."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _example(arguments[0])
    if origin is Literal:
        return arguments[0]
    if origin is tuple:
        many = Ellipsis in arguments
        return [_example(each) for each in arguments if each is not Ellipsis] * (30 if many else 1)
    if origin is dict:
        return {"x": _example(arguments[1])}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind, include_extras=True)
        return {field.encode_name: _example(hints[field.name]) for field in msgspec.structs.fields(kind)}
    simple = {str: "x", int: 1, float: 1.0, bool: True, type(None): None}
    return _example(arguments[0]) if arguments else simple[kind]  # of a union, the first


def _read_rows(path: Path) -> None:
    for _ in read_table(path):
        pass


def _read_boxes(path: Path) -> None:
    (path.parent / "a.png").write_bytes(cv2.imencode(".png", GRAY)[1].tobytes())
    load_faces(path.parent)


def _read_votes(path: Path) -> None:
    table = path.with_name("fer2013.csv")
    table.write_bytes(face_table())
    add_votes(load_dataset(table), path)


def _read_list(path: Path) -> None:
    for null in (False, True):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            for _ in sources._read_list(descriptor, null=null):
                pass
        finally:
            os.close(descriptor)


def _compare(path: Path) -> None:
    report = read_report(path)
    text.as_text(report)
    page.as_html(report)
    compare.as_text(compare.compare_reports(decode_report(_report(), "x"), report, anyway=True))
