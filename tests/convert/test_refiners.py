"""Test conversion of a detector's second stage, for a first stage that finds bright squares."""

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
from fer_edge_convert.quantization import Method, Plan, Scheme, observe, quantize
from fer_edge_convert.sources import open_detector

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]


def test_writes_both_stages_into_one_file(
    cli: Cli, foreign: Path, first_stage: Path, squares_in_images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "refined.tflite"
    command = ("convert", foreign / "centred.keras", "--int8", "--data", squares_in_images, "--detector", first_stage)
    cli(*command, "-o", out)
    assert model_bytes(out) == model_bytes(first_stage)
    card, before = read_card(out, DetectorCard), read_card(first_stage, DetectorCard)
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
    info = json.loads(cli("inspect", out, "--json").stdout)
    assert info["refiner"]["integer_only"] is info["refiner"]["intact"] is True
    # A new second stage replaces the old one.
    replaced = tmp_path / "again.tflite"
    cli(*command[:-1], out, "-o", replaced)
    assert refiner_bytes(replaced) == refiner_bytes(out)
    # A float conversion changes nothing.
    float_model = tmp_path / "float.tflite"
    cli("convert", foreign / "centred.keras", "--float32", "--detector", first_stage, "-o", float_model)
    assert NetworkDetector(float_model).self_test() == pytest.approx(0, abs=1e-4)


def test_refiner_requires_a_first_stage(
    cli: Cli, foreign: Path, first_stage: Path, squares_in_images: Path, tmp_path: Path
) -> None:
    options = ("-o", tmp_path / "out.tflite", "--int8", "--data", squares_in_images)
    without_detector = cli("convert", foreign / "centred.keras", *options, status=2).stderr
    assert without_detector.endswith("a detector's second stage; give the .tflite of the first one: --detector FILE\n")
    not_a_refiner = cli("convert", foreign / "squares.keras", *options, "--detector", first_stage, status=2).stderr
    assert not_a_refiner.endswith("--detector is for a detector's second stage; leave it out\n")
    missing_detector = cli(
        "convert", foreign / "centred.keras", *options, "--detector", tmp_path / "none.tflite", status=2
    ).stderr
    assert missing_detector.endswith("none.tflite: no such model file\n")
    refiner_as_detector = cli(
        "convert", foreign / "centred.keras", *options, "--detector", foreign / "centred.keras", status=2
    ).stderr
    assert refiner_as_detector.endswith(
        "the second stage of a face detector; give a face detector here, such as faces.tflite\n"
    )


def test_deduplicated_model_is_smaller_and_gives_same_outputs(foreign: Path) -> None:
    source = open_detector(foreign / "squares.keras")
    images = Images(np.random.default_rng(0).integers(0, 256, (3, 320, 320), np.uint8), source.card.input)
    ranges = {name: output.range(Method.MINMAX) for name, output in observe(source.model, images).items()}
    model = quantize(source.model, Plan(Scheme.INT8, ranges))
    small_model = deduplicate(model)
    assert len(small_model) < 0.9 * len(model)
    assert deduplicate(small_model) == small_model
    for output, small_output in zip(run_all(model, images), run_all(small_model, images), strict=True):
        assert np.array_equal(output, small_output)
