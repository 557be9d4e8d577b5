from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from fer_edge.modelcard.archive import model_bytes, write_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard, InputSpec

if TYPE_CHECKING:
    from pathlib import Path

CARD = ClassifierCard(name="x", labels=("a", "b"), input=InputSpec(height=2, width=2, scale=1 / 128, offset=-1.0))


def test_written_card_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    write_card(path, CARD)
    assert read_card(path, ClassifierCard) == CARD
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt") == b"a\nb\n"
    assert model_bytes(path) == b"\x1c\0\0\0TFL3" + bytes(100)


def test_same_card_gives_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"model")
        write_card(tmp_path / name, CARD)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
