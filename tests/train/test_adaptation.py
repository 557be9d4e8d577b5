"""Test adapting a model on the command line: from a folder of one's own to a model that knows it better."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import csv
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge.classification.labels import FER2013
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_train.network import iter_layers, load_trained

if TYPE_CHECKING:
    import numpy.typing as npt

    from tests.conftest import Cli, Sample

# One worker, so that TensorFlow is loaded once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("adapt")]

EDGE = Path(__file__).parents[2] / "models" / "edge.keras"
SWAPPED = {"happy": "sad", "sad": "happy", "angry": "surprise", "surprise": "angry"}


def changed(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


QUICK = changed(
    "adaptation.rehearsal_faces=100", "target.views=1", "network.frozen=0.2", "optimizer.learning_rate=3e-3"
)


def wear_glasses(face: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    worn = face.copy()
    for x in (15, 33):
        cv2.circle(worn, (x, 19), 7, (25,), cv2.FILLED)
        cv2.circle(worn, (x, 19), 7, (230,), 1)
    return worn


def write_person(sample: Sample, folder: Path, *, faces: int) -> Path:
    """Write the folder of a person with glasses whose labels are permuted: faces of each class, and 14 to test on."""
    counts = {("Training", label): faces for label in FER2013} | {("PublicTest", label): 14 for label in FER2013}
    groups = []
    for number, (face, row) in enumerate(zip(sample.faces, sample.rows, strict=True)):
        label = FER2013[int(row["emotion"])]
        if counts[row["Usage"], label]:
            counts[row["Usage"], label] -= 1
            part = "train" if row["Usage"] == "Training" else "test"
            name = f"{part}/{SWAPPED.get(label, label)}/{number:04d}.png"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / name), wear_glasses(face))
            groups.append({"file": name, "group": f"day {number % 10}"})
    (folder / "manifest.json").write_text(json.dumps({"version": 1, "faces": groups}))
    return folder


@pytest.fixture(scope="module")
def person(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_person(sample, tmp_path_factory.mktemp("person") / "own", faces=30)


@pytest.fixture(scope="module")
def start(cli: Cli, fer2013_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a small network to start from; building the graph of a large one takes longer than everything else."""
    out = tmp_path_factory.mktemp("start") / "run"
    small = ("network.stem=8", "network.widths=[8, 8]", "network.blocks=[1, 1]", "optimizer.batch_size=32")
    cli("train", fer2013_csv, "--recipe", "edge", *changed(*small), "--epochs", "2", "--out", out)
    return out / "model.keras"


def adapting(start: Path, person: Path, others: Path, bank: Path) -> tuple[str | Path, ...]:
    """Return the command that adapts a model to a person and rehearses others."""
    given = ("--weights", start, "--data", others, "--bank", bank)
    return ("train", person, "--recipe", "adapt", *given, *QUICK)


