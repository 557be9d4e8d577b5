"""Test the conversion for accelerators, with scripts in place of their compilers, which are not free to install."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.classification.labels import FER2013
from fer_edge.errors import FerEdgeError
from fer_edge.modelcard.archive import model_bytes
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard, DetectorCard
from fer_edge.tflite.graph import read_graph
from fer_edge_convert.compilers import compile_files
from fer_edge_convert.flatbuffer import parse
from fer_edge_convert.targets import Target, TargetFiles, left_to_cpu
from tests.convert.test_sources import INPUT_OPTIONS

if TYPE_CHECKING:
    from tests.conftest import Cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]

# As the real ones: options, names of the files that they write, and what they write on the way.
EDGE_TPU = """#!/bin/sh
while [ $# -gt 1 ]; do case "$1" in -o|--out_dir) out=$2; shift 2;; *) echo "Unknown flag: $1"; exit 1;; esac; done
name=$(basename "$1" .tflite)
[ -s "$1" ] || { echo "Invalid model: $1"; exit 1; }
echo log > "$out/${name}_edgetpu.log"
cp "$1" "$out/${name}_edgetpu.tflite"
echo "Model compiled successfully in 12 ms."
"""
HAILO = """#!/bin/sh
echo "hailo $*" >> "$CALLS"
case "$1 $2" in
"parser tf") model=$3; shift 3
  while [ $# -gt 0 ]; do case "$1" in --har-path) har=$2; shift 2;; --net-name) name=$2; shift 2;;
    --hw-arch) shift 2;; -y) shift;; *) exit 2;; esac; done
  [ -s "$model" ] || exit 3
  echo "$name" > "$har";;
"optimize "*) har=$2; shift 2
  while [ $# -gt 0 ]; do case "$1" in --calib-set-path) set=$2; shift 2;; --output-har-path) to=$2; shift 2;;
    --hw-arch) shift 2;; *) exit 2;; esac; done
  [ -s "$set" ] || exit 3
  cp "$har" "$to";;
"compiler "*) har=$2; shift 2
  while [ $# -gt 0 ]; do case "$1" in --output-dir) dir=$2; shift 2;; --hw-arch) shift 2;; *) exit 2;; esac; done
  echo hef > "$dir/$(cat "$har").hef";;
*) exit 2;;
esac
"""
IMX500 = """#!/bin/sh
while [ $# -gt 0 ]; do case "$1" in -i) model=$2; shift 2;; -o) out=$2; shift 2;; --no-input-persistency) shift;;
  *) exit 2;; esac; done
[ -s "$model" ] || { echo "no such model"; exit 1; }
mkdir -p "$out" && echo packed > "$out/packerOut.zip"
"""
# The Python of Sony's environment has its own packages, so it only shows here that it runs the script.
SONY_PYTHON = """#!/bin/sh
grep -q keras_post_training_quantization "$1" || exit 1
echo quantized > "${1%.py}.keras"
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder at the front of ``PATH``."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return folder


