"""Test what ``fer-edge convert`` asks for, and that it does so before it reads a model."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from fer_edge.classification.labels import FER2013

if TYPE_CHECKING:
    import numpy.typing as npt

    from tests.conftest import Cli, Sample

# One worker, so that the models are made once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]

NAMES = ",".join(FER2013)
SQUARES = Path(__file__).parents[1] / "data" / "squares.tflite"


def write_onnx(path: Path, **heads: npt.NDArray[np.float32]) -> Path:
    """Write a network with linear heads by their names, each of weights of shape (2304, values)."""
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 1, 48, 48])
    nodes, weights, outputs = [onnx.helper.make_node("Flatten", ["image"], ["flat"])], [], []
    for name, head in heads.items():
        weights.append(onnx.numpy_helper.from_array(head, f"{name}_w"))
        nodes.append(onnx.helper.make_node("MatMul", ["flat", f"{name}_w"], [name]))
        outputs.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, head.shape[1]]))
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "heads", [image], outputs, weights)), path)
    return path


def head(count: int) -> npt.NDArray[np.float32]:
    """Return the weights of a head of so many values."""
    return np.random.default_rng(count).normal(0, 0.01, (2304, count)).astype(np.float32)


def error_line(cli: Cli, *args: str | Path) -> str:
    errors = cli("convert", *args, status=2).stderr
    assert errors.count("\n") == 1, errors
    return errors


def asked_command(line: str) -> list[str]:
    """Return the arguments of the command that a message proposes."""
    words = shlex.split(line.rpartition(", as in: ")[2])
    assert words[:2] == ["fer-edge", "convert"]
    return words[2:]


@pytest.mark.parametrize("option", ["--data", "--calibrate"])
def test_looks_at_the_data_before_it_reads_the_model(
    cli: Cli, few_faces_csv: Path, tmp_path: Path, *, option: str
) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(b"damaged")
    for name, text in {"header.csv": "emotion,pixels,Usage\n\n", "columns.csv": "label,pixels\n1,2\n"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "empty" / "train" / "happy").mkdir(parents=True)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "1.png").write_bytes(b"an image without a label")
    complete = ("--int8", "--labels", NAMES, "-o", tmp_path / "x.tflite")
    for name, problem in {
        "header.csv": "no rows under its header",
        "columns.csv": "no column emotion in its first line",
        "empty": "no images in class folders",
        "flat": "its images have no labels; label them with `fer-edge review",
    }.items():
        faces = ("--data", few_faces_csv) if option == "--calibrate" else ()
        assert f"{name}: {problem}" in error_line(cli, model, *complete, *faces, option, tmp_path / name)


def test_asks_once_for_all_that_is_missing(cli: Cli, tmp_path: Path) -> None:
    model = write_onnx(tmp_path / "net.onnx", age=head(1), expression=head(8), mood=head(8))
    line = error_line(cli, model, "--max-drop", "3")
    for option in ("--int8 (", "--labels (", "--data (", "-o (", "--output ("):
        assert option in line
    assert "age of 1, expression of 8 or mood of 8" in line
    assert asked_command(line) == [
        *(str(model), "--max-drop", "3", "--int8", "--labels", NAMES, "--data", "fer2013.csv"),
        *("-o", "net.tflite", "--output", "age"),
    ]
    complete = (model, "--float32", "--labels", f"{NAMES},contempt")
    line = error_line(cli, *complete, "-o", tmp_path / "x.tflite")
    assert asked_command(line)[-4:] == ["--input-range", "0..1", "--output", "expression"]


def test_asks_for_no_output_that_the_labels_tell(cli: Cli, tmp_path: Path) -> None:
    model = write_onnx(tmp_path / "net.onnx", age=head(1), expression=head(7))
    for labels in ((), ("--labels", NAMES)):
        line = error_line(cli, model, "--float32", *labels)
        assert "--output" not in line
        assert asked_command(line)[-4:] == ["--input-range", "0..1", "-o", "net.tflite"]


def test_asks_for_what_only_reading_tells_with_the_whole_command(cli: Cli, foreign: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.tflite"
    model = write_onnx(tmp_path / "net.onnx", left=head(7), right=head(7))
    complete = (model, "--float32", "--labels", NAMES, "--input-range", "0..1", "-o", out)
    line = error_line(cli, *complete)
    assert "has 2 outputs (left of 7, right of 7)" in line
    assert asked_command(line) == [*map(str, complete), "--output", "left"]
    cli("convert", *asked_command(line))
    # A file of Keras tells its outputs before it is read, too.
    asked = asked_command(error_line(cli, foreign / "two.keras", "--int8"))
    assert asked[-2] == "--output"
    assert asked[-1].startswith("softmax")
    any_size = foreign / "any-size.keras"
    complete = (any_size, "--float32", "--labels", NAMES, "--input-range", "0..1", "-o", out)
    assert asked_command(error_line(cli, *complete)) == [*map(str, complete), "--size", "48"]


def test_asks_for_all_that_a_detector_needs(cli: Cli) -> None:
    assert asked_command(error_line(cli, SQUARES)) == [
        *(str(SQUARES), "--int8", "--data", "faces/", "-o", "squares-int8.tflite")
    ]


def test_says_which_pixels_the_data_does_not_tell_apart(cli: Cli, sample: Sample, tmp_path: Path) -> None:
    """Each label has a bright place, which the network finds whatever the scale of the pixels is."""
    labels = np.array([int(row["emotion"]) for row in sample.rows])
    faces = np.random.default_rng(0).integers(0, 100, sample.faces.shape).astype(np.uint8)
    places = np.zeros((7, 48, 48), np.float32)
    for label in range(7):
        places[label, 6 * label : 6 * label + 6, :6] = 0.01
        faces[labels == label, 6 * label : 6 * label + 6, :6] = 250
    data = replace(sample, faces=faces).write_csv(tmp_path / "places.csv")
    model = write_onnx(tmp_path / "net.onnx", expression=places.reshape(7, -1).T.copy())
    command = ("convert", model, "--float32", "--data", data, "--labels", NAMES, "-o", tmp_path / "x.tflite")
    for options, name, other in (((), "0..1", "-1..1"), (("--input-range", "-1..1"), "-1..1, as stated", "0..1")):
        (line,) = [one for one in cli(*command, *options).stderr.splitlines() if one.startswith("pixels")]
        assert line.startswith(f"pixels      {name}: right on 100.0% of 350 faces; the data does not tell that from ")
        assert re.search(rf"from .*{re.escape(other)} \(100\.0%\).*: if it was trained so, give .*{other}", line)
