from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from fer_edge.classification.classifier import TFLiteClassifier, classify_faces
from fer_edge.classification.crop import crop_detected_face, crop_whole_image
from fer_edge.classification.selection import MAX_SIDE, MIN_SIDE, crop_for_review, is_rare, score_margin
from fer_edge.geometry import Box, CropSpec, Face
from fer_edge.modelcard.schema import InputSpec
from fer_edge.tracking.tracker import Tracker
from fer_edge_device.collect.collector import FaceCollector
from fer_edge_device.collect.folder import CollectFolder
from fer_edge_device.config.settings import CollectSettings, EventsSettings
from fer_edge_device.pipeline.events import EventMaker, ModelInfo
from tests.device.conftest import until

if TYPE_CHECKING:
    from tests.conftest import Sample
    from tests.device.collect.conftest import Collecting

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def test_margin_and_rarity() -> None:
    assert score_margin(np.array([0.1, 0.5, 0.4], np.float32)) == pytest.approx(0.1)
    assert is_rare("fear", {"happy": 196, "fear": 4})
    assert is_rare("disgust", {"happy": 300})
    assert not is_rare("fear", {"happy": 180, "fear": 20})
    assert not is_rare("fear", {"happy": 100}), "too few faces to know"


@pytest.mark.parametrize("side", [24, 47, 60, 100, 149, 400])
@pytest.mark.parametrize("size", [32, 48, 64, 100, 160, 224])
def test_crop_is_the_classifiers_with_more_detail(sample: Sample, side: int, size: int) -> None:
    sheet = np.vstack([np.hstack([*sample.faces[row * 10 : row * 10 + 10]]) for row in range(10)])
    face, crop_spec = Face(Box(30, 40, side, side), 0.9), CropSpec(1.1, 0.05)
    spec = InputSpec(height=size, width=size, channels=1, scale=1.0, offset=0.0)
    crop = crop_for_review(sheet, face, crop_spec, spec)
    assert MIN_SIDE <= crop.shape[0] == crop.shape[1] <= MAX_SIDE
    if size <= MAX_SIDE:
        seen = crop_detected_face(sheet, face, size, size, crop_spec).astype(int)
        again = crop_whole_image(crop, size, size).astype(int)
        limit = 1 if crop.shape[0] <= int(side * 1.1) or crop.shape[0] == size else 20  # 32 is enlarged to 64
        assert np.abs(seen - again).max() <= limit
    assert crop.shape[0] <= max(int(side * 1.1), size, MIN_SIDE + size), "no more detail than there is"


def keep(collecting: Collecting, *shown: tuple[str, list[float]], **settings: float) -> list[str]:
    """Show a collector a face each second, with what was reported of it and its scores; return the reasons."""
    values = msgspec.structs.replace(CollectSettings(enabled=True, public_key=collecting.public_key), **settings)
    collector = FaceCollector(CollectFolder(collecting.folder), values, "test", TFLiteClassifier(), lambda: True)
    gray = np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)
    tracker, events = Tracker(100.0), EventMaker("s", EventsSettings())
    faces = [Face(Box(50, 50, 90, 90), 0.9)]
    quality = classify_faces(gray, faces, CropSpec(), TFLiteClassifier()).qualities[0]
    for number, (reported, scores) in enumerate(shown):
        tracker.next_frame(float(number))
        (track,) = tracker.update(faces)
        events.skip_to(float(number), 0.0)
        row = np.array(scores, np.float32)
        events.update_scores(track, row, quality, ModelInfo("m", LABELS))
        face = events.faces[track.number]
        face.reported = reported
        collector.consider(gray, face, events.track_id(track), row, CropSpec())
        until(lambda: not collector._waiting)
    collector.close(keep_waiting=True)
    return [face.reason for face in collecting.faces()]


UNSURE = ("happy", [0.0, 0.0, 0.0, 0.5, 0.4, 0.1, 0.0])
HAPPY = ("happy", [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
ANGRY = ("angry", [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
SUDDENLY_ANGRY = ("happy", ANGRY[1])


def test_uncertain(collecting: Collecting) -> None:
    assert keep(collecting, UNSURE) == ["uncertain"]


def test_contradictory_and_the_same_face_only_after_a_while(collecting: Collecting) -> None:
    assert keep(collecting, SUDDENLY_ANGRY, SUDDENLY_ANGRY) == ["contradictory"]


def test_rare(collecting: Collecting) -> None:
    reasons = keep(collecting, *[HAPPY] * 250, ANGRY, interval_s=0.0, max_per_hour=1000.0)
    assert reasons[-1] == "rare"
    assert "uncertain" not in reasons
