"""Test training of each recipe on the command line, with a few steps on real faces."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import csv
import json
import re
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING

import cv2
import keras
import msgspec
import numpy as np
import pytest

from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.modelcard.archive import write_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_train.architectures.base import HEAD
from fer_edge_train.batch_workers import batch_workers
from fer_edge_train.batches import AugmentedBatches, FaceSource
from fer_edge_train.recipe import Recipe
from fer_edge_train.recipe_files import load_recipe, recipe_names
from fer_edge_train.teachers import Teachers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli, Sample
    from tests.fork_server import ForkServer

# One worker, so that TensorFlow is loaded once and the model of `trained` is made once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("train")]

# Small, because building the graph of each layer takes most of the time. Every part of a recipe is still used.
RESIDUAL = ["network.stem=8", "network.widths=[8, 8]", "network.blocks=[1, 1]"]
PLAIN = ["network.widths=[8]", "network.dense=[64]"]
SMALL = {
    "cnn3": PLAIN,
    "cnn-bn-gap": PLAIN,
    "cnn-deep-dropout": ["network.widths=[8, 8]", "network.dense=[16, 16]"],
    "edge": [*RESIDUAL, "schedule.batchnorm_faces=300"],
    "edge-plus": [*RESIDUAL, "schedule.sizes=[]"],
    "fusion9": PLAIN,
    "teacher": [*RESIDUAL, "schedule.sizes=[]"],
    "transfer": ["network.side=32", "network.frozen_epochs=1", "optimizer.batch_size=128"],
}


def changed(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


QUICK = changed("optimizer.batch_size=64", *PLAIN)


def second_set(sample: Sample, folder: Path) -> Path:
    """Write folders of colour images with two labels that FER-2013 does not have."""
    for number, label in enumerate(("contempt", "confused")):
        (folder / "train" / label).mkdir(parents=True)
        for i in range(10):
            face = cv2.resize(sample.faces[number * 10 + i], (100, 90))
            cv2.imwrite(str(folder / "train" / label / f"{i}.jpg"), cv2.cvtColor(face, cv2.COLOR_GRAY2BGR))
    return folder


def write_backbone(path: Path) -> None:
    keras.utils.set_random_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns about TensorFlow's arrays
        keras.applications.MobileNetV2((32, 32, 3), include_top=False, weights=None).save_weights(path)


@pytest.mark.parametrize("recipe", recipe_names(Recipe))
def test_recipe_trains_from_data_to_report(
    cli: Cli, eager_cli: Cli, fer2013_csv: Path, sample: Sample, tmp_path: Path, *, recipe: str
) -> None:
    out = tmp_path / "run"
    train = eager_cli if recipe == "transfer" else cli  # the graphs of a deep network take a minute to build
    if recipe == "transfer":
        weights = tmp_path / "backbone.weights.h5"
        write_backbone(weights)
    extra: list[str | Path] = ["--data", second_set(sample, tmp_path / "set2")] if recipe == "fusion9" else []
    extra += ["--weights", weights] if recipe == "transfer" else []
    votes = fer2013_csv.with_name("fer2013new.csv")
    result = train(
        *("train", fer2013_csv, *extra, "--votes", votes, "--recipe", recipe, "--out", out, "--epochs", "2"),
        *changed("optimizer.batch_size=32", "data.validation=0.2", *SMALL[recipe]),
    )
    card = read_card(out / "model.keras", ClassifierCard)
    eight = recipe in {"edge-plus", "fusion9"}
    assert len(card.labels) == (9 if recipe == "fusion9" else 8 if eight else 7)
    with (out / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    losses = [float(row["loss"]) for row in rows]
    if recipe != "transfer":  # a deep network with random weights learns nothing in thirty steps
        assert losses[1] < losses[0]
    report = json.loads((out / "report" / "report.json").read_text())
    assert report["counts"]["tested on"] == report["results"]["tested on"]["faces"] > 200
    assert set(report["ece_before_calibration"]) == {"held out", "tested on"}
    page = (out / "report" / "index.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page), "the page must not need other files"
    for heading in ("Learning curves", "Calibration", "Most confident mistakes", load_recipe(recipe).summary[:20]):
        assert heading in page
    for name in ("curves", "confusion", "calibration", "mistakes"):
        assert (out / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    written = load_recipe(str(out / "recipe.toml"))
    assert written.schedule.epochs == 2
    assert "images skipped" in result.stderr
    assert ("  left out: " in result.stderr) == eight
    if recipe == "edge-plus":  # training and `evaluate` measure the same
        metrics = json.loads(cli("evaluate", out / "model.keras", fer2013_csv, "--votes", votes, "--json").stdout)
        assert metrics["accuracy"] == pytest.approx(report["results"]["tested on"]["accuracy"], abs=0.01)


def test_recipes_are_listed_and_printed(cli: Cli) -> None:
    listed = cli("recipes").stdout
    assert sorted(line.split()[0] for line in listed.splitlines()) == recipe_names()
    assert {line.split()[1] for line in listed.splitlines()} == {"train", "train-faces", "train-refiner"}
    assert cli("recipes", "edge").stdout.startswith('summary = "')
    assert cli("recipes", "faces").stdout.startswith('summary = "the shipped face detector')
    assert "did you mean edge" in cli("recipes", "egde", status=2).stderr
    wrong = cli("train", "none.csv", "--recipe", "faces", "--out", "x", status=2).stderr
    assert "recipe faces: it is for fer-edge train-faces; for fer-edge train choose cnn-bn-gap" in wrong


@pytest.fixture(scope="module")
def trained(cli: Cli, fer2013_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a quick run of two epochs."""
    out = tmp_path_factory.mktemp("trained") / "run"
    cli("train", fer2013_csv, "--recipe", "cnn3", *QUICK, "--epochs", "2", "--out", out)
    return out


