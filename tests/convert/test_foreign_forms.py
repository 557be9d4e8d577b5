"""Test the less usual forms in which people publish models."""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fer_edge.classification.labels import FER2013
from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import FerEdgeError, InputError, ModelError
from fer_edge.modelcard.schema import INPUT_RANGES, PixelSpec
from fer_edge.tflite.graph import read_graph
from fer_edge_convert.classifier_stage import ClassifierStage
from fer_edge_convert.conversion import convert
from fer_edge_convert.flatbuffer import Images, pack, parse, run_model
from fer_edge_convert.formats.isolated import read_isolated
from fer_edge_convert.formats.request import ReadOptions
from fer_edge_convert.pixel_values import RANGES, normalized
from fer_edge_convert.quantization import Method, Plan, Scheme, observe, quantize
from fer_edge_convert.sources import open_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fer_edge_convert.sources import SourceModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]
IMAGES = np.random.default_rng(0).uniform(0, 1, (4, 48, 48, 1)).astype(np.float32)


def scores(source: SourceModel) -> np.ndarray:
    return run_model(source.model, np.repeat(IMAGES, source.channels, axis=3))


@pytest.mark.parametrize(("folder", "weights"), [("parts-two", "fer.h5"), ("parts-three", "fer.weights.h5")])
def test_reads_weights_with_the_description_beside_them(
    foreign: Path, tmp_path: Path, *, folder: str, weights: str
) -> None:
    expected = scores(open_model(foreign / folder / "whole.keras"))
    for path in (foreign / folder / weights, foreign / folder / "fer.json"):
        source = open_model(path)
        assert "layers of fer.json" in source.kind
        assert np.allclose(scores(source), expected, atol=1e-6)
    alone = tmp_path / weights
    shutil.copy(foreign / folder / weights, alone)
    with pytest.raises(ModelError, match=r"weights without their layers; give .*--architecture FILE\.json"):
        open_model(alone)
    options = ReadOptions(architecture=str(foreign / folder / "fer.json"))
    assert np.allclose(scores(open_model(alone, options)), expected, atol=1e-6)
    twice = json.dumps((foreign / folder / "fer.json").read_text())  # json.dump(model.to_json(), file)
    alone.with_name("fer.json").write_text(twice)
    assert np.allclose(scores(open_model(alone)), expected, atol=1e-6)


def test_says_that_the_description_is_of_another_network_or_not_needed(foreign: Path) -> None:
    other = foreign / "parts-two" / "other.json"
    description = json.loads((foreign / "parts-two" / "fer.json").read_text())
    layers = description["config"]["layers"]
    next(one for one in layers if one["class_name"] == "Conv2D")["config"]["filters"] = 9
    other.write_text(json.dumps(description))
    try:
        with pytest.raises(
            ModelError, match=r"fer\.h5: its weights do not fit the layers that .*other\.json describes"
        ):
            open_model(foreign / "parts-two" / "fer.h5", ReadOptions(architecture=str(other)))
    finally:
        other.unlink()
    options = ReadOptions(architecture=str(foreign / "parts-two" / "fer.json"))
    for whole in ("augmented.keras", "channels-first.h5"):
        with pytest.raises(InputError, match="holds its layers already; leave the option out"):
            open_model(foreign / whole, options)


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_runs_only_the_named_code_for_own_layers(foreign: Path, tmp_path: Path, kind: str) -> None:
    path, code, wrong = foreign / f"own-layer.{kind}", tmp_path / "layers.py", tmp_path / "wrong.py"
    library = "keras" if kind == "keras" else "tf_keras"
    method = "    def call(self, values):\n        return values * 2\n"
    code.write_text(f"import {library}\n\nclass Twice({library}.layers.Layer):\n{method}")
    wrong.write_text("def other():\n    pass\n")
    with pytest.raises(ModelError, match=r"a (layer )?Twice.*--custom FILE\.py"):
        open_model(path)
    with pytest.raises(ModelError, match=r"a (layer )?Twice.*--custom FILE\.py"):
        open_model(path, ReadOptions(custom=str(wrong)))
    with pytest.raises(InputError, match=r"none\.py: no such file"):
        open_model(path, ReadOptions(custom=str(tmp_path / "none.py")))
    assert np.allclose(scores(open_model(path, ReadOptions(custom=str(code)))).sum(axis=1), 1, atol=1e-5)


