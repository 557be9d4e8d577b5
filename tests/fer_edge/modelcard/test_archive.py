from __future__ import annotations

import html
import zipfile
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import ModelError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.modelcard.archive import has_card, model_bytes, write_card
from fer_edge.modelcard.reader import read_any_card, read_card
from fer_edge.modelcard.schema import ClassifierCard, InputSpec
from fer_edge.tflite.inspect import as_html, inspect_model

if TYPE_CHECKING:
    from collections.abc import Callable
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


@pytest.mark.parametrize(
    "damage",
    [
        lambda model: model.replace(b'"schema"', b'"scheme"'),
        lambda model: model[:-10],
        lambda model: model[: model.rindex(b"PK\1\2")],
        lambda model: b"fer_edge.jsoN".join(model.rsplit(b"fer_edge.json", 1)),
    ],
    ids=["content", "end", "directory", "name"],
)
def test_a_damaged_card_is_told_apart_from_none(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(model_bytes(DEFAULT_MODEL))
    assert not has_card(path)
    bare = inspect_model(path)
    assert (bare.card, bare.card_problem) == (None, "")
    path.write_bytes(damage(DEFAULT_MODEL.read_bytes()))
    assert has_card(path)
    with pytest.raises(ModelError, match="damaged model card"):
        read_any_card(path)
    found = inspect_model(path)
    assert found.card is None
    assert found.card_problem.startswith("damaged model card (")
    assert found.card_problem in html.unescape(as_html(found))
