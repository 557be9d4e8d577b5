from __future__ import annotations

import shutil
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.card import Card, InputSpec, model_bytes, read_card, write_card
from fer_edge.classify import DEFAULT_MODEL
from fer_edge.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

CARD = Card(name="x", labels=("a", "b"), input=InputSpec(height=2, width=2, scale=1 / 128, offset=-1.0))


def test_a_card_comes_back_and_any_unzip_tool_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    write_card(path, CARD)
    assert read_card(path) == CARD
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt") == b"a\nb\n"
    assert model_bytes(path) == b"\x1c\0\0\0TFL3" + bytes(100)


def test_the_same_card_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"model")
        write_card(tmp_path / name, CARD)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_normalise_maps_pixels_to_real_values() -> None:
    real = CARD.input.normalise(np.array([[[0, 128], [255, 64]]], np.uint8))
    assert real.shape == (1, 2, 2, 1)
    assert real.ravel().tolist() == [-1.0, 0.0, 127 / 128, -0.5]


def test_no_card_or_a_damaged_one_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        read_card(tmp_path / "none.tflite")
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(model_bytes(DEFAULT_MODEL))
    with pytest.raises(ModelError, match="no model card in it"):
        read_card(bare)
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(DEFAULT_MODEL.read_bytes()[:-200])
    with pytest.raises(ModelError, match="no model card in it; the file was cut short"):
        read_card(cut)
    wrong = tmp_path / "wrong.tflite"
    shutil.copy(bare, wrong)
    with zipfile.ZipFile(wrong, "a") as archive:
        archive.writestr("fer_edge.json", '{"schema": 1, "name": "x"}')
    with pytest.raises(ModelError, match="damaged model card"):
        read_card(wrong)