def test_distils_from_teachers_starts_from_weights_and_stops_early(
    eager_cli: Cli, trained: Path, fer2013_csv: Path, tmp_path: Path
) -> None:
    train: tuple[str | Path, ...] = ("train", fer2013_csv, "--recipe", "cnn3", *QUICK)
    teachers = ("--teacher", trained / "model.keras", "--teacher", trained / "model.keras")
    soft = tmp_path / "soft.npz"
    distilled: tuple[str | Path, ...] = (*train, "--set", "target.distillation=0.7", "--epochs", "1", "--out")
    eager_cli(*distilled, tmp_path / "one", *teachers, "--soft-labels", soft)
    assert soft.stat().st_size < 700 * 7 * 2 + 2000
    eager_cli(*distilled, tmp_path / "two", "--soft-labels", soft)
    histories = [(tmp_path / name / "history.csv").read_text() for name in ("one", "two")]
    rows = [list(csv.DictReader(text.splitlines())) for text in histories]
    for key in ("loss", "val_loss"):
        # scores have 16 bits, and threads add in another order
        assert float(rows[0][-1][key]) == pytest.approx(float(rows[1][-1][key]), rel=0.02)
    other_teacher = ("--teacher", trained / "model.keras", "--soft-labels", soft, "--out", tmp_path / "x")
    assert "soft labels of other teachers" in eager_cli(*distilled[:-1], *other_teacher, status=2).stderr
    votes = fer2013_csv.with_name("fer2013new.csv")
    others = ("train", fer2013_csv, "--recipe", "edge-plus", "--votes", votes, "--set", "target.augmented_views=false")
    stderr = eager_cli(*others, "--soft-labels", soft, "--out", tmp_path / "x", status=2).stderr
    assert "for other faces or labels" in stderr
    views = ("--set", "target.augmented_views=true", *teachers)
    parts = [
        re.findall(r"held out: .*", eager_cli(*distilled, tmp_path / name, *views, *changed(*changes)).stderr)
        for name, changes in {
            "views": [],
            "turns": ["target.round_robin=true", "seed=2"],
            "others": ["data.validation_seed=2"],
        }.items()
    ]
    assert parts[0] == parts[1] != parts[2], "held-out faces depend on their own seed only"
    first, *rest = read_card(tmp_path / "views" / "model.keras", ClassifierCard).made_by
    assert (first,) == read_card(trained / "model.keras", ClassifierCard).made_by, (
        "the card must list the teachers' commands, once"
    )
    assert len(rest) == 1
    start = ("--weights", trained / "model.keras", "--out", tmp_path / "started")
    eager_cli(
        *train, *start, "--epochs", "9", "--set", "schedule.stop_epochs=1", "--set", "optimizer.learning_rate=0.03"
    )
    started_rows = list(csv.DictReader((tmp_path / "started" / "history.csv").read_text().splitlines()))
    assert len(started_rows) < 9, "with so high a rate the held-out loss must soon rise"
    assert (tmp_path / "started" / "best.keras").exists()
    wrong = ("train", fer2013_csv, "--recipe", "edge", "--set", "optimizer.batch_size=32", "--weights")
    stderr = eager_cli(*wrong, trained / "model.keras", "--out", tmp_path / "x", status=2).stderr
    assert "weights of another network" in stderr


