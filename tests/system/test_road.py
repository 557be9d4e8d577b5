"""The whole road through the command line: images, Keras model, int8 model, table, messages."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fer_edge_train
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard

if TYPE_CHECKING:
    from tests.conftest import Cli, Sample

# One worker, so that the models of the fixtures are trained once, and that of the conversions, which has TensorFlow.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("convert")]
# Less deep and narrower than it is, for time.
SMALL = tuple(
    word
    for change in ("network.stem=16", "network.widths=[16, 32, 64]", "network.blocks=[1, 1, 1]", "schedule.sizes=[]")
    for word in ("--set", change)
)


@pytest.fixture(scope="module")
def run_dir(warm_cli: Cli, fer2013_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs on real faces."""
    out = tmp_path_factory.mktemp("train") / "edge"
    votes = fer2013_csv.with_name("fer2013new.csv")
    steps = ("--epochs", "2", "--set", "optimizer.batch_size=32", *SMALL)
    done = warm_cli("train", fer2013_csv, "--votes", votes, "--out", out, *steps)
    assert "epoch 2/2" in done.stderr
    assert "held-out faces right" in done.stdout
    return out


@pytest.fixture(scope="module")
def int8(cli: Cli, run_dir: Path, fer2013_csv: Path) -> Path:
    out = run_dir.parent / "edge.tflite"
    # After two epochs rounding decides many answers: no bound on the drop here.
    done = cli("convert", run_dir / "model.keras", "--int8", "--data", fer2013_csv, "-o", out, "--max-drop", "100")
    for word in ("of 350 faces PublicTest", "agreement", "size", "calibrated  on 2", "hurts most"):
        assert word in done.stdout
    said = [line for line in done.stderr.splitlines() if not line.startswith("fer-edge: the float model")]
    assert said == [], "TensorFlow's own notes are not the user's business"
    return out


