from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
import pytest

from fer_edge.classification.classifier import TFLiteClassifier, classify_faces
from fer_edge.classification.crop import crop_face
from fer_edge.errors import InputError, ModelError
from fer_edge.geometry import Box, CropSpec, Face, Landmarks, Point
from fer_edge.model_zoo import DEFAULT_MODEL, find_model
from fer_edge.modelcard.archive import model_bytes, write_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard

if TYPE_CHECKING:
    from tests.conftest import Sample


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the shipped flatbuffer without its card."""
    path = tmp_path / "model.tflite"
    path.write_bytes(model_bytes(DEFAULT_MODEL))
    return path


def test_find_model_prefers_files_but_not_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edge").mkdir()
    assert find_model(Path("edge")) == DEFAULT_MODEL
    (tmp_path / "edge-plus").write_bytes(b"a file of mine")
    assert find_model(Path("edge-plus")) == Path("edge-plus")


def test_aligns_eyes_only_if_the_crop_spec_says_so(sample: Sample) -> None:
    turn = cv2.getRotationMatrix2D((24, 24), -30, 1)
    gray = np.asarray(cv2.warpAffine(sample.faces[0], turn, (48, 48), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    eyes = [Point(24 - 8 * 0.866, 18 - 4), Point(24 + 8 * 0.866, 18 + 4)]
    face = Face(Box(0, 0, 48, 48), 1.0, Landmarks(*eyes, *[Point(24, 30)] * 3))
    assert face.roll == pytest.approx(math.radians(30), abs=0.01)
    classifier = TFLiteClassifier()
    as_it_is, level = (
        classify_faces(gray, [face], CropSpec(align_eyes=level), classifier).scores for level in (False, True)
    )
    tilted = classifier.classify(crop_face(gray, face.box, 48, 48)[None])
    turned_back = classifier.classify(crop_face(gray, face.box, 48, 48, roll=face.roll)[None])
    assert (as_it_is == tilted).all()
    assert (level == turned_back).all()
    assert not (level == as_it_is).all()


def test_loads_a_shipped_model_by_name_or_path() -> None:
    for model in ("edge", Path("edge"), str(DEFAULT_MODEL), DEFAULT_MODEL):
        assert TFLiteClassifier(model).path == DEFAULT_MODEL
    with pytest.raises(
        ModelError,
        match=r"egde: no such model file; the shipped models are edge, edge-plus, large \(did you mean edge\?\)",
    ):
        TFLiteClassifier("egde")


def test_rejects_wrong_arrays(sample: Sample) -> None:
    classifier, crop = TFLiteClassifier(), sample.faces[0]
    expected = r"this classifier takes uint8 of shape \(n, 48, 48\)"
    cases: list[tuple[Any, str]] = [
        (crop, expected + r"; write crop\[None\] for a single crop"),
        ([crop], "a value of type list .*, as a NumPy array"),
        (None, "a value of type NoneType"),
        (crop[None] / 255, r"an array of float64 with shape \(1, 48, 48\).*scale its values to 0\.\.255"),
        (crop[None].astype(np.float32), "an array of float32 .*scale its values"),
        (crop[None].astype(np.uint16), "an array of uint16 .*scale its values"),
        (crop[None].astype(np.int8), "an array of int8 .*scale its values"),
        (np.zeros((1, 64, 64), np.uint8), r"with shape \(1, 64, 64\) is not a batch of face crops: " + expected + "$"),
        (np.zeros((1, 48, 40), np.uint8), r"with shape \(1, 48, 40\)"),
        (np.zeros((48, 48, 4), np.uint8), "convert colour to grey first"),
        (np.zeros((48, 48, 3), np.uint8), "convert colour to grey first"),
        (np.zeros((1, 48, 48, 1), np.uint8), r"with shape \(1, 48, 48, 1\)"),
        (np.array([], np.uint8), "this array is empty"),
        (np.empty((1, 0, 48), np.uint8), "this array is empty"),
    ]
    for wrong, reason in cases:
        with pytest.raises(InputError, match=reason):
            classifier.classify(wrong)


def test_shipped_model_classifies_most_unseen_faces_correctly(sample: Sample) -> None:
    public = slice(350, 700)
    truth = np.array([int(row["emotion"]) for row in sample.rows[public]])
    scores = TFLiteClassifier().classify(sample.faces[public])
    assert scores.shape == (350, 7)
    assert np.abs(scores.sum(axis=1) - 1).max() < 0.03
    # All classes are equally frequent, which is harder than PublicTest.
    assert (scores.argmax(axis=1) == truth).mean() > 0.55


def test_scores_do_not_depend_on_batch_or_threads(sample: Sample) -> None:
    faces = sample.faces[:20]
    single, threaded = TFLiteClassifier(), TFLiteClassifier(threads=2)
    scores = single.classify(faces)
    assert (scores == np.concatenate([single.classify(faces[i : i + 1]) for i in range(20)])).all()
    assert (scores == threaded.classify(faces)).all()
    assert single.classify(faces[:0]).shape == (0, 7)


def test_rejects_card_with_wrong_number_of_labels(model: Path) -> None:
    card = read_card(DEFAULT_MODEL, ClassifierCard)
    write_card(model, msgspec.structs.replace(card, labels=("yes", "no")))
    with pytest.raises(ModelError, match="its card has 2 labels"):
        TFLiteClassifier(model)


def test_rejects_card_with_wrong_input_size(model: Path) -> None:
    card = read_card(DEFAULT_MODEL, ClassifierCard)
    write_card(model, msgspec.structs.replace(card, input=msgspec.structs.replace(card.input, height=64)))
    with pytest.raises(ModelError, match="but its card says"):
        TFLiteClassifier(model)


@pytest.mark.parametrize("keep", [0, 3, 100, 5_000, 400_000])
def test_rejects_truncated_flatbuffer(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes(model_bytes(DEFAULT_MODEL)[:keep])
    write_card(path, read_card(DEFAULT_MODEL, ClassifierCard))
    with pytest.raises(ModelError, match=r"damaged, the content does not match its card"):
        TFLiteClassifier(path)


def test_standardizes_each_image_if_the_card_says_so(model: Path, sample: Sample) -> None:
    card = read_card(DEFAULT_MODEL, ClassifierCard)
    spec = msgspec.structs.replace(card.input, per_image=True, scale=0.5, offset=0.0)
    write_card(model, msgspec.structs.replace(card, input=spec))
    classifier = TFLiteClassifier(model, batch=3)
    faces = sample.faces[:40]
    scores = classifier.classify(faces)
    # Brightness and contrast make no difference, but for the rounding of pixels.
    dimmed = classifier.classify((faces // 2 + 90).astype(np.uint8))
    assert (scores.argmax(axis=1) == dimmed.argmax(axis=1)).mean() > 0.9
    assert np.abs(scores - dimmed).mean() < 0.02
    # The shipped model takes pixel / 128 - 1, which is half of a face of mean 128 and deviation 64.
    mean, deviation = faces.mean(axis=(1, 2), keepdims=True), faces.std(axis=(1, 2), keepdims=True)
    stretched = np.rint((faces - mean) / deviation * 64 + 128).clip(0, 255).astype(np.uint8)
    assert np.abs(scores - TFLiteClassifier().classify(stretched)).mean() < 0.01
    blank = classifier.classify(np.full((2, 48, 48), 9, np.uint8))
    assert (blank == classifier.classify(np.full((2, 48, 48), 200, np.uint8))).all()