@pytest.fixture(scope="module")
def adapted(cli: Cli, start: Path, person: Path, fer2013_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run of three epochs."""
    folder = tmp_path_factory.mktemp("adapted")
    command = adapting(start, person, fer2013_csv, folder / "bank.npz")
    done = cli(*command, "--epochs", "3", "--out", folder / "run")
    assert "edge has answered for 1 of 1 views" in done.stderr
    assert "fer2013.csv: 100 faces to rehearse on" in done.stderr
    assert "the adapted model is " in done.stdout
    assert "it answers as before on " in done.stdout
    return folder


def test_learns_and_keeps_early_layers(cli: Cli, adapted: Path, start: Path, person: Path) -> None:
    model = adapted / "run" / "model.keras"
    with (adapted / "run" / "history.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 3
    assert losses[2] < losses[0]
    card = read_card(model, ClassifierCard)
    assert card.labels == FER2013
    assert card.name == "edge-adapted"
    assert "100 faces of" in card.data
    assert len(card.made_by) == len(read_card(start, ClassifierCard).made_by) + 1
    verdict = cli("evaluate", start, model, person, "--by", "group", "--json")
    assert json.loads(verdict.stdout)["models"][1]["change"]["verdict"] in {"better", "not shown", "worse"}
    assert "adapt" in (adapted / "run" / "report" / "index.html").read_text()
    before, after = ([one for one in iter_layers(load_trained(path)) if one.weights] for path in (start, model))
    for old, new in zip(before, after, strict=True):
        same = all((a == b).all() for a, b in zip(old.get_weights(), new.get_weights(), strict=True))
        assert same or not (old is before[0] or "batch_normalization" in old.name), old.name
    assert not (before[-1].get_weights()[0] == after[-1].get_weights()[0]).all()


def test_keeps_answers_and_resumes(cli: Cli, adapted: Path, start: Path, person: Path, fer2013_csv: Path) -> None:
    run = adapted / "run"
    command = adapting(start, person, fer2013_csv, adapted / "bank.npz")
    refused = cli(*command, "--epochs", "3", "--out", run, status=2)
    assert "add --resume" in refused.stderr
    copy = adapted / "again"
    shutil.copytree(run, copy)
    again = cli(*command, "--epochs", "3", "--out", copy, "--resume")
    assert "has answered" not in again.stderr
    assert (copy / "history.csv").read_text() == (run / "history.csv").read_text()


def test_warns_without_rehearsal_and_pulls(cli: Cli, start: Path, person: Path, tmp_path: Path) -> None:
    # So strong a pull leaves every layer as it was, but the output layer, which is calibrated.
    changes = changed("adaptation.steps=2", "adaptation.pull=1e9", "schedule.rate=constant")
    command: tuple[str | Path, ...] = ("train", person, "--recipe", "adapt", "--weights", start, *QUICK, *changes)
    done = cli(*command, "--epochs", "1", "--out", tmp_path / "run")
    assert "warning: no faces to rehearse on" in done.stderr
    assert "as before" not in done.stdout
    before, after = (load_trained(path).get_weights() for path in (start, tmp_path / "run" / "model.keras"))
    for old, new in zip(before[:-2], after[:-2], strict=True):
        np.testing.assert_allclose(old, new, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("one class", "too few training faces"),
        ("three faces", "too few training faces (angry 3, disgust 3, fear 3, happy 3,"),
        ("unknown label", "has no label bored; it has angry, disgust"),
        ("no train", "no faces to learn from; put them into train/LABEL/"),
    ],
)
def test_refuses_faces_that_cannot_be_learnt(
    warm_cli: Cli, sample: Sample, tmp_path: Path, *, change: str, message: str
) -> None:
    own = write_person(sample, tmp_path / "own", faces=3 if change == "three faces" else 12)
    if change == "one class":
        for label in set(FER2013) - {"happy"}:
            shutil.rmtree(own / "train" / label)
    elif change == "unknown label":
        (own / "train" / "happy").rename(own / "train" / "bored")
    elif change == "no train":
        shutil.rmtree(own / "train")
    check_refused(warm_cli, tmp_path, message, own, "--weights", "edge")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name it with --weights, such as --weights edge"),
        (("--weights", "nothing.keras"), "nothing.keras: no such model; give a .keras"),
        (("--weights", "large"), "large: its float model is not kept; make it with the commands"),
        (("--weights", EDGE.parents[1] / "fer_edge" / "models" / "edge.tflite"), "not a .keras file"),
        (("--weights", EDGE.with_name("faces.keras")), "faces.keras"),
        (("--weights", "edge", "--bank", "bank.npz"), "answers without their faces"),
        (("--weights", "edge", "--bank", "bank.txt"), "ends in .npz"),
        (("--weights", "edge", "--teacher", EDGE), "--teacher and --votes"),
        (("--weights", "edge", "--set", "network.kind=plain"), "network"),
        (("--weights", "edge", "--set", "schedule.stop_epochs=0"), "keeps the best epoch"),
    ],
)
def test_refuses_wrong_options(
    warm_cli: Cli, person: Path, tmp_path: Path, *, options: tuple[str | Path, ...], message: str
) -> None:
    check_refused(warm_cli, tmp_path, message, person, *options)


def check_refused(cli: Cli, folder: Path, message: str, *options: str | Path) -> None:
    out = folder / "run"
    error = cli("train", *options, "--recipe", "adapt", "--out", out, status=2).stderr
    (line,) = [one for one in error.splitlines() if one.startswith("fer-edge: error")] or [error]
    assert message in line
    assert "Traceback" not in error
    assert not out.exists()
