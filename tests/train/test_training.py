"""Test training of each recipe on the command line, with a few steps on real faces."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import csv
import json
import re
import signal
import subprocess
import sys
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
from fer_edge_train.bank import Bank, Views, digest
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
    "transfer": [
        "network.backbone=MobileNetV2",
        "network.side=32",
        "network.frozen_epochs=1",
        "optimizer.batch_size=128",
    ],
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


@pytest.mark.parametrize("recipe", [name for name in recipe_names(Recipe) if name in SMALL])
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
    assert page.count("<figure>") == len(report["most_confident_mistakes"]) > 0
    for name in ("curves", "confusion", "calibration"):
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
    assert "recipe faces: it is for fer-edge train-faces; for fer-edge train choose adapt, cnn-bn-gap" in wrong


@pytest.fixture(scope="module")
def trained(cli: Cli, fer2013_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a quick run of two epochs."""
    out = tmp_path_factory.mktemp("trained") / "run"
    cli("train", fer2013_csv, "--recipe", "cnn3", *QUICK, "--epochs", "2", "--out", out)
    return out


def test_learns_from_bank_of_its_teachers(
    eager_cli: Cli, trained: Path, fer2013_csv: Path, sample: Sample, tmp_path: Path
) -> None:
    bank = tmp_path / "bank.npz"
    distilled: tuple[str | Path, ...] = (
        "train",
        fer2013_csv,
        "--recipe",
        "cnn3",
        *QUICK,
        *changed("target.distillation=0.9", "target.views=3", "augmentation.flip=0.5", "augmentation.rotate_degrees=9"),
    )
    teacher = ("--teacher", trained / "model.keras")
    made = eager_cli(*distilled, "--epochs", "1", *teacher, "--out", tmp_path / "one", "--bank", bank)
    assert "teachers have answered for 3 of 3 views" in made.stderr
    training = sample.faces[[row["Usage"] == "Training" for row in sample.rows]]
    answers = Bank.load(bank, training)
    assert len(answers) == 3
    assert (answers.views.rotate_degrees, answers.views.zoom) == (9, 0)
    held_out = int(found[1]) if (found := re.search(r"held out: (\d+)", made.stderr)) else 0
    assert answers.unseen.sum() == held_out > 0
    card = read_card(trained / "model.keras", ClassifierCard)
    rows = np.arange(len(training))
    for view in range(3):  # the teacher says of the views what the bank says of them
        said = Teachers([trained / "model.keras"], card.labels).classify(answers.views.render(training, rows, view, 48))
        assert np.exp(answers.log_probabilities(rows, view)) == pytest.approx(said, abs=0.02)

    eager_cli(*distilled, "--epochs", "1", "--bank", bank, "--out", tmp_path / "two")
    histories = [(tmp_path / name / "history.csv").read_text() for name in ("one", "two")]
    losses = [list(csv.DictReader(text.splitlines()))[-1] for text in histories]
    for key in ("loss", "val_loss"):  # threads add in another order
        assert float(losses[0][key]) == pytest.approx(float(losses[1][key]), rel=0.01)
    commands = [read_card(tmp_path / name / "model.keras", ClassifierCard).made_by for name in ("one", "two")]
    assert commands[0][0] == card.made_by[0], "the card must list the teacher's command"
    assert len(commands[1]) == 1
    assert str(bank) in commands[1][0]

    more = ("--set", "target.views=4", "--epochs", "1", *teacher, "--bank", bank, "--out", tmp_path / "four")
    stderr = eager_cli(*distilled, *more).stderr
    assert re.findall(r"answered for (\d) of", stderr) == ["4"], "a bank is completed"
    completed = Bank.load(bank, training)
    assert (completed.codes[:3] == answers.codes).all()
    assert len(completed) == 4

    # Another split holds out faces that the teacher has learnt from.
    other = ("--set", "data.validation_seed=2", "--epochs", "1", "--bank", bank, "--out", tmp_path / "three")
    assert re.search(r"teachers have learnt from \d+ of \d+ held-out faces", eager_cli(*distilled, *other).stderr)