def test_training_leaves_model_history_recipe_and_report(run_dir: Path) -> None:
    card = read_card(run_dir / "model.keras", ClassifierCard)
    assert card.labels[0] == "angry"
    assert card.made_by[0].startswith("fer-edge train ")
    with (run_dir / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    report = json.loads((run_dir / "report" / "report.json").read_text())
    assert report["counts"]["tested on"] == report["results"]["tested on"]["faces"] == 350
    assert report["counts"]["trained on"] + report["counts"]["held out"] == 350
    for name in ("curves.png", "confusion.png"):
        assert (run_dir / "report" / name).read_bytes().startswith(b"\x89PNG")
    assert "[network]" in (run_dir / "recipe.toml").read_text()


def test_the_converted_model_is_small_integer_and_says_where_it_came_from(cli: Cli, int8: Path) -> None:
    found = json.loads(cli("inspect", int8, "--json").stdout)
    assert found["integer_only"]
    assert found["bytes"] < 1_000_000
    assert [command.split()[1] for command in found["card"]["made_by"]] == ["train", "convert"]
    assert any(name.startswith("int8 accuracy") for name in found["card"]["scores"])


def test_both_models_evaluate_alike(cli: Cli, warm_cli: Cli, run_dir: Path, int8: Path, fer2013_csv: Path) -> None:
    before, after = (
        json.loads(evaluating("evaluate", model, fer2013_csv, "--json").stdout)
        for evaluating, model in ((warm_cli, run_dir / "model.keras"), (cli, int8))
    )
    assert before["faces"] == after["faces"] == 350
    # After two epochs the scores lie so close together that rounding decides many; the real bound is
    # tested on the shipped model.
    assert abs(before["accuracy"] - after["accuracy"]) < 0.1
    by_class = cli("evaluate", int8, fer2013_csv).stdout
    assert "precision" in by_class
    assert "surprise" in by_class


def test_the_converted_model_tags_and_runs(cli: Cli, int8: Path, sample: Sample, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "faces", slice(0, 700, 35))
    cli("tag", tree, "--face", "--model", int8, "--out", tmp_path / "tags.csv")
    with (tmp_path / "tags.csv").open(newline="") as file:
        assert len([row for row in csv.DictReader(file) if row["emotion"]]) == 20
    done = cli("run", "--source", "demo", "--full-speed", "--seconds", "2", "--model", int8, "--node", "test")
    assert '"event_type":"new"' in done.stdout


def test_bad_input_to_training_and_conversion_is_one_line(
    warm_cli: Cli, run_dir: Path, fer2013_csv: Path, sample: Sample, tmp_path: Path
) -> None:
    def complaint(*args: str | Path) -> str:
        said = warm_cli(*args, status=2).stderr
        assert said.count("\n") == 1, said
        return said

    assert "no such file or folder" in complaint("train", tmp_path / "none.csv", "--out", tmp_path / "run")
    few = sample.write_csv(tmp_path / "few.csv", slice(0, 350, 10))
    tests_only = sample.write_csv(tmp_path / "tests.csv", slice(350, 700))
    assert "no Training rows to train on" in complaint("train", tests_only, "--out", tmp_path / "run")
    assert "35 training faces, 33 of them not held out, are too few" in complaint(
        "train", few, "--out", tmp_path / "run", "--recipe", "edge"
    )
    assert "did you mean edge?" in complaint("train", fer2013_csv, "--out", tmp_path / "run", "--recipe", "egde")
    recipe = tmp_path / "my.toml"
    recipe.write_text('summary = "x"\nlearning = 1\n')
    assert "there is no key learning; did you mean optimizer.learning_rate?" in complaint(
        "train", few, "--out", tmp_path / "run", "--recipe", str(recipe)
    )
    assert not (tmp_path / "run").exists()
    wild = tmp_path / "wild.toml"
    edge = (Path(fer_edge_train.__file__).parent / "recipes" / "classifier" / "edge.toml").read_text()
    wild.write_text(edge.replace("learning_rate = 4e-3", "learning_rate = 1e12"))
    votes = fer2013_csv.with_name("fer2013new.csv")
    diverging = ("train", fer2013_csv, "--votes", votes, "--out", tmp_path / "wild", "--recipe", str(wild))
    said = warm_cli(*diverging, *SMALL, "--epochs", "4", status=2).stderr.splitlines()
    assert "training diverged in epoch" in said[-1]

    out = tmp_path / "x.tflite"
    convert = ("--int8", "--data", fer2013_csv, "-o", out)
    assert "no such model" in complaint("convert", tmp_path / "none.keras", *convert)
    cut = tmp_path / "cut.keras"
    cut.write_bytes((run_dir / "model.keras").read_bytes()[:9000])
    assert "damaged, or not a .keras file" in complaint("convert", cut, *convert)
    assert "choose one way to quantise" in complaint("convert", run_dir / "model.keras", "--data", few, "-o", out)
    tree = tmp_path / "tree"
    for name in ("calm", "cross"):
        shutil.copytree(sample.write_tree(tmp_path / "some", slice(0, 2)) / "train" / "angry", tree / "train" / name)
    wrong = ("--int8", "--data", tree, "-o", out)
    assert "the model does not know calm, cross" in complaint("convert", run_dir / "model.keras", *wrong)
    onto_itself = ("--int8", "--data", fer2013_csv, "-o", run_dir / "model.keras")
    assert "ends in .tflite" in complaint("convert", run_dir / "model.keras", *onto_itself)
    damaged = tmp_path / "damaged.keras"
    shutil.copy(run_dir / "model.keras", damaged)
    with zipfile.ZipFile(run_dir / "model.keras") as whole, zipfile.ZipFile(damaged, "w") as part:
        for name in whole.namelist():
            part.writestr(name, whole.read(name)[: 500 if name.endswith(".h5") else None])
    assert "Keras cannot load it" in complaint("convert", damaged, *convert)
    assert not list(tmp_path.glob("*.tflite"))
