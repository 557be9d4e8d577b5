from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

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
from fer_edge_convert.quantisation import Scheme
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
def converted(cli: Cli, squares: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "squares.tflite"
    cli("convert", squares, "--int8", "--data", images, "-o", out)
    return out


def test_a_detector_is_converted_and_its_report_says_what_was_lost(converted: Path) -> None:
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


def test_the_same_command_gives_the_same_bytes(cli: Cli, squares: Path, images: Path, converted: Path) -> None:
    before = converted.read_bytes()
    cli("convert", squares, "--int8", "--data", images, "-o", converted)
    assert converted.read_bytes() == before


def test_a_file_of_one_size_gives_at_another_what_one_of_that_size_gives(
    cli: Cli, squares: Path, converted: Path, tmp_path: Path
) -> None:
    real = tmp_path / "float.tflite"
    cli("convert", squares, "--float32", "-o", real)
    source = open_detector(real)
    assert (source.height, source.width) == (320, 320)
    gray = np.random.default_rng(1).integers(0, 256, (96, 160), np.uint8)
    for path in (real, converted):
        card = read_card(path, DetectorCard)
        small = FaceNetwork(model_bytes(path), card, path, height=96, width=160)
        # Zeros past the image change nothing but what lies at its edge.
        large = FaceNetwork(model_bytes(path), card, path, height=320, width=320)
        for one, other in zip(small.run(gray, 96, 160), large.run(gray, 96, 160), strict=True):
            for mine, theirs in zip(one[1:], other[1:], strict=True):
                rows, columns = mine.values.shape[1:3]
                assert np.allclose(mine.values, theirs.values[:, :rows, :columns], atol=1e-5)


def test_a_detector_that_loses_too_much_is_refused(cli: Cli, squares: Path, images: Path, tmp_path: Path) -> None:
    # Ranges measured on black images leave nothing of a bright one.
    black = tmp_path / "black"
    black.mkdir()
    cv2.imwrite(str(black / "0.png"), np.zeros((64, 96), np.uint8))
    out = tmp_path / "out.tflite"
    args = ("convert", squares, "--int8", "--data", images, "--calibrate", black, "-o", out)
    said = cli(*args, status=1).stderr
    assert "points of average precision and 1 are allowed" in said
    assert not out.exists()
    assert out.with_suffix(".parity.html").exists()
    report = json.loads(out.with_suffix(".parity.json").read_text())
    nearest = min(report["attempts"], key=lambda one: one["kl_divergence"])
    assert [one["what"] for one in report["attempts"] if one["change_points"] is not None] == [nearest["what"]]
    # Nothing is as good, so that each way is tried, and the report is about the best.
    assert "rescue" not in cli(*args, "--rescue", status=1).stderr
    report = json.loads(out.with_suffix(".parity.json").read_text())
    best = max(report["attempts"], key=lambda one: one["change_points"])
    assert report["way"] == best["what"]
    assert report["parity"]["change_points"] == best["change_points"] < -1
    # Of those that lose little enough, the nearest is kept.
    cli(*args, "--rescue", "--max-drop", str(-best["change_points"]))
    way = json.loads(out.with_suffix(".parity.json").read_text())["way"]
    enough = [one for one in report["attempts"] if one["change_points"] == best["change_points"]]
    assert way == min(enough, key=lambda one: one["kl_divergence"])["what"]


@pytest.mark.parametrize(
    ("scheme", "advice"),
    [
        (Scheme.INT8, "; try --rescue to try other ways, --calibrate with other images, --float16, or allow it"),
        (Scheme.DYNAMIC, "; try --float16, or allow it"),
        (Scheme.FLOAT16, "; try --float32, or allow it"),
        (Scheme.FLOAT32, "; allow it"),
    ],
)
def test_only_what_may_help_a_refused_detector_is_said(
    squares: Path, images: Path, tmp_path: Path, scheme: Scheme, advice: str
) -> None:
    with pytest.raises(RefusedError) as caught:  # as whatever wants to be better than the float model
        convert(
            FirstStage(open_detector(squares), test=load_faces(images, "val")),
            scheme,
            tmp_path / "x.tflite",
            max_drop=-100,
        )
    assert f"x.parity.html{advice} with --max-drop" in str(caught.value)


def test_images_without_any_face_are_none_to_compare_on(squares: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((64, 96), np.uint8))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, ("0.png", "96", "64", *("",) * 15)])
    with pytest.raises(DataError, match=f"{tmp_path}: no face is marked in these images"):
        convert(FirstStage(open_detector(squares), test=load_faces(tmp_path)), Scheme.INT8, tmp_path / "x.tflite")
    assert not (tmp_path / "x.tflite").exists()


def test_options_for_classifiers_and_missing_images_are_one_clear_error(
    cli: Cli, squares: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.tflite"
    said = cli("convert", squares, "--int8", "--labels", "a,b", "-o", out, status=2).stderr
    assert "squares.keras: a face detector, and --labels is for classifiers; leave it out" in said
    assert "give --data" in cli("convert", squares, "--int8", "-o", out, status=2).stderr
    assert "which LiteRT cannot run with --int16x8" in cli("convert", squares, "--int16x8", "-o", out, status=2).stderr
    assert "a face detector; give a classifier here" in cli("evaluate", squares, tmp_path, status=2).stderr


def test_a_detector_that_is_quantised_already_is_refused(converted: Path) -> None:
    with pytest.raises(ModelError, match=r"squares\.tflite: it is quantised already"):
        open_detector(converted)


def test_outputs_that_are_alike_do_not_diverge() -> None:
    rng = np.random.default_rng(0)
    one = [rng.uniform(0.1, 0.9, (2, 3, 4, n)).astype(np.float32) for n in (1, 4, 10)]
    other = [one[0] * 0.5, one[1], one[2]]
    assert divergence(one, one) == 0
    assert divergence(one, other) > 0.1


def test_cells_that_are_surely_no_faces_do_not_choose_a_form() -> None:
    rng = np.random.default_rng(0)
    shapes = [(2, 3, 4, n) for n in (1, 4, 10)]
    background = [np.full(shape, 0.001, np.float32) for shape in shapes]
    drifted = [background[0] + np.float32(0.03), *background[1:]]
    assert divergence(background, drifted) == pytest.approx(0, abs=1e-6)
    alarmed = [rng.uniform(0.1, 0.9, shapes[0]).astype(np.float32), *background[1:]]
    assert divergence(background, alarmed) > 0.1  # a false alarm in either form counts
    assert divergence(alarmed, background) > 0.1
