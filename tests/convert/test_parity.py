"""Test the parity report of a conversion, and what conversion refuses or rescues."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np
import pytest

from fer_edge.datasets.readers import load_dataset
from fer_edge.modelcard.archive import model_bytes, with_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge.tflite.graph import read_graph
from fer_edge_convert import flatbuffer
from fer_edge_convert.calibration import separate_faces, split_test_rows
from fer_edge_convert.flatbuffer import Images, run_model
from fer_edge_convert.metadata import METADATA
from fer_edge_convert.parity import divergence
from fer_edge_convert.quantization import ActivationStats, Method, Plan, Scheme, correct_biases, observe, quantize

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from tests.conftest import Cli, Sample

# One worker, so that the models are made once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("parity")]


@pytest.fixture(scope="module")
def model_with_bad_layer(edge_float: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the shipped model with a layer that int8 breaks, and the name of the layer.

    One channel of the layer is a thousand times larger, and the next layer makes it as much smaller. The float scores
    stay the same; in int8 the other channels of the layer round to zero.
    """
    model = model_bytes(edge_float)
    operations = read_graph(model, edge_float).operations
    index = 10  # a convolution in a residual block; only the next convolution uses its output
    first, second = operations[index], operations[index + 1]
    assert (first.kind, second.kind) == ("CONV_2D", "CONV_2D")
    assert second.inputs[0].name == first.name
    names = first.inputs[1].name, first.inputs[2].name, second.inputs[1].name
    found = flatbuffer.constants(model, names)
    weights, bias, next_weights = (found[name] for name in names)
    weights[3] *= 1000
    bias[3] *= 1000
    next_weights[..., 3] /= 1000
    changed = flatbuffer.with_constants(model, found)
    path = tmp_path_factory.mktemp("planted") / "planted.tflite"
    path.write_bytes(
        with_card(changed, msgspec.structs.replace(read_card(edge_float, ClassifierCard), flatbuffer_sha256=""))
    )
    return path, first.short_name


def test_names_refuses_and_rescues_a_layer_with_a_bad_range(
    cli: Cli, model_with_bad_layer: tuple[Path, str], half_csv: Path, tmp_path: Path
) -> None:
    model, name = model_with_bad_layer
    out = tmp_path / "out.tflite"
    out.write_text("the old model")
    convert = ("convert", model, "--int8", "--data", half_csv, "-o", out)
    output = cli(*convert, status=1).stderr.splitlines()[-1]
    assert "not written" in output
    assert name in output
    assert "--rescue" in output
    assert out.read_text() == "the old model"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parity.html", "out.parity.json", "out.tflite"]
    report = json.loads((tmp_path / "out.parity.json").read_text())
    assert report["parity"]["hurts_most"] == name
    assert report["parity"]["change_points"] < -1
    assert name in (tmp_path / "out.parity.html").read_text()

    result = cli(*convert, "--rescue", "--max-drop", "3")
    assert "--rescue chose by 84 faces, and the report is of the other 91: too few" in result.stderr
    report = json.loads((tmp_path / "out.parity.json").read_text())
    assert report["choice_faces"] == 84
    assert report["parity"]["original"]["faces"] == 91
    assert report["parity"]["change_points"] >= -3
    assert report["attempts"][-1]["change_points"] >= -3
    tried_methods = [attempt["way"] for attempt in report["attempts"]]
    assert any("more faces" in method for method in tried_methods)
    assert any("biases corrected" in method for method in tried_methods)
    assert "2 worst layers in float16" in tried_methods[-1]
    assert all(
        attempt["change_points"] is not None
        for attempt in report["attempts"]
        if not attempt["way"].startswith("ranges by")
    )
    assert "CONV_2D" in report["float_operators"]
    info = json.loads(cli("inspect", out, "--json").stdout)
    assert not info["integer_only"]
    assert info["bytes"] < 1_100_000

    # The first method within the limit is kept, whatever the divergence of its scores.
    compared = [attempt for attempt in report["attempts"] if attempt["change_points"] is not None]
    assert report["way"] == next(attempt["way"] for attempt in compared if attempt["change_points"] >= -3)
    assert f"seed 1: {report['way']}" in result.stdout
    assert "chose by 84 faces of the test data; the figures above are of the others" in result.stdout


def test_splits_test_faces_with_the_same_labels() -> None:
    classes = np.array([0, 1, 0, 1, 0, 1, 1, 2])
    choice, rest = split_test_rows(classes)
    assert np.bincount(classes[choice], minlength=3).tolist() == [1, 2, 0]
    assert sorted([*choice, *rest]) == list(range(8))
    assert split_test_rows(classes)[0].tolist() == choice.tolist()


def test_refuses_calibration_on_noise(cli: Cli, edge_float: Path, fer2013_csv: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"):
        (tmp_path / "noise" / label).mkdir(parents=True)
        for i in range(12):
            # Faint noise, whose activations are far below those of faces.
            image = rng.normal(128, 1, (48, 48)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "noise" / label / f"{i}.png"), image)
    noise = ("--data", fer2013_csv, "--calibrate", tmp_path / "noise", "-o", tmp_path / "out.tflite")
    errors = cli("convert", edge_float, "--int8", *noise, status=1).stderr
    assert "look unlike" in errors
    assert "not written" in errors
    assert not (tmp_path / "out.tflite").exists()