def test_teachers_classify_together_or_in_turns(trained: Path, sample: Sample, tmp_path: Path) -> None:
    card = read_card(trained / "model.keras", ClassifierCard)
    other = keras.models.load_model(trained / "model.keras", compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns about TensorFlow's arrays
        other.set_weights([weight[..., ::-1] for weight in other.get_weights()])
        other.save(tmp_path / "other.keras")
    write_card(tmp_path / "other.keras", card)
    teachers = Teachers([trained / "model.keras", tmp_path / "other.keras"], card.labels)
    crops = sample.faces[:96]
    alone = [teachers.classify(crops, only) for only in range(len(teachers))]
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    assert teachers.classify(crops) == pytest.approx((alone[0] + alone[1]) / 2, abs=1e-5)
    flipped = (alone[0] + teachers.classify(crops[:, :, ::-1], 0)) / 2
    assert teachers.classify(crops, 0, flip_average=True) == pytest.approx(flipped, abs=1e-5)
    recipe = load_recipe("edge", ["target.distillation=1.0", "optimizer.batch_size=32", "augmentation.mixup=0"])
    faces = FaceSource(crops, {HEAD: np.full((96, 7), 1 / 7, np.float32)}, np.arange(96), card.input)
    for round_robin in (True, False):
        target = msgspec.structs.replace(recipe.target, round_robin=round_robin, flip_average=round_robin)
        changed_recipe = msgspec.structs.replace(recipe, target=target)
        with batch_workers(faces.arrays, 0) as workers:
            batches = AugmentedBatches(faces, workers, changed_recipe, 48, range(3, 4), teachers=teachers)
            for step in range(3):
                images, targets, _ = batches[step]
                pixels = np.rint((images[..., 0] - card.input.offset) / card.input.scale).astype(np.uint8)
                expected = teachers.classify(pixels, (step + 3) % 2 if round_robin else None, flip_average=round_robin)
                assert targets[HEAD] == pytest.approx(expected, abs=1e-4)


def test_teachers_agree_in_bfloat16(trained: Path, sample: Sample, tmp_path: Path) -> None:
    card = read_card(trained / "model.keras", ClassifierCard)
    network = load_recipe("transfer", ["network.side=32", "network.weights=none"]).network
    nested = keras.Model((images := keras.Input((48, 48, 1))), network.build(7, 48)(images)[HEAD])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns about TensorFlow's arrays
        keras.Sequential([nested, keras.layers.Softmax()]).save(tmp_path / "nested.keras")
    write_card(tmp_path / "nested.keras", card)
    spreads = []
    for path in (trained / "model.keras", tmp_path / "nested.keras"):
        exact, fast = (
            Teachers([path], card.labels, precision).classify(sample.faces[:50])
            for precision in ("float32", "mixed_bfloat16")
        )
        assert fast.dtype == np.float32
        assert fast.sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert fast == pytest.approx(exact, abs=0.02)
        spreads.append(exact.std(axis=0).max())
    assert max(spreads) > 0.001


def test_does_not_evaluate_model_with_images_that_are_not_square(
    eager_cli: Cli, fer2013_csv: Path, tmp_path: Path
) -> None:
    card = read_card(DEFAULT_MODEL, ClassifierCard)
    wide = msgspec.structs.replace(card, input=msgspec.structs.replace(card.input, width=64))
    layers = [keras.Input((48, 64, 1)), keras.layers.Flatten(), keras.layers.Dense(7, activation="softmax")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns about TensorFlow's arrays
        keras.Sequential(layers).save(tmp_path / "wide.keras")
    write_card(tmp_path / "wide.keras", wide)
    stderr = eager_cli("evaluate", tmp_path / "wide.keras", fer2013_csv, status=2).stderr
    assert "wide.keras: it takes 64x48, but datasets give square images only" in stderr.splitlines()[-1]


def test_transfer_names_remedy_for_missing_weights(fer2013_csv: Path, tmp_path: Path) -> None:
    transfer = ("train", fer2013_csv, "--recipe", "transfer", "--epochs", "1", "--set", "network.side=48")
    other = ("--set", "optimizer.batch_size=128", "--out", tmp_path / "other")
    # Keras keeps what it downloads. In an empty home without a network there is nothing to load.
    result = subprocess.run(
        [sys.executable, "-m", "fer_edge.cli", *map(str, (*transfer, *other))],
        capture_output=True, text=True, check=False,
        env={**os.environ, "KERAS_HOME": str(tmp_path / "empty"), "https_proxy": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert result.returncode == 2
    assert "cannot load the ImageNet weights of MobileNetV2" in result.stderr
    assert "--weights FILE" in result.stderr.splitlines()[-1]
    assert "(`fer-edge --debug train ...` shows why):" in result.stderr


def test_resumes_killed_run(fork_server: ForkServer, eager_cli: Cli, fer2013_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    recipe = ("--recipe", "cnn-bn-gap", *QUICK, *changed("schedule.average_epochs=4", "schedule.stop_epochs=0"))
    command: tuple[str | Path, ...] = ("train", fer2013_csv, *recipe, "--epochs", "5", "--out")
    process = fork_server.start(*command, out, eager=True)
    deadline = time.monotonic() + 400
    while not list(out.glob("checkpoint-0002.keras")):
        assert not process.has_ended()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    refused = eager_cli(*command, out, status=2).stderr
    assert "add --resume" in refused.splitlines()[-1]
    assert "another recipe or other data" in eager_cli(*command, out, "--resume", "--set", "seed=2", status=2).stderr
    result = eager_cli(*command, out, "--resume")
    epochs = re.findall(r"^epoch (\d)/5", result.stderr, re.MULTILINE)
    assert 3 <= int(epochs[0]) <= 4
    assert epochs[-1] == "5"
    assert len(list(out.glob("checkpoint-*.keras"))) == 1
    eager_cli(*command, tmp_path / "whole")
    losses = [
        [float(row["val_loss"]) for row in csv.DictReader((folder / "history.csv").read_text().splitlines())]
        for folder in (out, tmp_path / "whole")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    accuracies = [json.loads((f / "report" / "report.json").read_text())["results"] for f in (out, tmp_path / "whole")]
    assert accuracies[0]["tested on"]["accuracy"] == pytest.approx(accuracies[1]["tested on"]["accuracy"], abs=0.03)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_full_disk_gives_one_line_and_keeps_last_checkpoint(
    eager_cli: Cli, trained: Path, fer2013_csv: Path, tmp_path: Path
) -> None:
    small = ("--recipe", "cnn3", *QUICK, "--out")
    size = sum(path.stat().st_size for path in trained.glob("*.*"))  # checkpoint and model have the same size
    disk = tmp_path / "disk"
    disk.mkdir()
    mount: list[str | Path] = ["/usr/bin/mount", "-t", "tmpfs", "-o", f"size={size // 4096 * 4096}", "none", disk]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        filler = disk / "filler"
        filler.write_bytes(bytes(size // 4))
        train: tuple[str | Path, ...] = ("train", fer2013_csv, *small, disk / "run", "--epochs", "4")
        stderr = eager_cli(*train, status=1).stderr
        assert "No space left on device" in stderr.splitlines()[-1]
        (last,) = (disk / "run").glob("checkpoint-*.keras")
        assert not [path for path in (disk / "run").iterdir() if path.name.startswith(".")]
        subprocess.run(["/usr/bin/mount", "-o", "remount,size=64m", disk], check=True)
        assert f"epoch {int(last.stem[-4:]) + 1}/4" in eager_cli(*train, "--resume").stderr
        assert read_card(disk / "run" / "model.keras", ClassifierCard).labels
    finally:
        subprocess.run(["/usr/bin/umount", "-l", disk], check=True)


def test_trains_without_tensorflow(fer2013_csv: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent" / "tensorflow"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ImportError('not on this machine')\n")
    votes = fer2013_csv.with_name("fer2013new.csv")
    command: list[str | Path] = [sys.executable, "-m", "fer_edge.cli", "train", fer2013_csv, "--votes", votes]
    # JAX compiles again for each size.
    small = changed("optimizer.batch_size=32", "network.stem=8", "network.widths=[8]", "network.blocks=[1]")
    everything = changed("schedule.sizes=[]", "schedule.average_epochs=2", "target.auxiliary=0.5")
    result = subprocess.run(
        [*command, "--recipe", "edge", "--epochs", "3", *small, *everything, "--out", tmp_path / "run"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(absent.parent)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "held-out faces right" in result.stdout
    wrong = {**os.environ, "KERAS_BACKEND": "abacus"}
    result = subprocess.run([*command, "--out", tmp_path / "x"], capture_output=True, text=True, check=False, env=wrong)
    assert result.returncode == 2
    assert "KERAS_BACKEND is abacus, which is not installed" in result.stderr


def test_writes_tensorboard_logs(cli: Cli, fer2013_csv: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    cli(
        "train",
        fer2013_csv,
        "--recipe",
        "cnn3",
        *QUICK,
        "--epochs",
        "1",
        "--out",
        tmp_path / "run",
        "--tensorboard",
        logs,
    )
    assert list(logs.rglob("events.out.tfevents.*"))