def test_refuses_banks_that_do_not_belong_to_the_run(
    eager_cli: Cli, trained: Path, fer2013_csv: Path, sample: Sample, tmp_path: Path
) -> None:
    training = sample.faces[[row["Usage"] == "Training" for row in sample.rows]]
    codes = np.full((2, len(training), 2), 20, np.uint8)
    bank = tmp_path / "bank.npz"
    Bank(("happy", "sad"), Views(), codes, np.zeros(len(training), bool), digest(training)).save(bank)
    train: tuple[str | Path, ...] = (
        "train",
        fer2013_csv,
        "--recipe",
        "cnn3",
        *QUICK,
        *changed("target.distillation=0.9"),
        "--out",
        tmp_path / "x",
    )
    teacher = ("--teacher", trained / "model.keras")
    none, text = tmp_path / "none.npz", tmp_path / "bank.txt"
    cases: list[tuple[list[str | Path], str]] = [
        (["--bank", none], "none.npz: no such bank; make it with --teacher MODEL.keras"),
        (["--bank", text], "a bank is kept in an .npz file"),
        (["--bank", bank, "--bank", bank, *teacher], "teachers make one bank: give one --bank"),
        (["--bank", bank], "bank.npz: the bank has no answers for angry"),
        (["--bank", bank, *teacher], "bank.npz: a bank of other teachers, views or labels"),
        (["--bank", bank, "--set", "data.side=32"], "a bank for other faces"),
        (["--bank", bank, "--set", "target.distillation=0"], "this recipe does not use teachers"),
    ]
    for options, message in cases:
        lines = eager_cli(*train, *options, status=2).stderr.splitlines()
        assert message in lines[-1], message
    assert not (tmp_path / "x" / "recipe.toml").exists()


def test_starts_from_weights_and_stops_early(eager_cli: Cli, trained: Path, fer2013_csv: Path, tmp_path: Path) -> None:
    start = ("--weights", trained / "model.keras", "--out", tmp_path / "started")
    hasty = changed("schedule.stop_epochs=1", "optimizer.learning_rate=0.03")
    eager_cli("train", fer2013_csv, "--recipe", "cnn3", *QUICK, *hasty, *start, "--epochs", "9")
    started_rows = list(csv.DictReader((tmp_path / "started" / "history.csv").read_text().splitlines()))
    assert len(started_rows) < 9, "with so high a rate the held-out loss must soon rise"
    assert (tmp_path / "started" / "best.keras").exists()
    wrong = ("train", fer2013_csv, "--recipe", "edge", "--set", "optimizer.batch_size=32", "--weights")
    stderr = eager_cli(*wrong, trained / "model.keras", "--out", tmp_path / "x", status=2).stderr
    assert "weights of another network" in stderr


def test_teachers_scores_are_averaged(trained: Path, sample: Sample, tmp_path: Path) -> None:
    card = read_card(trained / "model.keras", ClassifierCard)
    other = keras.models.load_model(trained / "model.keras", compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns about TensorFlow's arrays
        other.set_weights([weight[..., ::-1] for weight in other.get_weights()])
        other.save(tmp_path / "other.keras")
    write_card(tmp_path / "other.keras", card)
    paths = [trained / "model.keras", tmp_path / "other.keras"]
    crops = sample.faces[:96]
    alone = [Teachers([path], card.labels).classify(crops) for path in paths]
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    assert Teachers(paths, card.labels).classify(crops) == pytest.approx((alone[0] + alone[1]) / 2, abs=1e-5)


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
    other = (*changed("network.backbone=MobileNetV2", "optimizer.batch_size=128"), "--out", tmp_path / "other")
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


def test_resumes_killed_run(
    fork_server: ForkServer, eager_cli: Cli, trained: Path, fer2013_csv: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    recipe = ("--recipe", "cnn-bn-gap", *QUICK, *changed("schedule.average_epochs=3", "schedule.stop_epochs=0"))
    teacher: tuple[str | Path, ...] = (
        *changed("target.distillation=0.5", "target.views=2"),
        "--teacher",
        trained / "model.keras",
    )
    command: tuple[str | Path, ...] = ("train", fer2013_csv, *recipe, *teacher, "--epochs", "4", "--out")
    process = fork_server.start(*command, out, eager=True, kill_before_writing=out / "checkpoint-0003.keras")
    assert process.wait(500) == -signal.SIGKILL
    refused = eager_cli(*command, out, status=2).stderr
    assert "add --resume" in refused.splitlines()[-1]
    other = changed("optimizer.learning_rate=0.5")
    assert "another recipe or other data" in eager_cli(*command, out, "--resume", *other, status=2).stderr
    result = eager_cli(*command, out, "--resume")
    assert re.findall(r"^epoch (\d)/4", result.stderr, re.MULTILINE) == ["3", "4"]
    assert "teachers have answered" not in result.stderr, "the run's own bank.npz is read"
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
