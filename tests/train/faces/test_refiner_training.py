"""Test training of a refiner on the demo video, whose faces are known."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest
from rich.console import Console

from fer_edge.datasets.faces import load_faces
from fer_edge.detection.postprocess import RawDetections
from fer_edge.detection.refiner import decode_squares
from fer_edge.errors import InputError, ModelError
from fer_edge.model_zoo import DEFAULT_DETECTOR
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import RefinerCard
from fer_edge_train.faces.refiner_proposals import BOX, POINTS, SCORE, Proposals, make_targets, mirror
from fer_edge_train.faces.refiner_training import train_refiner
from fer_edge_train.progress import TrainingProgress
from fer_edge_train.recipe_files import load_refiner_recipe
from tests.fer_edge.detection import onnx_squares

from .test_detector_training import eager, interrupt, video

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.detection.metrics import Matches
    from tests.conftest import Cli, Sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("train-faces")]

__all__ = ["eager", "video"]  # fixtures

SMALL = [
    "network.side=16",
    "network.stem=4",
    "network.widths=[8, 8]",
    "network.blocks=[1, 0]",
    "proposals.scenes=70",
    "proposals.side=96",
    "optimizer.batch_size=128",  # few steps, because each takes long without a graph
    "schedule.epochs=2",
]


@pytest.mark.usefixtures("eager")
def test_resumed_run_gives_same_numbers(video: Path, sample: Sample, tmp_path: Path) -> None:
    recipe = load_refiner_recipe("refiner", SMALL)
    teacher = tmp_path / "squares.onnx"
    onnx_squares.write_network(teacher, 0.92)
    progress: list[tuple[int, int]] = []

    def run(out: Path, *callbacks: keras.callbacks.Callback, resume: bool = False) -> Matches:
        parts = load_faces(video / "train"), load_faces(video / "val")
        result = train_refiner(
            *parts,
            DEFAULT_DETECTOR,
            recipe,
            out,
            pasted=sample.faces[:20],
            teacher=teacher,
            resume=resume,
            made_by=("command",),
            on_progress=lambda *now: progress.append(now),
            callbacks=callbacks,
        )
        assert result.model == out / "model.keras"
        return result.matches

    uninterrupted, cut = tmp_path / "whole", tmp_path / "cut"
    matches = run(uninterrupted)
    assert progress == [(64, 70), (70, 70)]
    with pytest.raises(KeyboardInterrupt):
        run(cut, keras.callbacks.LambdaCallback(on_epoch_end=interrupt))
    with pytest.raises(InputError, match="add --resume"):
        run(cut)
    assert run(cut, resume=True).face_scores == pytest.approx(matches.face_scores, abs=1e-4)
    losses = [
        [float(row["loss"]) for row in csv.DictReader((out / "history.csv").read_text().splitlines())]
        for out in (uninterrupted, cut)
    ]
    assert len(losses[0]) == 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    card = read_card(uninterrupted / "model.keras", RefinerCard)
    assert (card.side, card.extent, card.made_by) == (16, 1.6, ("command",))
    report = json.loads((uninterrupted / "report" / "report.json").read_text())
    assert report["images"] == 6
    assert [row["threshold"] for row in report["compared"]] == [0.5, 0.6, 0.7, 0.8]
    onnx_squares.write_network(teacher, 0.9)
    with pytest.raises(InputError, match="another"):
        run(uninterrupted, resume=True)  # because of another teacher


@pytest.mark.filterwarnings("ignore")  # NumPy warns about TensorFlow's arrays
def test_learns_from_annotations_alone(video: Path, tmp_path: Path) -> None:
    steps = ("optimizer.batch_size=32", "schedule.epochs=6", "proposals.scenes=100")
    recipe = load_refiner_recipe("refiner", [*SMALL, *steps])
    parts = load_faces(video / "train"), load_faces(video / "val")
    train_refiner(*parts, DEFAULT_DETECTOR, recipe, tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run" / "history.csv").read_text().splitlines()))
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])


@pytest.mark.filterwarnings("ignore")  # NumPy warns about TensorFlow's arrays
def test_starts_from_a_trained_second_stage(video: Path, tmp_path: Path) -> None:
    parts = load_faces(video / "train"), load_faces(video / "val")
    few = [*SMALL, "schedule.epochs=1", "proposals.scenes=40", "optimizer.learning_rate=1e-9"]
    recipe = load_refiner_recipe("refiner", few)
    first = train_refiner(*parts, DEFAULT_DETECTOR, recipe, tmp_path / "first").model
    second = train_refiner(*parts, DEFAULT_DETECTOR, recipe, tmp_path / "second", weights=first).model
    before, after = (
        [weight.numpy() for weight in keras.models.load_model(path, compile=False).trainable_weights]
        for path in (first, second)
    )
    for expected, actual in zip(before, after, strict=True):
        assert actual == pytest.approx(expected, abs=1e-6)
    wider = load_refiner_recipe("refiner", [*few, "network.stem=8"])
    with pytest.raises(ModelError, match="weights of another network"):
        train_refiner(*parts, DEFAULT_DETECTOR, wider, tmp_path / "third", weights=first)


def test_prints_preparation_in_tenths() -> None:
    output = io.StringIO()
    progress = TrainingProgress(Console(file=output), 1)
    for count in [*range(64, 1000, 64), 1000]:
        progress.update_preparation(count, 1000, "scenes")
    assert output.getvalue().split("\n")[:-1] == [
        f"{count}/1000 scenes" for count in (128, 256, 320, 448, 512, 640, 704, 832, 960, 1000)
    ]


def test_targets_place_face_where_it_is() -> None:
    faces = RawDetections(
        np.array([[20, 30, 16, 20], [60, 60, 20, 24]], np.float32),
        np.array([0.9, 0.5], np.float32),
        np.array([[[24, 36], [32, 36], [28, 41], [25, 46], [31, 46]], [[np.nan] * 2] * 5], np.float32),
    )
    boxes = np.array([[19, 31, 17, 19], [61, 58, 20, 24], [0, 0, 10, 10], [28, 30, 16, 20]], np.float32)
    squares = np.array([[10, 20, 36], [55, 52, 38], [-3, -3, 16], [20, 24, 32]], np.float32)
    targets = make_targets(boxes, squares, faces, np.array([True, False]))
    assert targets[:, SCORE] == pytest.approx([0.9, 0.5, 0, 0.9 * (1 / 3 - 0.25) / 0.15], abs=0.01)
    assert [row > 0 for row in targets[:, 15]] == [True, True, False, True]
    assert [row > 0 for row in targets[:, 16]] == [True, False, False, True]
    ones = np.ones(4, np.float32)
    back = decode_squares(squares, targets[:, :15], ones)
    assert back.boxes[:2] == pytest.approx(faces.boxes, abs=1e-3)
    assert back.landmarks[0] == pytest.approx(faces.landmarks[0], abs=1e-3)
    mirrored = mirror(Proposals(np.arange(4 * 16, dtype=np.uint8).reshape(4, 4, 4), targets))
    assert mirrored.squares[0, 0].tolist() == [3, 2, 1, 0]
    assert mirrored.targets[0, BOX] == pytest.approx(targets[0, BOX] * (-1, 1, 1, 1))
    points, before = (values[0, POINTS].reshape(5, 2) for values in (mirrored.targets, targets))
    assert points[1] == pytest.approx(before[0] * (-1, 1))
    assert points[3] == pytest.approx(before[4] * (-1, 1))


def test_rejects_wrong_options_in_one_line(cli: Cli, video: Path, tmp_path: Path) -> None:
    start = ("train-refiner", video, "--out", tmp_path / "run")
    none = cli(*start, "--detector", tmp_path / "none.tflite", status=2).stderr
    assert none.endswith("none.tflite: no such model file\n")
    other = cli(*start, "--detector", DEFAULT_DETECTOR.with_name("edge.tflite"), status=2).stderr
    assert other.endswith("edge.tflite: an expression classifier; give a face detector here, such as faces.tflite\n")
    split = tmp_path / "split.csv"
    split.write_text("file,part\nother.png,test\n")
    unlisted = cli(*start, "--detector", DEFAULT_DETECTOR, "--split", split, status=2).stderr
    assert f"{split}: it lists none of the images in" in unlisted
    split.write_text("file,kind,x,y,w,h\nother.png,none,1,1,9,9\n")
    uncorrected = cli(*start, "--detector", DEFAULT_DETECTOR, "--corrections", split, status=2).stderr
    assert f"{split}: it lists none of the images in" in uncorrected
    missing = cli(*start, "--detector", DEFAULT_DETECTOR, "--weights", tmp_path / "none.keras", status=2).stderr
    assert "none.keras" in missing.splitlines()[-1]
    wrong = cli(*start, "--detector", DEFAULT_DETECTOR, "--set", "network.blocks=[1]", status=2).stderr
    assert "network.blocks must have a number for each of network.widths" in wrong.splitlines()[-1]