def test_searches_the_description_beside_weights_for_code(foreign: Path, tmp_path: Path) -> None:
    shutil.copy(foreign / "parts-two" / "fer.h5", tmp_path)
    config = json.loads((foreign / "parts-two" / "fer.json").read_text())
    config["config"]["layers"].insert(1, {"class_name": "Lambda", "config": {"name": "x", "function": ["4wEA", None]}})
    (tmp_path / "fer.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"fer\.json: it has a Lambda layer"):
        open_model(tmp_path / "fer.h5")


def test_ignores_layers_and_settings_that_are_for_training_alone(foreign: Path, tmp_path: Path) -> None:
    expected = scores(open_model(foreign / "augmented.keras"))
    changed = tmp_path / "augmented.keras"
    with zipfile.ZipFile(foreign / "augmented.keras") as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                text = content.decode().replace('"factor"', '"value_range": [0, 255], "factor"')
                config = json.loads(text)
                config["compile_config"] = {"loss": {"module": "theirs", "class_name": "FocalLoss", "config": {}}}
                content = json.dumps(config).encode()
            target.writestr(name, content)
    assert np.array_equal(scores(open_model(changed)), expected)


def test_calculates_in_float32_whatever_the_policy_of_training(foreign: Path) -> None:
    source = open_model(foreign / "mixed.keras")
    assert {one.dtype for one in read_graph(source.model, source.path).tensors} <= {"FLOAT32", "INT32"}


@pytest.mark.parametrize("name", ["flat", "no-channels", "four-channels"])
def test_takes_one_image_and_gives_one_row_of_scores(foreign: Path, name: str) -> None:
    source = open_model(foreign / f"{name}.keras")
    assert (source.height, source.width, source.outputs) == (48, 48, 7)
    assert source.channels == (3 if name == "four-channels" else 1)
    if name == "four-channels":  # its fourth channel, opacity, is as bright as a pixel can be
        bright, dark = (run_model(source.with_pixels(RANGES[r]).model, np.zeros((1, 48, 48, 3), np.float32))
                        for r in ("0..255", "0..1"))  # fmt: skip
        assert not np.allclose(bright, dark)


def test_normalizes_each_channel_as_stated(foreign: Path) -> None:
    source = open_model(foreign / "mobilenet.keras")
    pixels = np.random.default_rng(1).integers(0, 256, (3, 96, 96, 3)).astype(np.float32)
    stated = normalized((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "0..1")
    made = source.with_pixels(stated)
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(run_model(made.model, pixels), run_model(source.model, expected.astype(np.float32)), atol=1e-4)
    assert made.make_card(FER2013, stated.mapping).input.scale == 1
    with pytest.raises(InputError, match="images of 1 channel, and --input-mean"):
        open_model(foreign / "logits.keras").with_pixels(stated)


def test_names_scores_that_are_no_probabilities(foreign: Path) -> None:
    assert not open_model(foreign / "sigmoids.keras").sums_to_one
    with pytest.raises(ModelError, match=r"outputs are of -1\.\.1, such as valence and arousal"):
        open_model(foreign / "valence.keras")
    with pytest.raises(InputError, match="arousal and valence: these are amounts"):
        open_model(foreign / "logits.keras").make_card(("valence", "Arousal", *"abcde"), INPUT_RANGES["0..255"])


def test_chooses_among_outputs_by_name_or_number_of_labels(foreign: Path) -> None:
    with pytest.raises(InputError, match=r"has 2 outputs \(softmax\w* of 7, dense\w* of 2\).*such as --output softmax"):
        open_model(foreign / "two.keras")
    assert open_model(foreign / "two.keras", ReadOptions(classes=7)).outputs == 7
    with pytest.raises(InputError, match=r"no output densed, but .*did you mean dense"):
        open_model(foreign / "two.keras", ReadOptions(output="densed"))


def test_reads_the_weights_of_small_tflite_files(edge_float: Path, foreign: Path, tmp_path: Path) -> None:
    whole = open_model(foreign / "logits.keras")
    for scheme, kind in ((Scheme.FLOAT16, "weights in float16"), (Scheme.DYNAMIC, "weights in int8")):
        path = tmp_path / f"{scheme}.tflite"
        path.write_bytes(quantize(open_model(edge_float).model, Plan(scheme, {})))
        source = open_model(path)
        assert kind in source.kind
        assert not any(one.quantized for one in read_graph(source.model, path).tensors)
        assert np.abs(scores(source) - scores(open_model(edge_float))).max() < 0.05
    old = parse(whole.model)
    for code in old.operatorCodes:
        code.builtinCode = schema.BuiltinOperator.ADD  # 0, as before TensorFlow 2.4
    path = tmp_path / "old.tflite"
    path.write_bytes(pack(old))
    source = open_model(path)
    assert np.array_equal(scores(source), scores(whole))
    assert any(one.quantized for one in read_graph(quantize(source.model, Plan(Scheme.DYNAMIC, {})), path).tensors)


def test_refuses_an_integer_model_with_floats_in_it(foreign: Path, few_faces_csv: Path, tmp_path: Path) -> None:
    source, out = open_model(foreign / "shrunk.keras"), tmp_path / "out.tflite"
    stage = ClassifierStage(
        source, source.make_card(FER2013, INPUT_RANGES["0..1"]), data=load_dataset(few_faces_csv, 48)
    )
    problem = r"--int8 would leave ABS \(in \S*shrunk\S*\), GREATER \(in \S*shrunk\S*\) in floats, .*--allow-float"
    with pytest.raises(ModelError, match=problem):
        convert(stage, Scheme.INT8, out, max_drop=100)
    assert not out.exists()
    assert "GREATER" in convert(stage, Scheme.INT8, out, max_drop=100, allow_float=True).float_operators
    assert convert(stage, Scheme.FLOAT16, out, max_drop=100).float_operators


def test_writes_elu_and_selu_by_operators_with_integers(foreign: Path) -> None:
    _, model = read_isolated(foreign / "activations.keras", "keras", ReadOptions())  # compared with Keras's own scores
    kinds = [one.kind for one in read_graph(model, foreign).operations]
    assert {"SELECT", "SELECT_V2", "GREATER", "EXP"}.isdisjoint(kinds)
    assert kinds.count("ELU") == 3


def test_repeats_channels_in_integers(foreign: Path, few_faces_csv: Path, tmp_path: Path) -> None:
    _, model = read_isolated(foreign / "tiled.keras", "keras", ReadOptions())  # compared with Keras's own scores
    source, out = open_model(foreign / "tiled.keras"), tmp_path / "out.tflite"
    assert [one.kind for one in read_graph(source.model, out).operations].count("CONCATENATION") == 4
    assert np.array_equal(scores(source), run_model(model, IMAGES))
    stage = ClassifierStage(
        source, source.make_card(FER2013, INPUT_RANGES["0..1"]), data=load_dataset(few_faces_csv, 48)
    )
    assert not convert(stage, Scheme.INT8, out, max_drop=100).float_operators


def test_calculates_smooth_activations_in_integers(foreign: Path) -> None:
    _, model = read_isolated(foreign / "curves.keras", "keras", ReadOptions())
    kinds = [one.kind for one in read_graph(model, foreign).operations]
    assert {"ELU", "TANH", "LOG", "DIV"} <= set(kinds)
    assert "EXP" not in kinds
    noise = np.random.default_rng(3).integers(0, 256, (50, 48, 48), np.uint8)
    images = Images(noise, PixelSpec(channels=1, scale=1 / 8, offset=-16))
    ranges = {name: one.range(Method.MINMAX) for name, one in observe(model, images).items()}
    quantized = quantize(model, Plan(Scheme.INT8, ranges))
    operations = read_graph(quantized, foreign).operations
    assert not any("FLOAT" in node.dtype for one in operations for node in (*one.inputs, *one.outputs))
    expected, got = run_model(model, images), run_model(quantized, images)
    assert np.ptp(expected, axis=0).max() > 0.2
    assert np.abs(got - expected).max() < 0.05


def write_text(path: Path, text: str) -> None:
    path.write_text(text)


def write_empty_hdf5(path: Path, _: str) -> None:
    h5py.File(path, "w").close()


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("saved/saved_model.pb", "a part of a SavedModel; give the folder that it lies in: .*saved$"),
        ("frozen.pb", "a frozen graph of TensorFlow 1, .*from_frozen_graph"),
        ("model.zip", "an archive; unpack it"),
        ("model.pkl", r"a pickle of Python, .* save the model with model\.save"),
        ("model.json", "a TensorFlow.js model, .*tensorflowjs_converter .* model.json model.h5"),
        ("fer.caffemodel", "a Caffe model"),
        ("cp.ckpt.data-00000-of-00001", r"a part of a TensorFlow checkpoint, .* model\.load_weights"),
        ("cp.ckpt.index", "a part of a TensorFlow checkpoint"),
        ("CNNEmotions.mlmodel", "a Core ML model"),
    ],
)
def test_names_models_of_other_programs(tmp_path: Path, name: str, advice: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"format": "layers-model", "modelTopology": {}, "weightsManifest": []}')
    with pytest.raises(FerEdgeError, match=advice):
        open_model(path)


@pytest.mark.parametrize(
    ("write", "text", "problem"),
    [
        (write_text, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer"),
        (write_text, "\n<!DOCTYPE html>\n<html>", "a web page, not a model"),
        (write_text, '<?xml version="1.0"?>\n<net name="0003_EmoNet_ResNet10" version="10">', "an OpenVINO network"),
        (write_text, '<?xml version="1.0"?>\n<opencv_storage>\n<cascade>', "a cascade of OpenCV, which finds faces"),
        (write_text, "", "empty; copy or download"),
        (write_empty_hdf5, "", "an HDF5 file without a model in it"),
    ],
)
@pytest.mark.parametrize("suffix", [".h5", ".keras", ".tflite"])
def test_names_files_that_are_no_models(
    tmp_path: Path, write: Callable[[Path, str], None], *, text: str, problem: str, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    write(path, text)
    with pytest.raises(FerEdgeError, match=problem):
        open_model(path)
