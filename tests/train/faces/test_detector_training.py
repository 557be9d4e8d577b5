"""Test training of a detector on the demo video, whose faces are known."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import csv
import json
import shutil
import warnings
import zipfile
from typing import TYPE_CHECKING

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_edge import demo
from fer_edge.datasets.faces import load_faces
from fer_edge.errors import InputError, ModelError
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import DetectorCard
from fer_edge_train.faces.detector_training import train_detector
from fer_edge_train.recipe_files import load_detector_recipe
from tests.fer_edge.detection import onnx_squares

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fer_edge.detection.metrics import Matches
    from tests.conftest import Cli, Sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("train-faces")]

COLUMNS = ["file", "width", "height", "x", "y", "w", "h", "score", *(f"lm{i}{axis}" for i in range(5) for axis in "xy")]
PLACES = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
SMALL = [
    "network.stem=4",
    "network.widths=[8, 8, 8]",
    "network.blocks=[1, 1, 1]",
    "optimizer.batch_size=6",
    "schedule.epochs=2",
    "schedule.sizes=[[0.0, 64], [0.5, 96]]",
    "schedule.average_epochs=2",
]


def write_part(folder: Path, frames: range) -> None:
    """Write frames of the video, reduced to a quarter, in a zip."""
    folder.mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file, zipfile.ZipFile(folder / "video.zip", "w") as archive:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in frames:
            name = f"video_{number:03d}.png"
            small = cv2.resize(demo.frame(number), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
            archive.writestr(name, cv2.imencode(".png", small)[1].tobytes())
            face_boxes = [face.box for face in demo.truth(number)]
            for box in face_boxes:
                x, y, width, height = (value / 4 for value in box)
                points = [value for dx, dy in PLACES for value in (x + dx * width, y + dy * height)]
                writer.writerow([name, 160, 120, x, y, width, height, 0.9, *points])
            if not face_boxes:
                writer.writerow([name, 160, 120, *[""] * 15])


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("video")
    write_part(folder / "train", range(0, 120, 10))
    write_part(folder / "val", range(2, 120, 20))
    return folder


def interrupt(*_: object) -> None:
    """End a run after its first epoch."""
    raise KeyboardInterrupt


@pytest.fixture
def eager() -> Iterator[None]:
    """Disable graphs, which take longer to build than these few steps."""
    tf.config.run_functions_eagerly(run_eagerly=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow warns that functions of its dataset are no longer graphs
        yield
    tf.config.run_functions_eagerly(run_eagerly=False)


@pytest.mark.usefixtures("eager")
def test_resumed_run_gives_same_numbers(video: Path, sample: Sample, tmp_path: Path) -> None:
    recipe = load_detector_recipe("faces", SMALL)
    teacher = tmp_path / "squares.onnx"
    onnx_squares.write_network(teacher, 0.92)

    def run(out: Path, *callbacks: keras.callbacks.Callback, resume: bool = False) -> Matches:
        parts = load_faces(video / "train"), load_faces(video / "val")
        result = train_detector(
            *parts,
            recipe,
            out,
            pasted=sample.faces[:20],
            teacher=teacher,
            resume=resume,
            made_by=("command",),
            callbacks=callbacks,
        )
        assert result.model == out / "model.keras"
        return result.matches

    uninterrupted, cut = tmp_path / "whole", tmp_path / "cut"
    matches = run(uninterrupted)
    with pytest.raises(KeyboardInterrupt):
        run(cut, keras.callbacks.LambdaCallback(on_epoch_end=interrupt))
    with pytest.raises(InputError, match="add --resume"):
        run(cut)
    resumed = run(cut, resume=True)
    assert resumed.face_scores == pytest.approx(matches.face_scores, abs=1e-4)
    losses = [
        [float(row["loss"]) for row in csv.DictReader((out / "history.csv").read_text().splitlines())]
        for out in (uninterrupted, cut)
    ]
    assert len(losses[0]) == 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    card = read_card(uninterrupted / "model.keras", DetectorCard)
    assert card.strides == (8, 16, 32)
    assert card.made_by == ("command",)
    report = json.loads((uninterrupted / "report" / "report.json").read_text())
    assert report["images"] == 6
    assert len(report["history"]) == 2
    assert [row["threshold"] for row in report["compared"]] == [0.5, 0.6, 0.7, 0.8]
    onnx_squares.write_network(teacher, 0.9)
    with pytest.raises(InputError, match="another"):
        run(uninterrupted, resume=True)  # because of another teacher
    assert "data:image/png" in (uninterrupted / "report" / "index.html").read_text()

    def start_from(out: Path, *settings: str) -> Path:
        changed = load_detector_recipe("faces", [*SMALL, *settings])
        parts = load_faces(video / "train"), load_faces(video / "val")
        return train_detector(*parts, changed, out, weights=uninterrupted / "model.keras").model

    one_step = ("schedule.epochs=1", "optimizer.batch_size=12")
    frozen = (*one_step, "optimizer.learning_rate=1e-9", "schedule.average_epochs=0")
    weights, continued_weights = (
        [weight.numpy() for weight in keras.models.load_model(path, compile=False).trainable_weights]
        for path in (uninterrupted / "model.keras", start_from(tmp_path / "started", *frozen))
    )
    for expected, actual in zip(weights, continued_weights, strict=True):
        assert actual == pytest.approx(expected, abs=1e-6)
    image = np.random.default_rng(1).uniform(-1, 1, (1, 64, 96, 1)).astype(np.float32)
    grown = start_from(tmp_path / "grown", *frozen, "network.blocks=[2, 1, 3]")
    before, after = (keras.models.load_model(path, compile=False) for path in (uninterrupted / "model.keras", grown))
    assert after.count_params() > before.count_params()
    for expected, actual in zip(before(image), after(image), strict=True):
        assert actual.numpy() == pytest.approx(expected.numpy(), abs=0.05)  # batch normalization still changes
    for wrong in ("network.stem=8", "network.blocks=[0, 1, 1]"):
        with pytest.raises(ModelError, match="weights of another network"):
            start_from(tmp_path / "other", wrong)


def test_rejects_missing_labels_and_wrong_recipes_in_one_line(cli: Cli, video: Path, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    assert "no images" in cli("train-faces", tmp_path, "--out", tmp_path / "run", status=2).stderr
    wrong = cli("train-faces", video, "--out", tmp_path / "run", "--set", "network.steam=4", status=2).stderr
    assert "did you mean network.stem?" in wrong.splitlines()[-1]
    start = ("train-faces", video, "--out", tmp_path / "run")
    large = cli(*start, "--set", "data.teacher_scales=[2]", status=2).stderr
    assert "teacher_scales must have 1, or the largest faces would count as background" in large.splitlines()[-1]
    few = cli(*start, status=2).stderr
    assert few.endswith("12 images, but a batch takes 64: give more, or --set optimizer.batch_size=12\n")
    split = tmp_path / "split.csv"
    split.write_text("file,part\nvideo_000.png,test\nvideo_010.png,test\nvideo_020.png,development\n")
    fewer = cli(*start, "--split", split, status=2).stderr
    assert "10 images, but a batch takes 64" in fewer
    for missing, message in (
        ("labels.csv", "val: no labels.csv"),
        ("video", "no face of 20 pixels or more is annotated"),
    ):
        incomplete = tmp_path / f"without {missing}"
        shutil.copytree(video, incomplete)
        labels = incomplete / "val" / "labels.csv"
        head, *rows = labels.read_text().splitlines()
        labels.write_text("\n".join([head, *(row.split(",")[0] + "," * (head.count(",")) for row in rows)]))
        if missing == "labels.csv":
            labels.unlink()
        end = ("--out", tmp_path / "run", "--set", "optimizer.batch_size=4")
        assert message in cli("train-faces", incomplete, *end, status=2).stderr.splitlines()[-1]
    none = cli(*start, "--set", "optimizer.batch_size=4", "--teacher", tmp_path / "none.onnx", status=2).stderr
    assert "none.onnx: no such file" in none.splitlines()[-1]
    assert load_detector_recipe().schedule.sizes[-1][1] % 32 == 0
