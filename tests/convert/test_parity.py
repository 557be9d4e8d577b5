"""The report finds what quantisation breaks, names the layer, and conversion refuses or rescues."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np
import pytest

from fer_edge.modelcard.archive import model_bytes, with_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge.tflite.graph import read_graph
from fer_edge_convert import flatbuffer
from fer_edge_convert.metadata import METADATA
from fer_edge_convert.parity import divergence
from fer_edge_convert.quantisation import ActivationStats, Method, Plan, Scheme, correct_biases, observe, quantise

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli, Sample

# One worker, so that the models are made once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]


@pytest.fixture(scope="module")
def planted(edge_float: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The shipped model with one channel made a thousand times larger, and as much smaller after it: in floats the
    same, in int8 the layer's other channels have no steps left.  With the layer's name."""
    model = model_bytes(edge_float)
    operations = read_graph(model, edge_float).operations
    bad = 10  # a convolution inside a residual pair, whose output goes to the next convolution alone
    first, second = operations[bad], operations[bad + 1]
    assert (first.kind, second.kind) == ("CONV_2D", "CONV_2D")
    assert second.inputs[0].name == first.name
    weights, bias, after = (
        flatbuffer.constant(model, name) for name in (first.inputs[1].name, first.inputs[2].name, second.inputs[1].name)
    )
    assert weights is not None
    assert bias is not None
    assert after is not None
    weights[3] *= 1000
    bias[3] *= 1000
    after[..., 3] /= 1000
    names = first.inputs[1].name, first.inputs[2].name, second.inputs[1].name
    changed = flatbuffer.with_constants(model, dict(zip(names, (weights, bias, after), strict=True)))
    path = tmp_path_factory.mktemp("planted") / "planted.tflite"
    path.write_bytes(
        with_card(changed, msgspec.structs.replace(read_card(edge_float, ClassifierCard), flatbuffer_sha256=""))
    )
    return path, first.short_name


def test_a_layer_with_a_bad_range_is_named_refused_and_rescued(
    cli: Cli, planted: tuple[Path, str], fer2013_csv: Path, tmp_path: Path
) -> None:
    model, name = planted
    out = tmp_path / "out.tflite"
    out.write_text("the old model")
    convert = ("convert", model, "--int8", "--data", fer2013_csv, "-o", out)
    said = cli(*convert, status=1).stderr.splitlines()[-1]
    assert "not written" in said
    assert name in said
    assert "--rescue" in said
    assert out.read_text() == "the old model"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parity.html", "out.parity.json", "out.tflite"]
    report = json.loads((tmp_path / "out.parity.json").read_text())
    assert report["parity"]["hurts_most"] == name
    assert report["parity"]["change_points"] < -1
    assert name in (tmp_path / "out.parity.html").read_text()

    cli(*convert, "--rescue")
    report = json.loads((tmp_path / "out.parity.json").read_text())
    assert report["parity"]["change_points"] >= -1
    ways = [attempt["what"] for attempt in report["attempts"]]
    assert any("more faces" in way for way in ways)
    assert any("biases corrected" in way for way in ways)
    assert "2 worst layers in float16" in ways[-1]
    assert all(
        attempt["change_points"] is not None
        for attempt in report["attempts"]
        if not attempt["what"].startswith("ranges by")
    )
    assert "CONV_2D" in report["float_operators"]
    found = json.loads(cli("inspect", out, "--json").stdout)
    assert not found["integer_only"]
    assert found["bytes"] < 1_100_000

    # The first way that loses little enough is kept, however far its scores lie from the float ones.
    tried = [attempt for attempt in report["attempts"] if attempt["change_points"] is not None]
    limit = max(attempt["change_points"] for attempt in tried[1:-1])
    enough = next(attempt for attempt in tried if attempt["change_points"] >= limit)
    said = cli(*convert, "--rescue", "--max-drop", str(-limit)).stdout
    report = json.loads((tmp_path / "out.parity.json").read_text())
    assert report["way"] == enough["what"]
    assert report["parity"]["change_points"] == enough["change_points"]
    assert f"seed 1: {enough['what']}" in said


def test_calibration_on_noise_is_noticed_and_refused(
    cli: Cli, edge_float: Path, fer2013_csv: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for label in ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"):
        (tmp_path / "noise" / label).mkdir(parents=True)
        for i in range(12):
            # Faint noise: nothing in it comes near the values that faces cause.
            image = rng.normal(128, 1, (48, 48)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "noise" / label / f"{i}.png"), image)
    noise = ("--data", fer2013_csv, "--calibrate", tmp_path / "noise", "-o", tmp_path / "out.tflite")
    said = cli("convert", edge_float, "--int8", *noise, status=1).stderr
    assert "look unlike" in said
    assert "not written" in said
    assert not (tmp_path / "out.tflite").exists()


