from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from fer_edge.classification.card_edit import set_card
from fer_edge.classification.classifier import TFLiteClassifier, with_self_test
from fer_edge.errors import RuntimeMismatchError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes, write_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import INPUT_RANGES, ClassifierCard, InputSpec
from fer_edge.modelcard.selftest import SelfTest

if TYPE_CHECKING:
    from pathlib import Path

SHIPPED = sorted(DEFAULT_MODEL.parent.glob("edge*.tflite"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the shipped model."""
    path = tmp_path / "model.tflite"
    path.write_bytes(DEFAULT_MODEL.read_bytes())
    return path


def test_images_are_always_the_same() -> None:
    images = SelfTest.images(48, 48)
    assert images.shape == (12, 48, 48)
    assert images.dtype == np.uint8
    assert hashlib.sha256(images.tobytes()).hexdigest().startswith("ab249580")
    assert SelfTest.images(224, 96).shape == (12, 224, 96)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_models_pass(path: Path) -> None:
    card = read_card(path, ClassifierCard)
    assert card.self_test is not None
    answers = {max(range(len(row)), key=row.__getitem__) for row in card.self_test.outputs}
    assert len(answers) >= 3, "images that all look alike to it would show little"
    difference = TFLiteClassifier(path).self_test()
    assert difference is not None
    assert difference <= 0.1


def test_error_names_the_difference_of_scores(copy: Path) -> None:
    card = read_card(copy, ClassifierCard)
    assert card.self_test is not None
    first, *others = card.self_test.outputs
    moved = msgspec.structs.replace(card.self_test, outputs=(tuple(value + 64 for value in first), *others))
    copy.write_bytes(model_bytes(copy))
    write_card(copy, msgspec.structs.replace(card, self_test=moved))
    with pytest.raises(RuntimeMismatchError, match=r"up to 0\.2\d from those on the card, where 0\.10 is allowed"):
        TFLiteClassifier(copy).self_test()


def test_detects_wrong_normalization(copy: Path) -> None:
    card = read_card(copy, ClassifierCard)
    wrong = InputSpec(height=48, width=48, scale=card.input.scale * 2, offset=card.input.offset)
    copy.write_bytes(model_bytes(copy))
    write_card(copy, msgspec.structs.replace(card, input=wrong))
    with pytest.raises(RuntimeMismatchError):
        TFLiteClassifier(copy).self_test()


def test_rejects_outputs_of_another_shape(copy: Path) -> None:
    card = read_card(copy, ClassifierCard)
    copy.write_bytes(model_bytes(copy))
    write_card(copy, msgspec.structs.replace(card, self_test=SelfTest(outputs=((1, 2),), tolerance=1)))
    with pytest.raises(RuntimeMismatchError):
        TFLiteClassifier(copy).self_test()


def test_set_card_adds_a_missing_self_test(copy: Path) -> None:
    card = msgspec.structs.replace(read_card(copy, ClassifierCard), self_test=None)
    copy.write_bytes(model_bytes(copy))
    write_card(copy, card)
    assert TFLiteClassifier(copy).self_test() is None
    assert set_card(copy, (), None).self_test is not None
    assert TFLiteClassifier(copy).self_test() == 0


def test_set_card_keeps_the_self_test_unless_the_input_changes(copy: Path) -> None:
    before = read_card(copy, ClassifierCard)
    labels = tuple(label.upper() for label in before.labels)
    assert set_card(copy, labels, None).self_test == before.self_test
    assert set_card(copy, labels, INPUT_RANGES["0..1"]).self_test != before.self_test


def test_records_integers_and_keeps_the_flatbuffer(copy: Path) -> None:
    flatbuffer = model_bytes(copy)
    card = with_self_test(flatbuffer, read_card(copy, ClassifierCard), copy)
    assert card.self_test is not None
    assert card.self_test.tolerance == 26
    assert b".0," not in msgspec.json.encode(card.self_test)
    assert all(-128 <= value <= 127 for row in card.self_test.outputs for value in row)
    set_card(copy, (), INPUT_RANGES["0..1"])
    assert model_bytes(copy) == flatbuffer
