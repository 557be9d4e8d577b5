"""Models of other people, of each form and age, become ours; what cannot is one clear line."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from fer_edge.classification.card_edit import set_card
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.classification.labels import FER2013
from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import InputError, ModelError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge.tflite.graph import read_graph
from fer_edge.tflite.inspect import inspect_model
from fer_edge_convert.classifier_stage import ClassifierStage
from fer_edge_convert.conversion import convert
from fer_edge_convert.flatbuffer import run
from fer_edge_convert.input_range import infer_range
from fer_edge_convert.quantisation import Scheme
from fer_edge_convert.sources import open_model

if TYPE_CHECKING:
    from tests.conftest import Cli, Sample

# One worker, so that the models are made once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]

KERAS2 = Path(__file__).parents[1] / "data" / "keras2"
LABELS = FER2013
NAMES = ",".join(LABELS)
KNOWN = ("--labels", NAMES, "--input-range", "0..1")


@pytest.fixture(scope="module")
def few(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 faces, half of them to calibrate on."""
    return sample.write_csv(tmp_path_factory.mktemp("few") / "fer2013.csv", slice(0, 700, 10))


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
    ],
)
def test_models_of_others_become_int8(
    foreign: Path, few: Path, tmp_path: Path, *, name: str, shape: tuple[int, ...], kinds: set[str]
) -> None:
    """Models at random are right by chance: that they agree with themselves is what counts."""
    model = KERAS2 / name if (KERAS2 / name).exists() else foreign / name
    source = open_model(model)
    card = source.make_card(LABELS, (1 / 255, 0))
    out = tmp_path / "out.tflite"
    # One process for all, for TensorFlow takes longer to load than to convert.
    stage = ClassifierStage(source, card, data=load_dataset(few, shape[0]))
    done = convert(stage, Scheme.INT8, out, max_drop=100)
    assert done.float_operators == ()
    assert done.parity is not None
    assert done.parity.kl_divergence < 0.005
    assert done.parity.converted_bytes < 0.95 * done.parity.original_bytes
    found = inspect_model(out)
    assert found.integer_only
    assert found.input.shape == (1, *shape)
    assert kinds <= found.operators.keys()
    assert read_card(out, ClassifierCard).labels == LABELS
    scores = TFLiteClassifier(out).classify(np.zeros((1, *shape[:2]), np.uint8))
    assert scores.sum() == pytest.approx(1, abs=0.02)


def test_the_depthwise_convolutions_of_keras_2_are_read(foreign: Path) -> None:
    source = open_model(foreign / "mobilenet.h5")
    assert (source.height, source.channels, source.outputs) == (96, 3, 7)