@pytest.mark.parametrize("part", ["Training", "PublicTest"])
def test_does_not_test_on_the_faces_that_ranges_are_measured_on(
    cli: Cli, edge_float: Path, sample: Sample, tmp_path: Path, *, part: str
) -> None:
    """Data of one part alone is halved, and the user is told."""
    own = [i for i, row in enumerate(sample.rows) if row["Usage"] == part]
    some = replace(sample, faces=sample.faces[own], rows=[sample.rows[i] for i in own])
    data, out = some.write_csv(tmp_path / "one-part.csv"), tmp_path / "out.tflite"
    result = cli("convert", edge_float, "--int8", "--data", data, "-o", out, "--max-drop", "5")
    (warning,) = [line for line in result.stderr.splitlines() if "warning" in line]
    assert f"one-part.csv: it has faces of {part} alone: half of them were kept to measure ranges on" in warning
    report = json.loads(out.with_suffix(".parity.json").read_text())
    assert report["parity"]["original"]["faces"] == 175
    assert 0 < sum(report["calibration_faces"].values()) <= 175
    faces = load_dataset(data, 48)
    measured, tested = separate_faces(faces, None)
    assert not tested[measured].any()
    assert tested.sum() + len(measured) == 350
    one_each = replace(some, faces=some.faces[::50], rows=some.rows[::50]).write_csv(tmp_path / "seven.csv")
    error = cli("convert", edge_float, "--int8", "--data", one_each, "-o", tmp_path / "x.tflite", status=2).stderr
    assert "seven.csv: 7 faces of one part; give two of one label at least" in error