@pytest.fixture(scope="module")
def small(cli: Cli, foreign: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small classifier as a float ``.tflite`` with its card."""
    out = tmp_path_factory.mktemp("small") / "small.tflite"
    cli("convert", foreign / "sequential-3.h5", "--float32", *INPUT_OPTIONS, "-o", out)
    return out


def install(path: Path, script: str) -> None:
    path.write_text(script)
    path.chmod(0o755)


def count_scales(path: Path, kind: str) -> set[int]:
    """Return how many scales the weights of operators of a kind have."""
    tensors = {one.name.decode(): one for one in parse(model_bytes(path)).subgraphs[0].tensors}
    operations = read_graph(model_bytes(path), path).operations
    return {len(tensors[one.inputs[1].name].quantization.scale) for one in operations if one.kind == kind}


def test_dense_layers_have_a_scale_for_each_output_but_for_tflite_runtime(
    cli: Cli, small: Path, few_faces_csv: Path, tmp_path: Path
) -> None:
    out = tmp_path / "edge.tflite"
    for scheme, data in (("--int8", ("--data", few_faces_csv, "--max-drop", "100")), ("--dynamic", ())):
        cli("convert", small, scheme, *data, "-o", out)
        assert count_scales(out, "FULLY_CONNECTED") == {16, 7}
        result = cli("convert", small, scheme, "--for", "tflite-runtime", *data, "-o", out)
        assert count_scales(out, "FULLY_CONNECTED") == {1}
        assert "compiled" not in result.stdout
    error = cli("convert", small, "--int16x8", "--for", "tflite-runtime", "-o", out, status=2).stderr
    assert f"--int16x8 --for tflite-runtime -o {out} --data fer2013.csv" in error


def test_prepares_face_detectors(cli: Cli, foreign: Path, squares_in_images: Path, tmp_path: Path) -> None:
    model, out = foreign / "squares.keras", tmp_path / "squares.tflite"
    data = ("--data", squares_in_images, "--max-drop", "100", "-o", out)
    lines = cli("convert", model, "--for", "edgetpu", *data).stdout.splitlines()
    assert shlex.split(lines[-1]) == ["edgetpu_compiler", "-o", str(tmp_path), str(out)]
    assert json.loads(cli("inspect", out, "--json").stdout)["input"]["dtype"] == "int8"
    lines = cli("convert", model, "--for", "hailo", *data).stdout.splitlines()
    assert lines[-3].startswith("hailo parser tf")
    images, spec = np.load(out.with_suffix(".calibration.npy")), read_card(out, DetectorCard).input
    assert images.shape == (15, 320, 320, 1)
    assert spec.offset <= images.min() < images.max() <= 255 * spec.scale + spec.offset
    cli("convert", model, "--for", "tflite-runtime", *data)
    error = cli("convert", model, "--for", "imx500", *data, status=2).stderr
    assert "a face detector of images of any size, and the IMX500's converter takes one size only" in error
    second = ("convert", foreign / "centred.keras", "--detector", out, "--for", "edgetpu", *data[:-1])
    error = cli(*second, tmp_path / "both.tflite", status=2).stderr
    assert "the second stage of a face detector, which is written into the file of the first" in error


def test_edge_tpu(cli: Cli, small: Path, few_faces_csv: Path, tmp_path: Path, tools: Path) -> None:
    out = tmp_path / "edge.tflite"
    convert = ("convert", small, "--for", "edgetpu", "--data", few_faces_csv, "--max-drop", "100", "-o", out)
    error = cli("convert", small, "--for", "edgetpu", "-o", out, status=2).stderr
    assert f"as in: fer-edge convert {small} --for edgetpu -o {out} --data fer2013.csv" in error
    assert "--for edgetpu needs int8; leave --float16 out" in cli(*convert, "--float16", status=2).stderr
    lines = cli(*convert).stdout.splitlines()
    assert lines[-2].startswith("not compiled: no edgetpu_compiler on PATH")
    assert shlex.split(lines[-1]) == ["edgetpu_compiler", "-o", str(tmp_path), str(out)]
    info = json.loads(cli("inspect", out, "--json").stdout)
    assert info["integer_only"]
    assert info["input"]["dtype"] == "int8"
    assert count_scales(out, "FULLY_CONNECTED") == {1}, "its compiler takes no other dense layer"
    assert min(count_scales(out, "CONV_2D")) > 1

    install(tools / "edgetpu_compiler", EDGE_TPU)
    assert f"compiled    {tmp_path / 'edge_edgetpu.tflite'}, by edgetpu_compiler; not tried" in cli(*convert).stdout
    assert (tmp_path / "edge_edgetpu.tflite").read_bytes() == out.read_bytes()
    assert not list(tmp_path.glob("*.log"))

    install(
        tools / "edgetpu_compiler", "#!/bin/sh\necho half > edge_edgetpu.tflite\necho Model not quantized\nexit 1\n"
    )
    (error,) = (
        line for line in cli(*convert, status=1).stderr.splitlines() if not line.startswith("fer-edge: warning: ")
    )
    assert "edgetpu_compiler -o: failed with exit status 1, and said: Model not quantized; all of its output" in error
    assert (tmp_path / "edge.edgetpu.log").read_text() == "Model not quantized\n"
    files = TargetFiles(Target.EDGETPU, out, small)
    install(tools / "edgetpu_compiler", "#!/bin/sh\n")
    with pytest.raises(FerEdgeError, match=r"ended without an error, but wrote no edge_edgetpu\.tflite; is it"):
        compile_files(files)
    install(tools / "edgetpu_compiler", "#!/no/such/interpreter\n")
    with pytest.raises(FerEdgeError, match=r"edgetpu_compiler: cannot be run \(No such file"):
        compile_files(files)
    assert left_to_cpu(out.read_bytes(), out) == []
    assert "CONV_2D" in left_to_cpu(small.read_bytes(), small)
    assert not Path("edge_edgetpu.tflite").exists(), "a compiler runs in a folder that is deleted"
    assert (tmp_path / "edge_edgetpu.tflite").read_bytes() == out.read_bytes(), "the file of the last success stays"


def test_hailo(cli: Cli, small: Path, few_faces_csv: Path, tmp_path: Path, tools: Path) -> None:
    out = tmp_path / "my-edge.tflite"
    convert = ("convert", small, "--for", "hailo", "-o", out)
    assert "give --data, too" in cli(*convert, status=2).stderr
    lines = cli(*convert, "--calibrate", few_faces_csv).stdout.splitlines()
    calibration = out.with_suffix(".calibration.npy")
    assert f"written     {calibration}" in lines
    assert [line.split()[:2] for line in lines[-3:]] == [
        ["hailo", "parser"],
        ["hailo", "optimize"],
        ["hailo", "compiler"],
    ]
    images = np.load(calibration)
    spec = read_card(out, ClassifierCard).input
    assert images.dtype == np.float32
    assert images.shape[1:] == (spec.height, spec.width, spec.channels)
    assert images.min() >= spec.offset
    assert images.max() <= 255 * spec.scale + spec.offset

    install(tools / "hailo", HAILO)
    cli("convert", small, "--for", "hailo8", "--data", few_faces_csv, "--max-drop", "100", "-o", out)
    assert out.with_suffix(".hef").read_text() == "hef\n"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert all("--hw-arch hailo8" in call and "hailo8l" not in call for call in calls)
    assert "--net-name my_edge" in calls[0]


def test_imx500(cli: Cli, small: Path, foreign: Path, few_faces_csv: Path, *, tmp_path: Path, tools: Path) -> None:
    out = tmp_path / "edge.tflite"
    options = ("--for", "imx500", "--data", few_faces_csv, "--max-drop", "100", "-o", out)
    assert "give the .keras or .h5 that this was made of" in cli("convert", small, *options, status=2).stderr
    model = foreign / "logits.keras"
    result = cli("convert", model, *INPUT_OPTIONS, *options)
    assert "has Keras 2, which may not read it" in result.stderr
    lines = result.stdout.splitlines()
    assert shlex.split(lines[-2]) == ["python", str(tmp_path / "edge.imx500.py")]
    assert shlex.split(lines[-1])[:3] == ["imxconv-tf", "-i", str(tmp_path / "edge.imx500.keras")]
    script = (tmp_path / "edge.imx500.py").read_text()
    compile(script, "script", "exec")
    assert repr(str(model)) in script

    install(tools / "imxconv-tf", IMX500)
    install(tools / "python", SONY_PYTHON)
    cli("convert", model, *INPUT_OPTIONS, *options)
    assert (tmp_path / "edge_imx500" / "packerOut.zip").read_text() == "packed\n"


def test_imx500_takes_weights_with_the_description_of_their_layers(
    cli: Cli, foreign: Path, few_faces_csv: Path, tmp_path: Path
) -> None:
    out, parts = tmp_path / "fer.tflite", foreign / "parts-two"
    stated = ("--labels", ",".join(FER2013), "--input-range", "0..1", "--unchecked")
    for given in ("fer.h5", "fer.json"):
        result = cli("convert", parts / given, "--for", "imx500", "--data", few_faces_csv, *stated, "-o", out)
        assert "may not read it" not in result.stderr
        script = out.with_suffix(".imx500.py").read_text()
        compile(script, "script", "exec")
        assert f"model_from_json(Path({str(parts / 'fer.json')!r}).read_text(" in script
        assert f"model.load_weights({str(parts / 'fer.h5')!r})" in script
