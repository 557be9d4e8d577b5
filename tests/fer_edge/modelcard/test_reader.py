from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

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


# This runs in a separate process, because the fault ends the process.
READ_BY_THREADS = """
import importlib, sys, threading
from pathlib import Path
from fer_edge.modelcard import reader, schema

sys.setswitchinterval(1e-9)
for _ in range(20):
    importlib.reload(schema)  # creates new types
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


def test_reads_card_of_a_face_detector(tmp_path: Path) -> None:
    path = tmp_path / "faces.tflite"
    path.write_bytes(b"model")
    write_card(path, DETECTOR)
    assert read_any_card(path) == read_card(path, DetectorCard) == DETECTOR
    assert (DETECTOR.task, CARD.task) == ("faces", "expression")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["fer_edge.json"]


def test_rejects_model_of_another_kind(tmp_path: Path) -> None:
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


def test_rejects_missing_and_damaged_cards(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        read_card(tmp_path / "none.tflite", ClassifierCard)
    without_card = tmp_path / "bare.tflite"
    without_card.write_bytes(model_bytes(DEFAULT_MODEL))
    with pytest.raises(ModelError, match="no model card in it"):
        read_card(without_card, ClassifierCard)
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(DEFAULT_MODEL.read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"damaged model card \(File is not a zip file\)"):
        read_card(cut, ClassifierCard)
    wrong = tmp_path / "wrong.tflite"
    shutil.copy(without_card, wrong)
    with zipfile.ZipFile(wrong, "a") as archive:
        archive.writestr("fer_edge.json", '{"schema": 1, "name": "x"}')
    with pytest.raises(ModelError, match="damaged model card"):
        read_card(wrong, ClassifierCard)


def test_several_threads_may_read_the_first_card() -> None:
    subprocess.run([sys.executable, "-c", READ_BY_THREADS, str(DEFAULT_MODEL)], check=True)
