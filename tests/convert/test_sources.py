"""Models of other people, of each form and age, become ours; what cannot is one clear line."""

from __future__ import annotations

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

from fer_edge.card import model_bytes, read_card
from fer_edge.classify import DEFAULT_MODEL, TFLiteClassifier

if TYPE_CHECKING:
    from tests.conftest import Cli, Sample

# One worker, so that the models are made once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]

KERAS2 = Path(__file__).parents[1] / "data" / "keras2"
LABELS = "angry,disgust,fear,happy,sad,surprise,neutral"
KNOWN = ("--labels", LABELS, "--input-range", "0..1")


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
    ],
)
def test_files_of_keras_2_become_int8(
    cli: Cli, few: Path, tmp_path: Path, *, name: str, shape: tuple[int, ...], kinds: set[str]
) -> None:
    check(cli, KERAS2 / name, few, tmp_path / "out.tflite", shape, kinds)


@pytest.mark.parametrize(
    ("name", "shape", "kinds"),
    [
        ("mobilenet.h5", (96, 96, 3), {"DEPTHWISE_CONV_2D", "ADD"}),
        ("mobilenet.keras", (224, 224, 3), {"DEPTHWISE_CONV_2D", "ADD"}),
        ("saved", (64, 64, 1), {"DEPTHWISE_CONV_2D", "ADD"}),
        ("sequential-3.h5", (48, 48, 1), {"CONV_2D", "FULLY_CONNECTED"}),
        ("logits.keras", (48, 48, 1), {"FULLY_CONNECTED", "SOFTMAX"}),
    ],
)
def test_files_of_keras_3_become_int8(
    cli: Cli, foreign: Path, few: Path, tmp_path: Path, *, name: str, shape: tuple[int, ...], kinds: set[str]
) -> None:
    check(cli, foreign / name, few, tmp_path / "out.tflite", shape, kinds)


def check(cli: Cli, model: Path, few: Path, out: Path, shape: tuple[int, ...], kinds: set[str]) -> None:
    """Convert a model at random, which is right by chance: that it agrees with itself is what counts."""
    cli("convert", model, "--int8", *KNOWN, "--data", few, "-o", out, "--max-drop", "100")
    found = json.loads(cli("inspect", out, "--json").stdout)
    assert found["integer_only"]
    assert tuple(found["input"]["shape"][1:]) == shape
    assert kinds <= found["operators"].keys()
    assert found["card"]["labels"] == LABELS.split(",")
    parity = json.loads(out.with_suffix(".parity.json").read_text())["parity"]
    assert parity["kl_divergence"] < 0.005
    assert parity["converted_bytes"] < 0.95 * parity["original_bytes"]
    classifier = TFLiteClassifier(out)
    scores = classifier.classify(np.zeros((1, *shape[:2]), np.uint8))
    assert scores.sum() == pytest.approx(1, abs=0.02)


