from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.classification.card_edit import set_card
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.errors import ModelError
from fer_edge.geometry import CropSpec
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes, write_card
from fer_edge.modelcard.reader import read_any_card, read_card
from fer_edge.modelcard.schema import ClassifierCard, DetectorCard, InputSpec, PixelSpec

if TYPE_CHECKING:
    from pathlib import Path

CARD = ClassifierCard(name="x", labels=("a", "b"), input=InputSpec(height=2, width=2, scale=1 / 128, offset=-1.0))
DETECTOR = DetectorCard(name="faces", input=PixelSpec(scale=1 / 128, offset=-1.0), crop_spec=CropSpec(0.9, 0.1))


def test_a_card_comes_back_and_any_unzip_tool_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    write_card(path, CARD)
    assert read_card(path, ClassifierCard) == CARD
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt") == b"a\nb\n"
    assert model_bytes(path) == b"\x1c\0\0\0TFL3" + bytes(100)


def test_the_same_card_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"model")
        write_card(tmp_path / name, CARD)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_face_detector_has_a_card_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "faces.tflite"
    path.write_bytes(b"model")
    write_card(path, DETECTOR)
    assert read_any_card(path) == read_card(path, DetectorCard) == DETECTOR
    assert (DETECTOR.task, CARD.task) == ("faces", "expression")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["fer_edge.json"]


def test_a_model_of_the_other_kind_is_refused_by_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "faces.tflite"
    path.write_bytes(model_bytes(DEFAULT_MODEL))
    write_card(path, DETECTOR)
    for use in (
        lambda path: read_card(path, ClassifierCard),
        TFLiteClassifier,
        lambda path: set_card(path, ("a", "b"), None),
    ):
        with pytest.raises(ModelError, match=r"faces\.tflite: a face detector.*; give a classifier here"):
            use(path)
    assert read_any_card(path) == DETECTOR
    with pytest.raises(ModelError, match=r"edge\.tflite: an expression classifier; give a face detector here"):
        read_card(DEFAULT_MODEL, DetectorCard)


def test_normalise_maps_pixels_to_real_values() -> None:
    real = CARD.input.normalise(np.array([[[0, 128], [255, 64]]], np.uint8))
    assert real.shape == (1, 2, 2, 1)
    assert real.ravel().tolist() == [-1.0, 0.0, 127 / 128, -0.5]


def test_no_card_or_a_damaged_one_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        read_card(tmp_path / "none.tflite", ClassifierCard)
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(model_bytes(DEFAULT_MODEL))
    with pytest.raises(ModelError, match="no model card in it"):
        read_card(bare, ClassifierCard)
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(DEFAULT_MODEL.read_bytes()[:-200])
    with pytest.raises(ModelError, match="no model card in it; the file was cut short"):
        read_card(cut, ClassifierCard)
    wrong = tmp_path / "wrong.tflite"
    shutil.copy(bare, wrong)
    with zipfile.ZipFile(wrong, "a") as archive:
        archive.writestr("fer_edge.json", '{"schema": 1, "name": "x"}')
    with pytest.raises(ModelError, match="damaged model card"):
        read_card(wrong, ClassifierCard)


# In a process of its own: what goes wrong here ends it.
READ_BY_THREADS = """
import importlib, sys, threading
from pathlib import Path
from fer_edge.modelcard import reader, schema

sys.setswitchinterval(1e-9)
for _ in range(20):
    importlib.reload(schema)  # so that its types are new
    importlib.reload(reader)
    together = threading.Barrier(16)

    def read():
        together.wait()
        reader.read_any_card(Path(sys.argv[1]))

    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_many_threads_may_be_the_first_to_read_a_card() -> None:
    subprocess.run([sys.executable, "-c", READ_BY_THREADS, str(DEFAULT_MODEL)], check=True)
