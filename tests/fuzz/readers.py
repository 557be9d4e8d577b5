"""Every reader of input from elsewhere, with inputs that it reads."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import msgspec
import numpy as np

from fer_edge.bench.results import read_report
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.classification.labels import parse_labels
from fer_edge.datasets.faces import load_faces
from fer_edge.datasets.label_map import load_label_map
from fer_edge.datasets.readers import load_dataset
from fer_edge.detection.network import NetworkDetector
from fer_edge.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from fer_edge.modelcard.archive import card_text, has_card, model_bytes, with_card
from fer_edge.modelcard.reader import read_any_card, read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge.tagging.input import archives
from fer_edge.tagging.input.dates import date_of
from fer_edge.tagging.input.image_decode import decode_colour_at, decode_image
from fer_edge.tagging.output.columns import column_types
from fer_edge.tagging.output.table_reader import read_table
from fer_edge.tflite import trial, trial_process
from fer_edge.tflite.graph import read_graph
from fer_edge.tflite.inspect import as_html, inspect_model
from fer_edge.utils.file_kinds import LeftOut
from fer_edge_device.config.load import load_config
from fer_edge_device.config.render import example
from fer_edge_train.bank import Bank, Views, digest
from fer_edge_train.recipe_files import load_recipe, recipe_text

if TYPE_CHECKING:
    from collections.abc import Callable

GRAY: Final = np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8)
COLOUR: Final = np.dstack([GRAY, GRAY // 2, GRAY // 3])


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader.

    Attributes:
        name: file name of its inputs.
        seeds: inputs that it reads.
        read: reads a file; raises `FerEdgeError` and nothing else.
        cost: how many times longer it takes than the quick ones.
    """

    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    cost: int = 1


def readers() -> list[Reader]:
    """Return all readers."""
    table, tree, votes = _face_table(), _class_images(), b"file,x,y,w,h\na.png,1,2,30,40\na.png,,,,\n"
    model, detector = DEFAULT_MODEL.read_bytes(), DEFAULT_DETECTOR.read_bytes()
    tarred = _tarred(tree)
    return [
        Reader("image", _images(), _read_image),
        Reader("a.zip", tuple(_zipped(tree, method) for method in (0, 8, 12, 14)), _read_archive),
        Reader("b.zip", (_zipped({"fer2013.csv": table}, 8), _zipped(tree, 8)), load_dataset),
        *(
            Reader(f"a.{ending}", (_pack(tarred, ending),), _read_archive)
            for ending in ("tar", "tar.gz", "tar.bz2", "tar.xz")
        ),
        Reader("b.tar.gz", (_pack(tarred, "tar.gz"), _pack(_tarred({"fer2013.csv": table}), "tar.gz")), load_dataset),
        Reader("fer2013.csv", (table,), load_dataset),
        Reader("labels.csv", (votes,), _read_boxes),
        Reader("t.csv", (_tag_table("csv"),), _read_rows),
        Reader("t.jsonl", (_tag_table("jsonl"),), _read_rows),
        Reader(
            "config.toml",
            (example().replace("# ", "").encode(), b'node = "a"\n[camera]\nsource = "demo"\n'),
            load_config,
        ),
        Reader("map.toml", (b'order = ["happy", "sad"]\n[all]\nanger = ""\n',), load_label_map),
        Reader("recipe.toml", (recipe_text("cnn3").encode(),), lambda path: load_recipe(str(path), [])),
        Reader("labels.txt", (b"angry\nhappy\nsad\n",), lambda path: parse_labels(str(path))),
        Reader("bench.json", (b'{"schema": 1, "made": "x"}',), read_report),
        Reader("a.npz", (_bank(),), lambda path: Bank.load(path, GRAY[None])),
        Reader("card.tflite", (model[-12_000:], detector[-60_000:]), _read_card),
        Reader("graph.tflite", (model_bytes(DEFAULT_MODEL), model_bytes(DEFAULT_DETECTOR)), _read_flatbuffer),
        Reader("inspect.tflite", (model, detector), _inspect, cost=20),
        Reader("hashed.tflite", (model_bytes(DEFAULT_MODEL),), _load_rehashed, cost=20),
        Reader("faces.tflite", (detector,), NetworkDetector, cost=5),
    ]


def try_in_fork(path: Path, request: trial_process.Request, model: bytes) -> bool:
    """Stand for `fer_edge.tflite.trial._try`: a fork of this process is quicker than a new one."""
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os._exit(trial_process.attempt(request, model))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return trial.interpret(path, status)


