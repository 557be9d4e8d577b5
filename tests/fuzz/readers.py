"""Every reader of input from elsewhere, with inputs that it reads."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import cv2
import msgspec
import numpy as np

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.classification.label_list import parse_labels
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
from fer_edge.tflite import trial, trial_process
from fer_edge.tflite.graph import read_graph
from fer_edge.tflite.inspect import as_html, inspect_model
from fer_edge.utils.file_kinds import LeftOut
from fer_edge_train.bank import Bank, Views, digest
from fer_edge_train.recipe_files import load_recipe, recipe_text

from .device_readers import device_readers
from .model_readers import model_readers
from .reader import Reader
from .review_readers import review_readers
from .table_readers import GRAY, face_table, table_readers
from .video_readers import video_readers

_TRY: Final = trial._try
COLOUR: Final = np.dstack([GRAY, GRAY // 2, GRAY // 3])


def readers() -> list[Reader]:
    """Return all readers."""
    table, tree = face_table(), _class_images()
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
        Reader("map.toml", (b'order = ["happy", "sad"]\n[all]\nanger = ""\n',), load_label_map),
        Reader("recipe.toml", (recipe_text("cnn3").encode(),), lambda path: load_recipe(str(path), [])),
        Reader("labels.txt", (b"angry\nhappy\nsad\n",), lambda path: parse_labels(str(path))),
        Reader("a.npz", (_bank(),), lambda path: Bank.load(path, GRAY[None])),
        Reader("card.tflite", (model[-12_000:], detector[-60_000:]), _read_card),
        Reader("graph.tflite", (model_bytes(DEFAULT_MODEL), model_bytes(DEFAULT_DETECTOR)), _read_flatbuffer),
        Reader("inspect.tflite", (model, detector), _inspect, cost=20),
        Reader("hashed.tflite", (model_bytes(DEFAULT_MODEL),), _load_rehashed, cost=20),
        Reader("faces.tflite", (detector,), NetworkDetector, cost=5),
        *table_readers(),
        *review_readers(),
        *device_readers(),
        *model_readers(),
        *video_readers(),
    ]


def try_in_fork(path: Path, request: trial_process.Request, model: bytes) -> bool:
    """Stand for `fer_edge.tflite.trial._try`: a fork of this process is quicker than a new one."""
    if request.path:  # OpenCV runs the model on threads, which a fork does not have
        return _TRY(path, request, model)
    child = os.fork()
    if not child:
        gc.freeze()  # as in read_in_fork
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