def test_the_first_hdf5_files_of_keras_2_are_read(cli: Cli, tmp_path: Path) -> None:
    """Before 2.2.3 a Sequential's configuration was the bare list of its layers, and text was bytes."""
    old = tmp_path / "old.h5"
    shutil.copy(KERAS2 / "sequential.h5", old)
    with h5py.File(old, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"] = [layer for layer in config["config"]["layers"] if layer["class_name"] != "InputLayer"]
        file.attrs["model_config"] = np.bytes_(json.dumps(config))
        file.attrs["keras_version"] = np.bytes_("2.0.5")
    outs = [tmp_path / "old.tflite", tmp_path / "new.tflite"]
    for model, out in zip((old, KERAS2 / "sequential.h5"), outs, strict=True):
        cli("convert", model, "--float32", *KNOWN, "-o", out)
    faces = np.random.default_rng(0).integers(0, 256, (4, 48, 48), np.uint8)
    one, two = (TFLiteClassifier(out).classify(faces) for out in outs)
    assert np.allclose(one, two)


def test_the_input_range_is_found_where_the_data_tells(
    cli: Cli, fer2013_csv: Path, foreign: Path, edge_float: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "theirs.tflite"
    bare.write_bytes(model_bytes(edge_float))
    convert = ("convert", bare, "--int8", "--labels", LABELS, "--data", fer2013_csv, "--max-drop", "3")
    done = cli(*convert, "-o", tmp_path / "ours.tflite")
    assert "input range -1..1, with which it is right most often" in done.stderr
    assert read_card(tmp_path / "ours.tflite").input.offset == -1
    vague = ("convert", foreign / "logits.keras", "--int8", "--labels", LABELS, "--data", fer2013_csv)
    said = complaint(cli, *vague, "-o", tmp_path / "x.tflite")
    assert "does not say which values its pixels had in training, and the data does not tell" in said


def test_a_model_of_any_size_is_asked_for_one(cli: Cli, foreign: Path, tmp_path: Path) -> None:
    convert = ("convert", foreign / "any-size.keras", "--float16", *KNOWN, "-o", tmp_path / "out.tflite")
    assert "say which with --size" in complaint(cli, *convert)
    cli(*convert, "--size", "32")
    assert read_card(tmp_path / "out.tflite").input.height == 32


def test_code_in_a_model_runs_only_when_it_is_trusted(cli: Cli, foreign: Path, tmp_path: Path) -> None:
    for name in ("lambda.keras", "lambda.h5"):
        convert = ("convert", foreign / name, "--float32", *KNOWN, "-o", tmp_path / "out.tflite")
        said = complaint(cli, *convert)
        assert "Lambda layer" in said
        assert "--unsafe" in said
        cli(*convert, "--unsafe")


def test_what_cannot_be_converted_is_one_clear_line(
    cli: Cli, foreign: Path, few: Path, edge_float: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.tflite"

    def said(model: Path, *more: str | Path) -> str:
        return complaint(cli, "convert", model, *(more or ("--float32", *KNOWN)), "-o", out)

    assert "2 outputs" in said(foreign / "two.keras")
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

    model = KERAS2 / "sequential.h5"
    seven = ("--input-range", "0..1")
    assert "7 outputs, but there are 3 labels" in said(model, "--float32", "--labels", "a,b,c", *seven)
    assert "a label twice" in said(model, "--float32", "--labels", "a,a,b,c,d,e,f", *seven)
    assert "give --labels" in said(model, "--float32", *seven)
    assert "no such file that can be read" in said(model, "--float32", "--labels", "none.txt", *seven)
    assert "give --input-range" in said(model, "--float32", "--labels", LABELS)
    assert "'0..2' is not one of" in said(model, "--float32", "--labels", LABELS, "--input-range", "0..2")
    assert "say in one way how to quantise" in said(edge_float, "--data", few)
    assert "say in one way how to quantise" in said(edge_float, "--int8", "--float16")
    assert "give --data" in said(edge_float, "--int8")
    nobody = tmp_path / "nobody" / "angry"
    nobody.mkdir(parents=True)
    assert "nobody" in said(edge_float, "--int8", "--data", few, "--calibrate", nobody.parent)
    assert sorted(path.name for path in tmp_path.glob("*.tflite")) == []


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
    assert "give --input-range" in complaint(cli, *card_set, "--labels", LABELS)
    labels = tmp_path / "labels.txt"
    labels.write_text(LABELS.replace(",", "\n"))
    assert "angry, disgust" in cli(*card_set, "--labels", labels, "--input-range", "-1..1").stdout
    with zipfile.ZipFile(theirs) as archive:
        assert archive.namelist() == ["fer_edge.json", "labels.txt"]
    assert model_bytes(theirs) == model_bytes(DEFAULT_MODEL)
    ours, now = (TFLiteClassifier(path).classify(sample.faces[:70]) for path in (DEFAULT_MODEL, theirs))
    assert (ours.argmax(axis=1) == now.argmax(axis=1)).mean() > 0.97
    done = cli("run", "--source", "demo", "--full-speed", "--seconds", "2", "--model", theirs, "--node", "test")
    assert '"event_type":"new"' in done.stdout
    cli(*card_set, "--labels", LABELS.replace("angry", "cross"))
    assert read_card(theirs).labels[0] == "cross"
    assert read_card(theirs).input.offset == -1
    attached = tmp_path / "attached.tflite"
    attached.write_bytes(model_bytes(DEFAULT_MODEL))
    with zipfile.ZipFile(attached, "a") as archive:
        archive.writestr("labelmap.txt", LABELS.replace(",", "\n"))
    cli("card", "set", attached, "--input-range", "-1..1")
    assert read_card(attached).labels == tuple(LABELS.split(","))
