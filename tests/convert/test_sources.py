"""Test conversion of foreign models of every format and age, and its errors."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from fer_edge.classification.card_edit import set_card
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.classification.labels import FER2013
from fer_edge.datasets.label_map import load_label_map
from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import DataError, InputError, ModelError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import INPUT_RANGES, ClassifierCard, PixelMapping
from fer_edge.tflite.graph import read_graph
from fer_edge.tflite.inspect import inspect_model
from fer_edge_convert.classifier_stage import ClassifierStage
from fer_edge_convert.conversion import convert
from fer_edge_convert.description import Statement, describe
from fer_edge_convert.evidence import find_out
from fer_edge_convert.flatbuffer import parse, run_model
from fer_edge_convert.formats.request import ReadOptions
from fer_edge_convert.pixel_values import RANGES
from fer_edge_convert.quantization import Scheme
from fer_edge_convert.sources import open_model

if TYPE_CHECKING:
    from tests.conftest import Cli, Sample
    from tests.fork_server import ForkServer

# One worker, so that the models are made once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]

KERAS2 = Path(__file__).parents[1] / "data" / "keras2"
LABELS = FER2013
NAMES = ",".join(LABELS)
INPUT_OPTIONS = ("--labels", NAMES, "--input-range", "0..1")


@pytest.mark.parametrize(
    ("name", "shape", "kinds"),
    [
        ("sequential.h5", (48, 48, 1), {"CONV_2D", "MAX_POOL_2D", "FULLY_CONNECTED"}),
        ("sequential-2.keras", (48, 48, 1), {"CONV_2D", "MAX_POOL_2D", "FULLY_CONNECTED"}),
        ("xception.h5", (64, 64, 1), {"DEPTHWISE_CONV_2D", "ADD", "CONV_2D"}),
        ("mobilenet.keras", (96, 96, 3), {"DEPTHWISE_CONV_2D", "ADD"}),
        ("saved", (64, 64, 1), {"DEPTHWISE_CONV_2D", "ADD"}),
        ("sequential-3.h5", (48, 48, 1), {"CONV_2D", "FULLY_CONNECTED"}),
        ("logits.keras", (48, 48, 1), {"FULLY_CONNECTED", "SOFTMAX"}),
        ("activations.keras", (48, 48, 1), {"LEAKY_RELU", "ELU", "PRELU", "HARD_SWISH"}),
        ("channels-first.keras", (48, 48, 1), {"CONV_2D", "FULLY_CONNECTED"}),
        ("channels-first.h5", (48, 48, 1), {"DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}),
    ],
)
def test_converts_foreign_models_to_int8(
    foreign: Path, few_faces_csv: Path, tmp_path: Path, *, name: str, shape: tuple[int, ...], kinds: set[str]
) -> None:
    """The models have random weights, so only the agreement of float and int8 matters."""
    model = KERAS2 / name if (KERAS2 / name).exists() else foreign / name
    source = open_model(model)
    card = source.make_card(LABELS, INPUT_RANGES["0..1"])
    out = tmp_path / "out.tflite"
    # Convert in this process, because loading TensorFlow takes longer than converting.
    stage = ClassifierStage(source, card, data=load_dataset(few_faces_csv, shape[0]))
    result = convert(stage, Scheme.INT8, out, max_drop=100)
    assert result.float_operators == ()
    assert result.parity is not None
    assert result.parity.kl_divergence < 0.005
    assert result.parity.converted_bytes < 0.95 * result.parity.original_bytes
    info = inspect_model(out)
    assert info.integer_only
    assert info.input.shape == (1, *shape)
    assert kinds <= info.operators.keys()
    assert read_card(out, ClassifierCard).labels == LABELS
    parsed = parse(model_bytes(out))
    (signature,) = parsed.signatureDefs
    assert [(one.name, one.tensorIndex) for one in signature.outputs] == [(b"output_0", parsed.subgraphs[0].outputs[0])]
    scores = TFLiteClassifier(out).classify(np.zeros((1, *shape[:2]), np.uint8))
    assert scores.sum() == pytest.approx(1, abs=0.02)


def test_reads_depthwise_convolutions_of_keras_2(foreign: Path) -> None:
    source = open_model(foreign / "mobilenet.h5")
    assert (source.height, source.channels, source.outputs) == (96, 3, 7)


def test_reads_the_first_hdf5_format_of_keras_2(tmp_path: Path) -> None:
    """Before Keras 2.2.3, the configuration of a Sequential was a plain list of layers, and texts were bytes."""
    old_file = tmp_path / "old.h5"
    shutil.copy(KERAS2 / "sequential.h5", old_file)
    with h5py.File(old_file, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"] = [layer for layer in config["config"]["layers"] if layer["class_name"] != "InputLayer"]
        file.attrs["model_config"] = np.bytes_(json.dumps(config))
        file.attrs["keras_version"] = np.bytes_("2.0.5")
    images = np.random.default_rng(0).uniform(0, 1, (4, 48, 48, 1)).astype(np.float32)
    old_outputs, outputs = (run_model(open_model(path).model, images) for path in (old_file, KERAS2 / "sequential.h5"))
    assert np.allclose(old_outputs, outputs)


def test_infers_the_input_range_from_data(foreign: Path, fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv, 48)
    raw = open_model(foreign / "raw.keras")
    assert raw.card is None
    assert find_out(raw, data, "PublicTest", LABELS).pixels.name == "0..255"
    with pytest.raises(InputError, match="data does not tell which values its pixels had in training"):
        find_out(open_model(foreign / "logits.keras"), data, None, LABELS)


def test_finds_out_that_each_image_is_standardized(cli: Cli, foreign: Path, sample: Sample, tmp_path: Path) -> None:
    """Test it with faces of any brightness and little contrast."""
    rng = np.random.default_rng(1)
    gain = rng.uniform(0.15, 0.5, (len(sample.faces), 1, 1))
    faces = np.rint(sample.faces * gain + rng.uniform(0, 120, gain.shape)).astype(np.uint8)
    data, out = replace(sample, faces=faces).write_csv(tmp_path / "dim.csv"), tmp_path / "out.tflite"
    model = foreign / "per-image.keras"
    convert_int8 = ("convert", model, "--int8", "--data", data, "--labels", NAMES, "--max-drop", "3", "-o", out)
    result = cli(*convert_int8)
    (found,) = [line for line in result.stderr.splitlines() if line.startswith("pixels")]
    assert found.startswith("pixels      standardized image by image: right on ")
    card = read_card(out, ClassifierCard)
    assert card.input.mapping == INPUT_RANGES["per-image"]
    report = json.loads(out.with_suffix(".parity.json").read_text())["parity"]
    assert report["original"]["accuracy"] > 0.5
    evaluated = json.loads(cli("evaluate", out, data, "--json").stdout)
    assert evaluated["accuracy"] == pytest.approx(report["converted"]["accuracy"])
    wrong = cli(*convert_int8, "--input-range", "-1..1", status=2).stderr
    assert "with --input-range per-image; give that, or --unchecked" in wrong
    assert "deviation of the image" in cli("inspect", out).stdout
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(model_bytes(out))
    cli("card", "set", bare, "--labels", NAMES, "--input-range", "per-image")
    assert read_card(bare, ClassifierCard).input == card.input
    expected = TFLiteClassifier(out).classify(faces[:50])
    assert np.array_equal(TFLiteClassifier(bare).classify(faces[:50]), expected)


def test_contradicts_a_wrong_order_of_labels_and_wrong_pixels(foreign: Path, sample: Sample, tmp_path: Path) -> None:
    data = load_dataset(sample.write_csv(tmp_path / "some.csv", slice(0, 700, 4)), 48)
    raw = open_model(foreign / "raw.keras")
    spelled = ("Angry", "Disgusted", "Fearful", "Happy", "Sad", "Surprised", "Neutral")
    assert find_out(raw, data, "PublicTest", spelled, RANGES["0..255"]).labels == spelled
    found = find_out(raw, data, "PublicTest")
    assert found.labels == LABELS
    assert "labels      angry,disgust,fear,happy,sad,surprise,neutral" in found.lines[1]
    for pixels in (None, RANGES["0..255"], RANGES["0..1"]):
        with pytest.raises(InputError, match=f"contradicts the order of the labels: .* FER-2013's order; .* {NAMES},"):
            find_out(raw, data, "PublicTest", tuple(sorted(LABELS)), pixels)
    with pytest.raises(InputError, match=r"contradicts --input-range 0\.\.1: .* with --input-range 0\.\.255"):
        find_out(raw, data, "PublicTest", LABELS, RANGES["0..1"])
    statement = Statement(tuple(sorted(LABELS)), RANGES["0..1"], unchecked=True)
    assert describe(raw, statement, data, "PublicTest")[1].labels == tuple(sorted(LABELS))


def test_proposes_a_label_map_for_labels_that_a_model_lacks(fer2013_csv: Path, tmp_path: Path) -> None:
    data = load_dataset(fer2013_csv, 48)
    for labels, proposal in (
        (("Angry", "Happy", "Neutral", "Sad", "Surprise"), 'all = {disgust = "", fear = ""}'),
        (("Negative", "Neutral", "Positive"), 'sad = "Negative"'),
    ):
        with pytest.raises(DataError) as error:
            data.classes_for(labels)
        text = str(error.value).partition(" that holds ")[2]
        assert proposal in text
        (tmp_path / "map.toml").write_text(text)
        load_label_map(tmp_path / "map.toml").apply({data.name: data})[0].classes_for(labels)


def test_model_of_any_size_requires_a_size(foreign: Path) -> None:
    with pytest.raises(InputError, match="say which, such as --size 48"):
        open_model(foreign / "any-size.keras")
    assert open_model(foreign / "any-size.keras", ReadOptions(size=32)).height == 32


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5"])
def test_runs_code_of_a_model_only_with_unsafe(foreign: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"Lambda layer, .*--unsafe"):
        open_model(foreign / name)
    assert open_model(foreign / name, ReadOptions(unsafe=True)).outputs == 7


@pytest.mark.parametrize(
    "name", ["mixed_float16.keras", "mixed_bfloat16.keras", "mixed_float16.h5", "mixed_bfloat16.h5"]
)
def test_reads_models_that_were_trained_in_half_precision(foreign: Path, name: str) -> None:
    before = (foreign / name).read_bytes()
    source = open_model(foreign / name)
    assert (source.height, source.channels, source.outputs) == (48, 1, 7)
    assert (foreign / name).read_bytes() == before
    kinds = {tensor.dtype for tensor in read_graph(source.model, source.path).tensors}
    assert not {kind for kind in kinds if "16" in kind}


def test_reads_the_signature_that_takes_images(foreign: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1)).astype(np.float32)
    by_two, by_bytes = (open_model(foreign / name).model for name in ("saved-two", "saved-bytes"))
    assert np.allclose(run_model(by_two, images / np.float32(255)), run_model(by_bytes, images), atol=1e-3)
    with pytest.raises(ModelError, match=r"saved-batch: it takes 32 images at a time; save it for one image"):
        open_model(foreign / "saved-batch")


@pytest.mark.parametrize(
    ("out", "problem"),
    [
        ("x.h5", "ends in .tflite"),
        ("model.tflite", "is the model itself"),
        ("folder.tflite", "cannot write there"),
    ],
)
def test_looks_at_the_output_before_it_reads_the_model(cli: Cli, tmp_path: Path, out: str, problem: str) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(b"damaged")
    (tmp_path / "folder.tflite").mkdir()
    assert problem in error_line(cli, "convert", model, "--float32", *INPUT_OPTIONS, "-o", tmp_path / out)
    elsewhere = tmp_path / "new" / "x.tflite"
    assert "model.tflite" in error_line(cli, "convert", model, "--float32", *INPUT_OPTIONS, "-o", elsewhere)
    assert not elsewhere.parent.exists()  # for a model that cannot be read, nothing is left


def test_rejects_wrong_input_in_one_line(
    cli: Cli, foreign: Path, sample: Sample, few_faces_csv: Path, *, edge_float: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.tflite"

    def convert_error(model: Path, *options: str | Path) -> str:
        return error_line(cli, "convert", model, *(options or ("--float32", *INPUT_OPTIONS)), "-o", out)

    assert "weights without their layers" in convert_error(foreign / "only.weights.h5")
    assert "no such model" in convert_error(tmp_path / "none.h5")
    (tmp_path / "empty").mkdir()
    assert "no saved_model.pb" in convert_error(tmp_path / "empty")
    assert "not a model that can be converted" in convert_error(few_faces_csv)
    cut = tmp_path / "cut.h5"
    cut.write_bytes((KERAS2 / "sequential.h5").read_bytes()[:9000])
    assert "damaged, or not an HDF5 file" in convert_error(cut)
    cut = tmp_path / "cut.keras"
    cut.write_bytes((foreign / "logits.keras").read_bytes()[:9000])
    assert "damaged, or not a .keras file" in convert_error(cut)
    assert "quantized already" in convert_error(DEFAULT_MODEL)

    model = tmp_path / "bare.tflite"
    model.write_bytes(model_bytes(edge_float))
    input_range = ("--input-range", "0..1")
    assert "7 outputs, but there are 3 labels" in convert_error(model, "--float32", "--labels", "a,b,c", *input_range)
    assert "a label twice" in convert_error(model, "--float32", "--labels", "a,a,b,c,d,e,f", *input_range)
    missing = convert_error(model, "--int8")
    assert "--labels (the names of its outputs" in missing
    assert "--data (faces" in missing
    assert f"fer-edge convert {model} --int8 -o {out} --labels {NAMES} --data fer2013.csv" in missing
    assert "--labels (the names of its outputs" in convert_error(model, "--float32", *input_range)
    assert "none.txt: cannot be read (No such file or directory); give" in convert_error(
        model, "--float32", "--labels", "none.txt", *input_range
    )
    assert "--input-range (of its pixels in training" in convert_error(model, "--float32", "--labels", NAMES)
    for option, value, problem in (
        ("--input-mean", "1,2", "--input-mean has 2 values"),
        ("--input-mean", "mid", "give a number, or three"),
        ("--input-std", "0", "give a value above 0"),
    ):
        assert problem in convert_error(model, "--float32", "--labels", NAMES, option, value)
    assert "each image has its own mean and deviation; leave --input-mean and --input-std out" in convert_error(
        model, "--float32", "--labels", NAMES, "--input-range", "per-image", "--input-mean", "129"
    )
    assert "'0..2' is unknown; choose 0..1, -1..1, 0..255 or per-image" in convert_error(
        model, "--float32", "--labels", NAMES, "--input-range", "0..2"
    )
    assert "give --int8 (the smallest and fastest, or" in convert_error(edge_float, "--data", few_faces_csv)
    assert "choose one way to quantize" in convert_error(edge_float, "--int8", "--float16")
    assert "give --data (faces to measure ranges and to compare on)" in convert_error(edge_float, "--int8")
    for unused_option in (("--votes", few_faces_csv), ("--usage", "PublicTest"), ("--report", tmp_path / "r")):
        assert f"{unused_option[0]} is for comparing both models on faces" in convert_error(
            model, "--float32", *unused_option
        )
    assert "--rescue does nothing for float16" in convert_error(model, "--float16", "--data", few_faces_csv, "--rescue")
    assert "--calibrate does nothing for dynamic" in convert_error(model, "--dynamic", "--calibrate", few_faces_csv)
    one_each = sample.write_csv(tmp_path / "seven.csv", slice(50, 700, 100))
    assert "seven.csv: 4 faces to test on; --rescue needs two of one label at least" in convert_error(
        edge_float, "--int8", "--data", one_each, "--rescue"
    )
    empty_folder = tmp_path / "nobody" / "angry"
    empty_folder.mkdir(parents=True)
    assert "nobody" in convert_error(edge_float, "--int8", "--data", few_faces_csv, "--calibrate", empty_folder.parent)
    assert not out.exists()


def test_killed_conversion_leaves_the_complete_old_or_new_model(
    fork_server: ForkServer, foreign: Path, few_faces_csv: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.tflite"
    out.write_text("the old model")
    command = ("convert", foreign / "logits.keras", "--int8", "--data", few_faces_csv, *INPUT_OPTIONS, "-o", out)

    def convert_until_killed(before_writing: Path) -> list[str]:
        process = fork_server.start(*command, kill_before_writing=before_writing)
        assert process.wait(500) == -signal.SIGKILL
        return [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")]

    assert convert_until_killed(out) == ["out.tflite"]
    assert out.read_text() == "the old model"
    assert convert_until_killed(tmp_path / "out.parity.json") == ["out.tflite"]
    assert TFLiteClassifier(out).self_test() is not None


def error_line(cli: Cli, *args: str | Path) -> str:
    errors = cli(*args, status=2).stderr
    assert errors.count("\n") == 1, errors
    return errors


def test_foreign_model_runs_with_a_card(cli: Cli, sample: Sample, tmp_path: Path) -> None:
    model = tmp_path / "theirs.tflite"
    model.write_bytes(model_bytes(DEFAULT_MODEL))
    assert "no model card" in error_line(cli, "run", "--source", "demo", "--model", model)
    card_set = ("card", "set", model)
    assert "no labels are known: give --labels" in error_line(cli, *card_set, "--input-range", "-1..1")
    assert "give --input-range" in error_line(cli, *card_set, "--labels", NAMES)
    labels = tmp_path / "labels.txt"
    labels.write_text(NAMES.replace(",", "\n"))
    assert "angry, disgust" in cli(*card_set, "--labels", labels, "--input-range", "-1..1").stdout
    with zipfile.ZipFile(model) as archive:
        assert archive.namelist() == ["fer_edge.json", "labels.txt"]
    assert model_bytes(model) == model_bytes(DEFAULT_MODEL)
    shipped_scores, model_scores = (
        TFLiteClassifier(path).classify(sample.faces[:70]) for path in (DEFAULT_MODEL, model)
    )
    assert (shipped_scores.argmax(axis=1) == model_scores.argmax(axis=1)).mean() > 0.97
    result = cli("run", "--source", "demo", "--full-speed", "--seconds", "2", "--model", model, "--node", "test")
    assert '"event_type":"new"' in result.stdout
    cli(*card_set, "--labels", NAMES.replace("angry", "cross"))
    assert read_card(model, ClassifierCard).labels[0] == "cross"
    assert read_card(model, ClassifierCard).input.offset == -1
    numbered = "\n".join(f"{number} {label}" for number, label in reversed(list(enumerate(LABELS))))
    for text in (NAMES.replace(",", "\n"), numbered):
        attached = tmp_path / "attached.tflite"
        attached.write_bytes(model_bytes(DEFAULT_MODEL))
        with zipfile.ZipFile(attached, "a") as archive:
            archive.writestr("labelmap.txt", text)
        cli("card", "set", attached, "--input-range", "-1..1")
        assert read_card(attached, ClassifierCard).labels == LABELS


def test_new_card_keeps_other_attachments(tmp_path: Path) -> None:
    model = tmp_path / "theirs.tflite"
    model.write_bytes(model_bytes(DEFAULT_MODEL))
    attachment = zipfile.ZipInfo("licence/terms.txt", (2020, 2, 2, 2, 2, 2))
    attachment.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(model, "a") as archive:
        archive.writestr("labels.txt", "a\nb\n")
        archive.writestr(attachment, "as is " * 99)
    for _ in range(2):
        set_card(model, LABELS, PixelMapping(1 / 128, -1.0))
        with zipfile.ZipFile(model) as archive:
            assert sorted(archive.namelist()) == ["fer_edge.json", "labels.txt", "licence/terms.txt"]
            assert archive.read("labels.txt").decode().split() == list(LABELS)
            assert archive.read("licence/terms.txt").decode() == "as is " * 99
            info = archive.getinfo("licence/terms.txt")
        assert (info.date_time, info.compress_type) == (attachment.date_time, zipfile.ZIP_DEFLATED)
    assert model_bytes(model) == model_bytes(DEFAULT_MODEL)
    damaged = model.read_bytes().replace(attachment.filename.encode(), b"licence/terms.\xff\xff\xff", 1)
    model.write_bytes(damaged)
    with pytest.raises(ModelError, match="the archive behind the model is damaged"):
        set_card(model, LABELS, None)
    assert model.read_bytes() == damaged


def test_rejects_a_damaged_lzma_attachment(tmp_path: Path) -> None:
    model = tmp_path / "theirs.tflite"
    model.write_bytes(model_bytes(DEFAULT_MODEL))
    with zipfile.ZipFile(model, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr("terms.txt", np.random.default_rng(1).bytes(999))
    content = model.read_bytes()
    middle = content.index(b"terms.txt") + 200
    model.write_bytes(content[:middle] + bytes(300) + content[middle + 300 :])
    with pytest.raises(ModelError, match="the archive behind the model is damaged"):
        set_card(model, LABELS, PixelMapping(1 / 128, -1.0))


def test_finds_hidden_code(tmp_path: Path) -> None:
    layers = [
        '{"class_name" : "Lambda"}',
        '{"class_name": "\\u004cambda"}',
        '{"class_name": "TimeDistributed", "config": {"layer": {"class_name": "Lambda", "config": {}}}}',
        '{"class_name": "ResidualWrapper", "config": {"residual_fn_type": "lambda", "residual_fn": ["4wEA", null]}}',
        '{"module": "os", "class_name": "system", "config": {}}',
        '{"class_name": "TFOpLambda", "config": {"function": "io.write_file"}}',
        '{"class_name": "TensorFlowOpLayer", "config": {"node_def": {"op": "WriteFile"}}}',
        '{"class_name": "TensorFlowOpLayer", "config": {"node_def": "{\\"op\\": \\"WriteFile\\"}"}}',
        '{"class_name": "TensorFlowOpLayer", "config": {"node_def": "a message of protobuf"}}',
    ]
    for number, layer in enumerate(layers):
        config = f'{{"class_name": "Sequential", "config": {{"layers": [{layer}]}}}}'
        hdf5_file = tmp_path / f"{number}.h5"
        with h5py.File(hdf5_file, "w") as file:
            file.attrs.update(keras_version="2.15.0", model_config=config)
        keras_file = tmp_path / f"{number}.keras"
        with zipfile.ZipFile(keras_file, "w") as archive:
            archive.writestr("metadata.json", '{"keras_version": "2.15.0"}')
            archive.writestr("config.json", config)
        for path in (hdf5_file, keras_file):
            with pytest.raises(ModelError, match="code that loading would run"):
                open_model(path)


def test_rejects_damaged_files(tmp_path: Path) -> None:
    original = (KERAS2 / "sequential.h5").read_bytes()
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.h5"
    for _ in range(40):
        content = bytearray(original)
        for position in rng.integers(0, 20_000, 3):
            content[position] = rng.integers(256)
        damaged.write_bytes(content)
        with contextlib.suppress(ModelError):  # some damage is harmless
            open_model(damaged)
    for metadata in ("[]", "{}", '{"keras_version": 3}'):
        with zipfile.ZipFile(tmp_path / "odd.keras", "w") as archive:
            archive.writestr("metadata.json", metadata)
            archive.writestr("config.json", "[]")
        with pytest.raises(ModelError):
            open_model(tmp_path / "odd.keras")


def test_adds_softmax_to_logits_and_detects_damage(edge_float: Path, foreign: Path, tmp_path: Path) -> None:
    logits = open_model(foreign / "logits.keras")
    assert read_graph(logits.model, tmp_path).operations[-1].kind == "SOFTMAX"
    content = bytearray(model_bytes(edge_float))
    model = tmp_path / "bare.tflite"
    model.write_bytes(content)
    set_card(model, LABELS, PixelMapping(1 / 128, -1.0))
    damaged = bytearray(model.read_bytes())
    damaged[100_000] ^= 255
    model.write_bytes(damaged)
    with pytest.raises(ModelError, match="damaged, the content does not match its card"):
        set_card(model, (), None)
    with pytest.raises(ModelError, match="damaged, the content does not match its card"):
        open_model(model)