def test_the_report_says_what_changed(cli: Cli, edge_float: Path, fer2013_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "edge.tflite"
    said = cli("convert", edge_float, "--int8", "--data", fer2013_csv, "-o", out, "--max-drop", "2")
    for word in ("95 % interval", "agreement", "KL divergence", "size", "latency", "hurts most", "seed 1"):
        assert word in said.stdout
    assert said.stderr == ""
    report = json.loads((tmp_path / "edge.parity.json").read_text())
    assert report["calibration_faces"] == dict.fromkeys(report["card"]["labels"], 34)
    assert [attempt["what"] for attempt in report["attempts"]] == [f"ranges by {method}" for method in Method]
    parity = report["parity"]
    assert parity["agreement"] >= 0.97
    low, high = parity["original_interval"]
    assert low < parity["original"]["accuracy"] < high
    assert len(parity["layers"]) == 47
    assert all(layer["signal_to_noise_db"] > 5 for layer in parity["layers"])
    assert parity["converted_bytes"] < 0.3 * parity["original_bytes"]
    assert report["sha256"] == json.loads(cli("inspect", out, "--json").stdout)["sha256"]
    page = (tmp_path / "edge.parity.html").read_text()
    assert page.count("data:image/png") == len(parity["worst"]) <= round(350 * (1 - parity["agreement"]))
    again = tmp_path / "again" / "edge.tflite"
    again.parent.mkdir()
    cli(
        "convert", edge_float, "--int8", "--data", fer2013_csv, "-o", "edge.tflite", "--max-drop", "2", cwd=again.parent
    )
    assert model_bytes(again) == model_bytes(out), "the same bytes for the same input"


@pytest.mark.parametrize(
    ("scheme", "largest", "operand"),
    [("float16", 1_800_000, "float32"), ("dynamic", 960_000, "float32"), ("int16x8", 960_000, "int16")],
)
def test_other_schemes_keep_the_accuracy(
    cli: Cli, edge_float: Path, sample: Sample, tmp_path: Path, *, scheme: str, largest: int, operand: str
) -> None:
    out = tmp_path / "edge.tflite"
    few = sample.write_csv(tmp_path / "few.csv", slice(0, 700, 10))
    cli("convert", edge_float, "--quantize", scheme, "--data", few, "-o", out)
    found = json.loads(cli("inspect", out, "--json").stdout)
    assert found["bytes"] < largest
    assert found["input"]["dtype"] == operand
    parity = json.loads((tmp_path / "edge.parity.json").read_text())["parity"]
    assert parity["agreement"] >= 0.97
    score = json.loads(cli("evaluate", out, few, "--usage", "PublicTest", "--json").stdout)["accuracy"]
    assert score == pytest.approx(parity["converted"]["accuracy"])


def test_a_float_tflite_is_quantised_without_tensorflow(edge_float: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['fer-edge', 'convert', *sys.argv[1:]]\n"
        "from fer_edge.cli import app\n"
        "app(standalone_mode=False)\n"
        "assert not {'tensorflow', 'keras', 'tf_keras'} & sys.modules.keys()\n"
    )
    command = [sys.executable, "-c", code, str(edge_float), "--dynamic", "-o", str(tmp_path / "out.tflite")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no --data: not compared" in done.stdout


def test_ranges_by_each_method() -> None:
    values = np.linspace(-1, 3, 100_001, dtype=np.float32)
    seen = ActivationStats(
        lows=np.array([-1, -0.5], np.float32), highs=np.array([3, 2], np.float32), values=values, mean=np.zeros(1)
    )
    assert seen.range(Method.MINMAX) == (-1, 3)
    assert seen.range(Method.MOVING_AVERAGE) == pytest.approx((-0.975, 2.95))
    assert seen.range(Method.PERCENTILE_99_9) == pytest.approx((-0.996, 2.996), abs=1e-4)
    one, two = np.ones(1, np.float32), np.full(1, 2, np.float32)
    positive = ActivationStats(lows=one, highs=two, values=np.concatenate([one, two]), mean=np.zeros(1))
    assert positive.range(Method.MINMAX) == (0, 2), "zero must have a step of its own"


def test_bias_correction_makes_up_for_the_weights_error(edge_float: Path, sample: Sample) -> None:
    model = model_bytes(edge_float)
    images = flatbuffer.Images(sample.faces[::14], read_card(edge_float, ClassifierCard).input)
    seen = observe(model, images)
    ranges = {name: one.range(Method.MINMAX) for name, one in seen.items()}
    plan = Plan(Scheme.INT8, ranges)
    quantised = quantise(model, plan)
    corrected = correct_biases(model, quantised, seen)
    means = []
    for changed in (quantised, quantise(corrected, plan)):
        after = observe_any(changed, images)
        names = [one.name for one in read_graph(model, edge_float).operations if one.kind == "CONV_2D"]
        means.append(np.mean([np.abs(after[name] - seen[name].mean).mean() / seen[name].mean.std() for name in names]))
    assert means[1] < means[0]


def observe_any(model: bytes, images: flatbuffer.Images) -> dict[str, np.ndarray]:
    """Mean of each channel of each tensor of a quantised model, in real values."""
    trace = flatbuffer.Tracer(model)
    found: dict[str, list[np.ndarray]] = {}
    for i in range(len(images)):
        for name, value in trace(images[i]):
            found.setdefault(name, []).append(value.reshape(-1, value.shape[-1]).mean(axis=0))
    return {name: np.mean(means, axis=0) for name, means in found.items()}


def test_divergence_of_the_same_scores_is_nothing() -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(7), 20).astype(np.float32)
    assert divergence(scores, scores) == pytest.approx(0, abs=1e-9)
    assert divergence(scores, np.roll(scores, 1, axis=1)) > 0.1


def test_metadata_is_there_for_other_tools(cli: Cli, edge_float: Path) -> None:
    found = json.loads(cli("inspect", edge_float, "--json").stdout)
    assert METADATA in found["metadata"]
    content = model_bytes(edge_float)
    assert b"M001" in content
    assert b"labels.txt" in content


def test_a_model_that_is_wrong_itself_is_said_to_be(
    cli: Cli, edge_float: Path, fer2013_csv: Path, tmp_path: Path
) -> None:
    wrong = "disgust,fear,happy,sad,surprise,neutral,angry"
    done = cli(
        *("convert", edge_float, "--int8", "--labels", wrong, "--data", fer2013_csv, "--max-drop", "9"),
        *("-o", tmp_path / "out.tflite"),
    )
    assert "the float model itself is right on" in done.stderr
    assert read_card(tmp_path / "out.tflite", ClassifierCard).labels == tuple(wrong.split(","))