def test_the_first_hdf5_files_of_keras_2_are_read(tmp_path: Path) -> None:
    """Before 2.2.3 a Sequential's configuration was the bare list of its layers, and text was bytes."""
    old = tmp_path / "old.h5"
    shutil.copy(KERAS2 / "sequential.h5", old)
    with h5py.File(old, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"] = [layer for layer in config["config"]["layers"] if layer["class_name"] != "InputLayer"]
        file.attrs["model_config"] = np.bytes_(json.dumps(config))
        file.attrs["keras_version"] = np.bytes_("2.0.5")
    images = np.random.default_rng(0).uniform(0, 1, (4, 48, 48, 1)).astype(np.float32)
    one, two = (run(open_model(path).model, images) for path in (old, KERAS2 / "sequential.h5"))
    assert np.allclose(one, two)


def test_the_input_range_is_found_where_the_data_tells(foreign: Path, fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv, 48)
    raw = open_model(foreign / "raw.keras")
    assert raw.card is None
    assert infer_range(raw, LABELS, data, "PublicTest") == "0..255"
    with pytest.raises(InputError, match="values its pixels had in training, and the data does not tell"):
        infer_range(open_model(foreign / "logits.keras"), LABELS, data, None)


def test_a_model_of_any_size_is_asked_for_one(foreign: Path) -> None:
    with pytest.raises(InputError, match="say which with --size"):
        open_model(foreign / "any-size.keras")
    assert open_model(foreign / "any-size.keras", size=32).height == 32


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5"])
def test_code_in_a_model_runs_only_when_it_is_trusted(foreign: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"Lambda layer, .*--unsafe"):
        open_model(foreign / name)
    assert open_model(foreign / name, unsafe=True).outputs == 7


def test_a_model_with_two_outputs_is_refused(foreign: Path) -> None:
    with pytest.raises(ModelError, match="2 outputs, and a classifier has one"):
        open_model(foreign / "two.keras")


def test_what_cannot_be_converted_is_one_clear_line(
    cli: Cli, foreign: Path, few: Path, edge_float: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.tflite"

    def said(model: Path, *more: str | Path) -> str:
        return complaint(cli, "convert", model, *(more or ("--float32", *KNOWN)), "-o", out)

    assert "weights without their model" in said(foreign / "only.weights.h5")
    assert "no such model" in said(tmp_path / "none.h5")
    (tmp_path / "empty").mkdir()
    assert "no saved_model.pb" in said(tmp_path / "empty")
    assert "not a model that can be converted" in said(few)
    cut = tmp_path / "cut.h5"
    cut.write_bytes((KERAS2 / "sequential.h5").read_bytes()[:9000])
    assert "damaged, or not an HDF5 file" in said(cut)
    cut = tmp_path / "cut.keras"
    cut.write_bytes((foreign / "logits.keras").read_bytes()[:9000])
    assert "damaged, or not a .keras file" in said(cut)
    assert "quantised already" in said(DEFAULT_MODEL)

    model = tmp_path / "bare.tflite"
    model.write_bytes(model_bytes(edge_float))
    seven = ("--input-range", "0..1")
    assert "7 outputs, but there are 3 labels" in said(model, "--float32", "--labels", "a,b,c", *seven)
    assert "a label twice" in said(model, "--float32", "--labels", "a,a,b,c,d,e,f", *seven)
    assert "give --labels" in said(model, "--float32", *seven)
    assert "no such file that can be read" in said(model, "--float32", "--labels", "none.txt", *seven)
    assert "give --input-range" in said(model, "--float32", "--labels", NAMES)
    assert "'0..2' is not one of" in said(model, "--float32", "--labels", NAMES, "--input-range", "0..2")
    assert "choose one way to quantise" in said(edge_float, "--data", few)
    assert "choose one way to quantise" in said(edge_float, "--int8", "--float16")
    assert "give --data" in said(edge_float, "--int8")
    for idle in (("--votes", few), ("--usage", "PublicTest"), ("--report", tmp_path / "r")):
        assert f"{idle[0]} is for comparing both models on faces" in said(model, "--float32", *idle)
    assert "--rescue does nothing for float16" in said(model, "--float16", "--data", few, "--rescue")
    assert "--calibrate does nothing for dynamic" in said(model, "--dynamic", "--calibrate", few)
    nobody = tmp_path / "nobody" / "angry"
    nobody.mkdir(parents=True)
    assert "nobody" in said(edge_float, "--int8", "--data", few, "--calibrate", nobody.parent)
    assert not out.exists()


def test_a_killed_conversion_leaves_what_was_there(edge_float: Path, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    out.write_text("the old model")
    command = [sys.executable, "-m", "fer_edge.cli", "convert", edge_float, "--int8", "--data", few, "-o", out]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2.5)
        process.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["out.tflite"]
    assert out.read_text() == "the old model"


def complaint(cli: Cli, *args: str | Path) -> str:
    said = cli(*args, status=2).stderr
    assert said.count("\n") == 1, said
    return said


def test_a_foreign_model_gets_a_card_and_runs(cli: Cli, sample: Sample, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.tflite"
    theirs.write_bytes(model_bytes(DEFAULT_MODEL))
    assert "no model card" in complaint(cli, "run", "--source", "demo", "--model", theirs)
    card_set = ("card", "set", theirs)
    assert "no labels are known: give --labels" in complaint(cli, *card_set)
    assert "give --input-range" in complaint(cli, *card_set, "--labels", NAMES)
    labels = tmp_path / "labels.txt"
    labels.write_text(NAMES.replace(",", "\n"))
    assert "angry, disgust" in cli(*card_set, "--labels", labels, "--input-range", "-1..1").stdout
    with zipfile.ZipFile(theirs) as archive:
        assert archive.namelist() == ["fer_edge.json", "labels.txt"]
    assert model_bytes(theirs) == model_bytes(DEFAULT_MODEL)
    ours, now = (TFLiteClassifier(path).classify(sample.faces[:70]) for path in (DEFAULT_MODEL, theirs))
    assert (ours.argmax(axis=1) == now.argmax(axis=1)).mean() > 0.97
    done = cli("run", "--source", "demo", "--full-speed", "--seconds", "2", "--model", theirs, "--node", "test")
    assert '"event_type":"new"' in done.stdout
    cli(*card_set, "--labels", NAMES.replace("angry", "cross"))
    assert read_card(theirs, ClassifierCard).labels[0] == "cross"
    assert read_card(theirs, ClassifierCard).input.offset == -1
    attached = tmp_path / "attached.tflite"
    attached.write_bytes(model_bytes(DEFAULT_MODEL))
    with zipfile.ZipFile(attached, "a") as archive:
        archive.writestr("labelmap.txt", NAMES.replace(",", "\n"))
    cli("card", "set", attached, "--input-range", "-1..1")
    assert read_card(attached, ClassifierCard).labels == LABELS


def test_a_new_card_leaves_what_others_attached_as_it_was(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.tflite"
    theirs.write_bytes(model_bytes(DEFAULT_MODEL))
    packed = zipfile.ZipInfo("licence/terms.txt", (2020, 2, 2, 2, 2, 2))
    packed.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(theirs, "a") as archive:
        archive.writestr("labels.txt", "a\nb\n")
        archive.writestr(packed, "as is " * 99)
    for _ in range(2):
        set_card(theirs, LABELS, (1 / 128, -1.0))
        with zipfile.ZipFile(theirs) as archive:
            assert sorted(archive.namelist()) == ["fer_edge.json", "labels.txt", "licence/terms.txt"]
            assert archive.read("labels.txt").decode().split() == list(LABELS)
            assert archive.read("licence/terms.txt").decode() == "as is " * 99
            kept = archive.getinfo("licence/terms.txt")
        assert (kept.date_time, kept.compress_type) == (packed.date_time, zipfile.ZIP_DEFLATED)
    assert model_bytes(theirs) == model_bytes(DEFAULT_MODEL)
    damaged = theirs.read_bytes().replace(packed.filename.encode(), b"licence/terms.\xff\xff\xff", 1)
    theirs.write_bytes(damaged)
    with pytest.raises(ModelError, match="in the archive behind the model is damaged"):
        set_card(theirs, LABELS, None)
    assert theirs.read_bytes() == damaged


def test_a_damaged_attachment_in_lzma_is_told_in_a_line(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.tflite"
    theirs.write_bytes(model_bytes(DEFAULT_MODEL))
    with zipfile.ZipFile(theirs, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr("terms.txt", np.random.default_rng(1).bytes(999))
    whole = theirs.read_bytes()
    middle = whole.index(b"terms.txt") + 200
    theirs.write_bytes(whole[:middle] + bytes(300) + whole[middle + 300 :])
    with pytest.raises(ModelError, match="in the archive behind the model is damaged"):
        set_card(theirs, LABELS, (1 / 128, -1.0))


def test_code_is_found_wherever_a_file_hides_it(tmp_path: Path) -> None:
    hidden = [
        '{"class_name" : "Lambda"}',
        '{"class_name": "\\u004cambda"}',
        '{"class_name": "TimeDistributed", "config": {"layer": {"class_name": "Lambda", "config": {}}}}',
        '{"class_name": "ResidualWrapper", "config": {"residual_fn_type": "lambda", "residual_fn": ["4wEA", null]}}',
        '{"module": "os", "class_name": "system", "config": {}}',
        '{"class_name": "TFOpLambda", "config": {"function": "io.write_file"}}',
    ]
    for number, layer in enumerate(hidden):
        config = f'{{"class_name": "Sequential", "config": {{"layers": [{layer}]}}}}'
        one = tmp_path / f"{number}.h5"
        with h5py.File(one, "w") as file:
            file.attrs.update(keras_version="2.15.0", model_config=config)
        two = tmp_path / f"{number}.keras"
        with zipfile.ZipFile(two, "w") as archive:
            archive.writestr("metadata.json", '{"keras_version": "2.15.0"}')
            archive.writestr("config.json", config)
        for path in (one, two):
            with pytest.raises(ModelError, match="code that loading would run"):
                open_model(path)


def test_damaged_files_are_said_to_be(tmp_path: Path) -> None:
    whole = (KERAS2 / "sequential.h5").read_bytes()
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.h5"
    for _ in range(40):
        content = bytearray(whole)
        for place in rng.integers(0, 20_000, 3):
            content[place] = rng.integers(256)
        damaged.write_bytes(content)
        with contextlib.suppress(ModelError):  # or it does no harm
            open_model(damaged)
    for metadata in ("[]", "{}", '{"keras_version": 3}'):
        with zipfile.ZipFile(tmp_path / "odd.keras", "w") as archive:
            archive.writestr("metadata.json", metadata)
            archive.writestr("config.json", "[]")
        with pytest.raises(ModelError):
            open_model(tmp_path / "odd.keras")


def test_logits_are_not_taken_for_scores(edge_float: Path, foreign: Path, tmp_path: Path) -> None:
    logits = open_model(foreign / "logits.keras")
    assert read_graph(logits.model, tmp_path).operations[-1].kind == "SOFTMAX"
    content = bytearray(model_bytes(edge_float))
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(content)
    set_card(bare, LABELS, (1 / 128, -1.0))
    damaged = bytearray(bare.read_bytes())
    damaged[100_000] ^= 255
    bare.write_bytes(damaged)
    with pytest.raises(ModelError, match="not what its card says"):
        set_card(bare, (), None)
    with pytest.raises(ModelError, match="not what its card says"):
        open_model(bare)
