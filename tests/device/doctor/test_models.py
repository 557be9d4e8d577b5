from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fer_edge.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes, refiner_bytes, with_refiner, write_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard, DetectorCard
from fer_edge_device.config.settings import Config, FacesSettings
from tests.device.doctor.helpers import finding

if TYPE_CHECKING:
    from pathlib import Path


def test_compares_the_classifier_with_its_card(tmp_path: Path) -> None:
    shipped = finding("model", Config())
    assert shipped.level == "ok"
    assert "of those on its card" in shipped.message
    card = read_card(DEFAULT_MODEL, ClassifierCard)
    assert card.self_test is not None
    wrong = msgspec.structs.replace(card.self_test, outputs=card.self_test.outputs[::-1])
    for name, self_test, level in (("wrong", wrong, "failure"), ("none", None, "warning")):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(model_bytes(DEFAULT_MODEL))
        write_card(path, msgspec.structs.replace(card, self_test=self_test))
        assert finding("model", Config(model=str(path))).level == level
    missing = finding("model", Config(model="/nowhere/x.tflite"))
    assert (missing.level, missing.message) == ("failure", "/nowhere/x.tflite: no such model file")


def test_compares_the_detector_with_its_card_and_lets_it_find_a_face(tmp_path: Path) -> None:
    shipped = finding("detector", Config())
    assert shipped.level == "ok"
    assert "finds the face in the demo; outputs are within " in shipped.message
    card = read_card(DEFAULT_DETECTOR, DetectorCard)
    assert card.self_test is not None
    negative = tuple(tuple(-1 - value for value in row) for row in card.self_test.outputs)
    wrong = msgspec.structs.replace(card, self_test=msgspec.structs.replace(card.self_test, outputs=negative))
    untested = msgspec.structs.replace(card, self_test=None)
    blind = msgspec.structs.replace(card, threshold=1.0)
    for name, changed, level, message in (
        ("wrong", wrong, "failure", "on this machine differs by up to"),
        ("untested", untested, "warning", "its card has no self-test"),
        ("blind", blind, "failure", "does not find the face in the demo"),
    ):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(with_refiner(model_bytes(DEFAULT_DETECTOR), changed, refiner_bytes(DEFAULT_DETECTOR)))
        result = finding("detector", Config(faces=FacesSettings(detector_model=str(path))))
        assert result.level == level
        assert message in result.message
