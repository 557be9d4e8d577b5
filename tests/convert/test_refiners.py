"""Converting the second stage of a detector, beside a first one that finds bright squares."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.detection.network import NetworkDetector
from fer_edge.modelcard.archive import model_bytes, refiner_bytes
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import DetectorCard
from fer_edge_convert.flatbuffer import Images, deduplicate, run_all
from fer_edge_convert.quantisation import Method, Plan, Scheme, observe, quantise
from fer_edge_convert.sources import open_detector

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]


@pytest.fixture(scope="module")
def first(cli: Cli, foreign: Path, squares_in_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("first") / "squares.tflite"
    cli("convert", foreign / "squares.keras", "--int8", "--data", squares_in_images, "-o", out)
    return out


def test_both_stages_come_into_one_file(
    cli: Cli, foreign: Path, first: Path, squares_in_images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "refined.tflite"
    command = ("convert", foreign / "centred.keras", "--int8", "--data", squares_in_images, "--detector", first)
    cli(*command, "-o", out)
    assert model_bytes(out) == model_bytes(first)
    card, before = read_card(out, DetectorCard), read_card(first, DetectorCard)
    assert card.refiner
    assert card.self_test == before.self_test
    assert card.threshold == card.refiner.threshold == 0.5
    assert card.made_by[:-1] == ("first", "second"), "which its training took over from the first stage"
    assert card.made_by[-1].startswith("fer-edge convert ")
    assert card.scores["average precision"] == 0.5
    assert card.scores["int8 average precision"] > 0.9
    report = json.loads(out.with_suffix(".parity.json").read_text())
    assert len(report["attempts"]) == 8
    assert set(report["parity"]["difference"]) == {"1", "4", "10"}
    assert NetworkDetector(out).self_test() == 0
    found = json.loads(cli("inspect", out, "--json").stdout)
    assert found["refiner"]["integer_only"] is found["refiner"]["intact"] is True
    # A second one takes the place of the first.
    again = tmp_path / "again.tflite"
    cli(*command[:-1], out, "-o", again)
    assert refiner_bytes(again) == refiner_bytes(out)
    # In floats it is the model itself.
    real = tmp_path / "float.tflite"
    cli("convert", foreign / "centred.keras", "--float32", "--detector", first, "-o", real)
    assert NetworkDetector(real).self_test() == pytest.approx(0, abs=1e-4)


def test_a_second_stage_wants_a_first_one_and_only_it(
    cli: Cli, foreign: Path, first: Path, squares_in_images: Path, tmp_path: Path
) -> None:
    start = ("-o", tmp_path / "out.tflite", "--int8", "--data", squares_in_images)
    alone = cli("convert", foreign / "centred.keras", *start, status=2).stderr
    assert alone.endswith("a detector's second stage; give the .tflite of the first one: --detector FILE\n")
    other = cli("convert", foreign / "squares.keras", *start, "--detector", first, status=2).stderr
    assert other.endswith("--detector is for a detector's second stage; leave it out\n")
    none = cli("convert", foreign / "centred.keras", *start, "--detector", tmp_path / "none.tflite", status=2).stderr
    assert none.endswith("none.tflite: no such model file\n")
    wrong = cli("convert", foreign / "centred.keras", *start, "--detector", foreign / "centred.keras", status=2).stderr
    assert wrong.endswith("the second stage of a face detector; give a face detector here, such as faces.tflite\n")


def test_a_lean_model_gives_the_same_in_fewer_bytes(foreign: Path) -> None:
    source = open_detector(foreign / "squares.keras")
    some = Images(np.random.default_rng(0).integers(0, 256, (3, 320, 320), np.uint8), source.card.input)
    ranges = {name: one.range(Method.MINMAX) for name, one in observe(source.model, some).items()}
    model = quantise(source.model, Plan(Scheme.INT8, ranges))
    small = deduplicate(model)
    assert len(small) < 0.9 * len(model)
    assert deduplicate(small) == small
    for one, other in zip(run_all(model, some), run_all(small, some), strict=True):
        assert np.array_equal(one, other)
