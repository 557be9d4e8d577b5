"""Test conversion of a face detector, for one that finds bright squares."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from msgspec.structs import replace

from fer_edge.datasets.faces import load_faces
from fer_edge.detection.inference import FaceNetwork
from fer_edge.detection.network import NetworkDetector
from fer_edge.errors import DataError, ModelError
from fer_edge.modelcard.archive import model_bytes
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import DetectorCard
from fer_edge_convert.conversion import convert
from fer_edge_convert.detector_parity import divergence
from fer_edge_convert.first_stage import FirstStage
from fer_edge_convert.quantization import Scheme
from fer_edge_convert.result import RefusedError
from fer_edge_convert.sources import open_detector

from .conftest import COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]


@pytest.fixture(scope="module")
def squares(foreign: Path) -> Path:
    return foreign / "squares.keras"


@pytest.fixture(scope="module")
def images(squares_in_images: Path) -> Path:
    return squares_in_images


@pytest.fixture(scope="module")
def converted(first_stage: Path) -> Path:
    return first_stage


def test_converted_detector_has_a_parity_report(converted: Path) -> None:
    report = json.loads(converted.with_suffix(".parity.json").read_text())
    assert report["parity"]["original"]["average_precision"] > 0.95
    assert abs(report["parity"]["change_points"]) < 2
    assert len(report["parity"]["difference"]) == 9
    assert "Recall by side of the face" in converted.with_suffix(".parity.html").read_text()
    card = read_card(converted, DetectorCard)
    assert card.scores["int8 average precision"] > 0.95
    assert card.made_by[-1].startswith("fer-edge convert")
    detector = NetworkDetector(converted)
    assert detector.self_test() == 0


def test_same_command_gives_same_bytes(cli: Cli, squares: Path, images: Path, converted: Path, tmp_path: Path) -> None:
    out = tmp_path / converted.name
    cli("convert", squares, "--int8", "--data", images, "-o", out)
    assert model_bytes(out) == model_bytes(converted)
    # Only the path of the output differs.
    card, repeated = (replace(read_card(path, DetectorCard), made_by=()) for path in (converted, out))
    assert repeated == card


def test_leaves_out_images_that_are_reserved_for_tests(cli: Cli, squares: Path, images: Path, tmp_path: Path) -> None:
    names = [image.name for image in load_faces(images, "val").images]
    split, out = tmp_path / "split.csv", tmp_path / "out.tflite"
    split.write_text("file,part\n" + "".join(f"{name},test\n" for name in names[1::2]))
    cli("convert", squares, "--int8", "--data", images, "--split", split, "-o", out)
    report = json.loads(out.with_suffix(".parity.json").read_text())
    assert report["parity"]["original"]["images"] == len(names[::2])
    split.write_text("file,part\n" + "".join(f"{name},test\n" for name in names))
    error = cli("convert", squares, "--int8", "--data", images, "--split", split, "-o", out, status=2).stderr
    assert f"{split}: all images in {images / 'val'} are reserved for tests" in error


def test_outputs_do_not_depend_on_input_size(cli: Cli, squares: Path, converted: Path, tmp_path: Path) -> None:
    float_model = tmp_path / "float.tflite"
    cli("convert", squares, "--float32", "-o", float_model)
    source = open_detector(float_model)
    assert (source.height, source.width) == (320, 320)
    gray = np.random.default_rng(1).integers(0, 256, (96, 160), np.uint8)
    for path in (float_model, converted):
        card = read_card(path, DetectorCard)
        small = FaceNetwork(model_bytes(path), card, path, height=96, width=160)
        # Zeros beyond the image change nothing else.
        large = FaceNetwork(model_bytes(path), card, path, height=320, width=320)
        for small_level, large_level in zip(small.run(gray, 96, 160), large.run(gray, 96, 160), strict=True):
            for small_output, large_output in zip(small_level[1:], large_level[1:], strict=True):
                rows, columns = small_output.values.shape[1:3]
                assert np.allclose(small_output.values, large_output.values[:, :rows, :columns], atol=1e-5)


def test_refuses_a_detector_that_loses_too_much(cli: Cli, squares: Path, images: Path, tmp_path: Path) -> None:
    # Ranges measured on black images clip every bright pixel.
    black = tmp_path / "black"
    black.mkdir()
    cv2.imwrite(str(black / "0.png"), np.zeros((64, 96), np.uint8))
    out = tmp_path / "out.tflite"
    args = ("convert", squares, "--int8", "--data", images, "--calibrate", black, "-o", out)
    errors = cli(*args, status=1).stderr
    assert "points of average precision and 1 are allowed" in errors
    assert not out.exists()
    assert out.with_suffix(".parity.html").exists()
    report = json.loads(out.with_suffix(".parity.json").read_text())
    nearest = min(report["attempts"], key=lambda attempt: attempt["kl_divergence"])
    assert [attempt["way"] for attempt in report["attempts"] if attempt["change_points"] is not None] == [
        nearest["way"]
    ]
    # No method is good enough, so all are tried, and the report describes the best.
    assert "rescue" not in cli(*args, "--rescue", status=1).stderr
    report = json.loads(out.with_suffix(".parity.json").read_text())
    best = max(report["attempts"], key=lambda attempt: attempt["change_points"])
    assert report["way"] == best["way"]
    assert best["change_points"] < -1
    assert report["choice_images"] == 7
    assert report["parity"]["original"]["images"] == 8
    # Of the methods within the limit, the one with the least divergence is kept.
    limit = str(max(-best["change_points"], -report["parity"]["change_points"]))
    assert "chose by 7 images of the test data" in cli(*args, "--rescue", "--max-drop", limit).stdout
    way = json.loads(out.with_suffix(".parity.json").read_text())["way"]
    enough = [attempt for attempt in report["attempts"] if attempt["change_points"] >= -float(limit)]
    assert way == min(enough, key=lambda attempt: attempt["kl_divergence"])["way"]


@pytest.mark.parametrize(
    ("scheme", "advice"),
    [
        (Scheme.INT8, "; try --rescue to try other ways, --calibrate with other images, --float16, or allow it"),
        (Scheme.DYNAMIC, "; try --float16, or allow it"),
        (Scheme.FLOAT16, "; try --float32, or allow it"),
        (Scheme.FLOAT32, "; allow it"),
    ],
)
def test_refusal_advises_only_what_may_help(
    squares: Path, images: Path, tmp_path: Path, scheme: Scheme, advice: str
) -> None:
    with pytest.raises(RefusedError) as error:  # because the result would have to be better than the float model
        convert(
            FirstStage(open_detector(squares), test=load_faces(images, "val")),
            scheme,
            tmp_path / "x.tflite",
            max_drop=-100,
        )
    assert f"x.parity.html{advice} with --max-drop" in str(error.value)


def test_comparison_requires_images_with_faces(squares: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((64, 96), np.uint8))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, ("0.png", "96", "64", *("",) * 15)])
    with pytest.raises(DataError, match=f"{tmp_path}: no face is marked in these images"):
        convert(FirstStage(open_detector(squares), test=load_faces(tmp_path)), Scheme.INT8, tmp_path / "x.tflite")
    assert not (tmp_path / "x.tflite").exists()


def test_rejects_wrong_options_in_one_line(cli: Cli, squares: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    errors = cli("convert", squares, "--int8", "--labels", "a,b", "-o", out, status=2).stderr
    assert "squares.keras: a face detector, and --labels is for classifiers; leave it out" in errors
    assert "give --data" in cli("convert", squares, "--int8", "-o", out, status=2).stderr
    errors = cli("convert", squares, "--float32", "--split", squares, "-o", out, status=2).stderr
    assert "--split is for comparing both models on faces; give --data, too" in errors
    assert "which LiteRT cannot run with --int16x8" in cli("convert", squares, "--int16x8", "-o", out, status=2).stderr
    assert "a face detector; give a classifier here" in cli("evaluate", squares, tmp_path, status=2).stderr


def test_rejects_a_quantized_detector(converted: Path) -> None:
    with pytest.raises(ModelError, match=r"squares\.tflite: it is quantized already"):
        open_detector(converted)


def test_divergence_of_equal_outputs_is_zero() -> None:
    rng = np.random.default_rng(0)
    outputs = [rng.uniform(0.1, 0.9, (2, 3, 4, n)).astype(np.float32) for n in (1, 4, 10)]
    halved_scores = [outputs[0] * 0.5, outputs[1], outputs[2]]
    assert divergence(outputs, outputs) == 0
    assert divergence(outputs, halved_scores) > 0.1


def test_divergence_ignores_confident_background() -> None:
    rng = np.random.default_rng(0)
    shapes = [(2, 3, 4, n) for n in (1, 4, 10)]
    background = [np.full(shape, 0.001, np.float32) for shape in shapes]
    shifted = [background[0] + np.float32(0.03), *background[1:]]
    assert divergence(background, shifted) == pytest.approx(0, abs=1e-6)
    false_alarms = [rng.uniform(0.1, 0.9, shapes[0]).astype(np.float32), *background[1:]]
    assert divergence(background, false_alarms) > 0.1  # a false alarm in either model counts
    assert divergence(false_alarms, background) > 0.1