def test_loss_on_few_faces_may_be_chance(
    cli: Cli, model_with_bad_layer: tuple[Path, str], sample: Sample, tmp_path: Path
) -> None:
    """One wrong face of a few is more than a point, but says nothing; --max-drop is strict."""
    model, out = model_with_bad_layer[0], tmp_path / "out.tflite"
    original, card = model_bytes(model), read_card(model, ClassifierCard)
    converted = quantize(original, Plan(Scheme.DYNAMIC, {}))
    images = Images(sample.faces, card.input)
    truth = load_dataset(sample.write_csv(tmp_path / "all.csv"), 48).classes_for(card.labels)
    before, after = (run_model(each, images).argmax(axis=1) == truth for each in (original, converted))
    tested = np.array([row["Usage"] == "PublicTest" for row in sample.rows])
    lost, kept = (np.flatnonzero(before & tested & each) for each in (~after, after))

    def convert(rows: npt.NDArray[np.int64], *options: str, status: int) -> str:
        some = replace(sample, faces=sample.faces[rows], rows=[sample.rows[i] for i in rows])
        data = some.write_csv(tmp_path / "some.csv")
        return cli("convert", model, "--dynamic", "--data", data, "-o", out, *options, status=status).stderr

    one_of_40 = np.concatenate((lost[:1], kept[:: len(kept) // 39][:39]))
    assert "2.5 points less accurate than the float model and 1 are allowed" in convert(one_of_40, status=0)
    assert out.exists()
    assert "not written" in convert(one_of_40, "--max-drop", "1", status=1)
    assert "not written" in convert(np.concatenate((lost[:8], kept[:32])), status=1)


def test_report_describes_every_change(cli: Cli, edge_float: Path, half_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "edge.tflite"
    result = cli("convert", edge_float, "--int8", "--data", half_csv, "-o", out, "--max-drop", "2")
    for word in ("95 % interval", "agreement", "KL divergence", "size", "latency", "hurts most", "seed 1"):
        assert word in result.stdout
    assert result.stderr == ""
    report = json.loads((tmp_path / "edge.parity.json").read_text())
    assert report["calibration_faces"] == dict.fromkeys(report["card"]["labels"], 17)
    assert [attempt["way"] for attempt in report["attempts"]] == [f"ranges by {method}" for method in Method]
    parity = report["parity"]
    assert parity["agreement"] >= 0.97
    low, high = parity["original_interval"]
    assert low < parity["original"]["accuracy"] < high
    assert len(parity["layers"]) == 47
    assert all(layer["signal_to_noise_db"] > 5 for layer in parity["layers"])
    assert parity["converted_bytes"] < 0.3 * parity["original_bytes"]
    assert report["sha256"] == json.loads(cli("inspect", out, "--json").stdout)["sha256"]
    page = (tmp_path / "edge.parity.html").read_text()
    assert page.count("data:image/png") == len(parity["worst"]) <= round(175 * (1 - parity["agreement"]))
    second_out = tmp_path / "again" / "edge.tflite"
    second_out.parent.mkdir()
    again = ("convert", edge_float, "--int8", "--data", half_csv, "-o", "edge.tflite", "--max-drop", "2")
    cli(*again, cwd=second_out.parent)
    assert model_bytes(second_out) == model_bytes(out), "the same bytes for the same input"


@pytest.mark.parametrize(
    ("scheme", "max_bytes", "input_dtype"),
    [("float16", 1_800_000, "float32"), ("dynamic", 960_000, "float32"), ("int16x8", 960_000, "int16")],
)
def test_other_schemes_keep_the_accuracy(
    cli: Cli, edge_float: Path, few_faces_csv: Path, tmp_path: Path, *, scheme: str, max_bytes: int, input_dtype: str
) -> None:
    out = tmp_path / "edge.tflite"
    cli("convert", edge_float, "--quantize", scheme, "--data", few_faces_csv, "-o", out)
    info = json.loads(cli("inspect", out, "--json").stdout)
    assert info["bytes"] < max_bytes
    assert info["input"]["dtype"] == input_dtype
    parity = json.loads((tmp_path / "edge.parity.json").read_text())["parity"]
    assert parity["agreement"] >= 0.97
    accuracy = json.loads(cli("evaluate", out, few_faces_csv, "--usage", "PublicTest", "--json").stdout)["accuracy"]
    assert accuracy == pytest.approx(parity["converted"]["accuracy"])


def test_quantizes_a_float_tflite_without_tensorflow(edge_float: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['fer-edge', 'convert', *sys.argv[1:]]\n"
        "from fer_edge.cli import app\n"
        "app(standalone_mode=False)\n"
        "assert not {'tensorflow', 'keras', 'tf_keras'} & sys.modules.keys()\n"
    )
    command = [sys.executable, "-c", code, str(edge_float), "--dynamic", "-o", str(tmp_path / "out.tflite")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "no --data: not compared" in result.stdout


def test_computes_ranges_by_each_method() -> None:
    values = np.linspace(-1, 3, 100_001, dtype=np.float32)
    stats = ActivationStats(
        lows=np.array([-1, -0.5], np.float32), highs=np.array([3, 2], np.float32), values=values, mean=np.zeros(1)
    )
    assert stats.range(Method.MINMAX) == (-1, 3)
    assert stats.range(Method.MOVING_AVERAGE) == pytest.approx((-0.975, 2.95))
    assert stats.range(Method.PERCENTILE_99_9) == pytest.approx((-0.996, 2.996), abs=1e-4)
    one, two = np.ones(1, np.float32), np.full(1, 2, np.float32)
    positive = ActivationStats(lows=one, highs=two, values=np.concatenate([one, two]), mean=np.zeros(1))
    assert positive.range(Method.MINMAX) == (0, 2), "zero must have a step of its own"


def test_bias_correction_reduces_the_error_of_the_weights(edge_float: Path, sample: Sample) -> None:
    model = model_bytes(edge_float)
    images = flatbuffer.Images(sample.faces[::14], read_card(edge_float, ClassifierCard).input)
    stats = observe(model, images)
    ranges = {name: tensor_stats.range(Method.MINMAX) for name, tensor_stats in stats.items()}
    plan = Plan(Scheme.INT8, ranges)
    quantized = quantize(model, plan)
    corrected = correct_biases(model, quantized, stats)
    means = []
    for variant in (quantized, quantize(corrected, plan)):
        means_after = channel_means(variant, images)
        names = [
            operation.name for operation in read_graph(model, edge_float).operations if operation.kind == "CONV_2D"
        ]
        means.append(
            np.mean([np.abs(means_after[name] - stats[name].mean).mean() / stats[name].mean.std() for name in names])
        )
    assert means[1] < means[0]


def channel_means(model: bytes, images: flatbuffer.Images) -> dict[str, np.ndarray]:
    """Return the mean of each channel of each tensor of a quantized model, in real values."""
    trace = flatbuffer.Tracer(model)
    means_by_tensor: dict[str, list[np.ndarray]] = {}
    for i in range(len(images)):
        for name, value in trace(images[i]):
            means_by_tensor.setdefault(name, []).append(value.reshape(-1, value.shape[-1]).mean(axis=0))
    return {name: np.mean(means, axis=0) for name, means in means_by_tensor.items()}


def test_divergence_of_equal_scores_is_zero() -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(7), 20).astype(np.float32)
    assert divergence(scores, scores) == pytest.approx(0, abs=1e-9)
    assert divergence(scores, np.roll(scores, 1, axis=1)) > 0.1


def test_writes_metadata_for_other_tools(cli: Cli, edge_float: Path) -> None:
    info = json.loads(cli("inspect", edge_float, "--json").stdout)
    assert METADATA in info["metadata"]
    content = model_bytes(edge_float)
    assert b"M001" in content
    assert b"labels.txt" in content


def test_warns_of_an_inaccurate_float_model(cli: Cli, edge_float: Path, few_faces_csv: Path, tmp_path: Path) -> None:
    wrong_labels = "disgust,fear,happy,sad,surprise,neutral,angry"
    result = cli(
        *("convert", edge_float, "--int8", "--labels", wrong_labels, "--data", few_faces_csv, "--max-drop", "9"),
        *("-o", tmp_path / "out.tflite"),
    )
    assert "the float model itself is right on" in result.stderr
    assert read_card(tmp_path / "out.tflite", ClassifierCard).labels == tuple(wrong_labels.split(","))