def _images() -> tuple[bytes, ...]:
    of_both = [(suffix, image) for suffix in (".png", ".jpg", ".bmp", ".tiff", ".webp") for image in (GRAY, COLOUR)]
    pairs = (*of_both, (".ppm", COLOUR), (".pgm", GRAY))
    images = [cv2.imencode(suffix, image)[1].tobytes() for suffix, image in pairs]
    images.append(cv2.imencode(".jpg", COLOUR, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes())
    from PIL import Image  # noqa: PLC0415 - an extra

    for kind in ("GIF", "JPEG", "PNG", "TIFF", "WEBP", "AVIF", "JPEG2000"):
        file = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112], exif[0x0132] = 6, "2024:01:02 03:04:05"
        image = Image.fromarray(COLOUR)
        try:
            image.save(file, kind, **({} if kind in {"GIF", "JPEG2000"} else {"exif": exif}))
        except (KeyError, OSError):  # this Pillow does not write it
            continue
        images.append(file.getvalue())
    return tuple(images)


def _face_table() -> bytes:
    face = " ".join(map(str, GRAY[:48, :48].ravel()))
    return f"emotion,pixels,Usage\n3,{face},Training\n4,{face},PublicTest\n".encode()


def _class_images() -> dict[str, bytes]:
    png = cv2.imencode(".png", GRAY)[1].tobytes()
    return {
        "train/happy/a.png": png,
        "train/sad/b.png": png,
        "test/happy/c.jpg": cv2.imencode(".jpg", GRAY)[1].tobytes(),
    }


def _zipped(members: dict[str, bytes], method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _tarred(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in {**members, f"train/sad/{'é' * 90}.png": b"x"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def _pack(data: bytes, ending: str) -> bytes:
    import bz2  # noqa: PLC0415 - of each the one that is needed
    import gzip  # noqa: PLC0415
    import lzma  # noqa: PLC0415

    if ending == "tar.gz":
        return gzip.compress(data)
    if ending == "tar.bz2":
        return bz2.compress(data)
    return lzma.compress(data) if ending == "tar.xz" else data


def _bank() -> bytes:
    codes = np.random.default_rng(1).integers(0, 99, (2, 1, 2), np.uint8)
    bank = Bank(("happy", "sad"), Views(), codes, np.array([False]), digest(GRAY[None]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank.npz"
        bank.save(path)
        return path.read_bytes()


def _tag_table(ending: str) -> bytes:
    if ending == "csv":
        face = "a.png,,,1,2,30,40,happy,0.9,0.9,0.8,,,edge,abc,1"
        error = "b.mp4,1.5,1,,,,,,,,,,damaged,edge,abc,1"
        return "\n".join([",".join(column_types(("happy",))), face, error, ""]).encode()
    return (
        b'{"path": "a.png", "time": null, "track": null, "box": [1, 2, 30, 40], "emotion": "happy", "score": 0.9,'
        b' "scores": {"happy": 0.9}, "error": null, "model": "edge", "model_sha256": "abc"}\n'
    )


def _read_image(path: Path) -> None:
    data = path.read_bytes()
    image = decode_image(data, path.name, 48, min_face=None, is_face=False)
    decode_colour_at(data, path.name, image)
    date_of(path)


def _read_archive(path: Path) -> None:
    for member in archives.members(path, (".png", ".jpg"), path.name, LeftOut()):
        assert "\n" not in member.error
        if member.read:
            member.read()


def _read_boxes(path: Path) -> None:
    (path.parent / "a.png").write_bytes(cv2.imencode(".png", GRAY)[1].tobytes())
    load_faces(path.parent)


def _read_rows(path: Path) -> None:
    for _ in read_table(path):
        pass


def _read_card(path: Path) -> None:
    has_card(path)
    card_text(path)
    read_any_card(path)


def _read_flatbuffer(path: Path) -> None:
    read_graph(path.read_bytes(), path)


def _inspect(path: Path) -> None:
    as_html(inspect_model(path))


def _load_rehashed(path: Path) -> None:
    """Load a model whose card has the right hash, as a hostile person would write it."""
    model = path.read_bytes()
    card = msgspec.structs.replace(
        read_card(DEFAULT_MODEL, ClassifierCard), flatbuffer_sha256=hashlib.sha256(model).hexdigest(), self_test=None
    )
    path.write_bytes(with_card(model, card))
    classifier = TFLiteClassifier(path)
    classifier.classify(np.zeros((2, card.input.height, card.input.width), np.uint8))


def is_one_line(message: str) -> bool:
    """Return whether a message is one line that a terminal can show."""
    return bool(message) and not re.search(r"[\x00-\x1f\x7f-\x9f]", message) and "internal error" not in message
