"""Test `fer-edge evaluate` with several models, a part of the faces and a page."""

from __future__ import annotations

import csv
import json
import re
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.classification.comparison import (
    bootstrap,
    change_of_accuracy,
    difference_of_accuracy,
    spread_rows,
    wilson_interval,
)
from fer_edge.classification.groups import Answers, measure_groups
from fer_edge.classification.metrics import log_losses
from fer_edge.errors import DataError
from fer_edge.model_zoo import DEFAULT_MODEL
from tests.conftest import VOTES, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli


@pytest.fixture(scope="module")
def faces_csv(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the CSV of 140 faces, half of them to test on, ten of each label."""
    return sample.write_csv(tmp_path_factory.mktemp("evaluate") / "fer2013.csv", slice(0, 700, 5))


def test_compares_models_on_the_same_faces(cli: Cli, faces_csv: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = json.loads(
        cli("evaluate", DEFAULT_MODEL, "edge-plus", faces_csv, "--confusion-html", page, "--json").stdout
    )
    first, second = result["models"]
    alone = json.loads(cli("evaluate", DEFAULT_MODEL, faces_csv, "--json").stdout)
    assert alone["model"] == first["model"] == str(DEFAULT_MODEL)
    assert alone["confusion"] == first["confusion"]
    assert alone["faces"] == first["faces"] == second["faces"] == 70
    assert first["interval"][0] < first["accuracy"] < first["interval"][1]
    assert "change" not in first
    low, high = second["change"]["interval"]
    assert low <= second["change"]["points"] <= high
    assert second["change"]["points"] == pytest.approx(100 * (second["accuracy"] - first["accuracy"]))
    assert 0.4 < second["change"]["agreement"] < 1

    text = page.read_text()
    assert not re.search(r"(?:src|href)=|url\(|@import|<script", text), "nothing outside the page"
    matrices = re.findall(r'<table class="matrix">.*?</table>', text, re.DOTALL)
    counts = [[int(count) for count in re.findall(r"<small>(\d+)</small>", matrix)] for matrix in matrices]
    assert counts == [np.ravel(one["confusion"]).tolist() for one in (first, second)]
    assert f"{second['change']['points']:+.2f}" in text

    output = cli("evaluate", DEFAULT_MODEL, "edge-plus", faces_csv).stdout
    assert f"{second['accuracy']:.2%}" in output
    assert f"edge-plus {'':<{len(str(DEFAULT_MODEL)) - 9}} {second['change']['points']:+.2f} points (95 %" in output


def test_bootstrap_intervals_of_models(cli: Cli, faces_csv: Path) -> None:
    command = ("evaluate", DEFAULT_MODEL, "edge-plus", faces_csv, "--bootstrap", "300")
    first, second = json.loads(cli(*command, "--json").stdout)["models"]
    for one in (first, second):
        its = one["bootstrap"]
        assert its["resamples"] == 300
        assert its["accuracy"][0] < one["accuracy"] < its["accuracy"][1]
        # Both kinds of interval are approximations; with 70 faces they are as wide to within a fifth.
        assert np.diff(its["accuracy"]) == pytest.approx(np.diff(one["interval"]), rel=0.2)
        assert its["log_loss"][0] < one["log_loss"] < its["log_loss"][1]
    assert first["bootstrap"]["accuracy_change"] is None
    low, high = second["bootstrap"]["accuracy_change"]
    assert low < second["change"]["points"] < high
    low, high = second["bootstrap"]["log_loss_change"]
    assert low < second["log_loss"] - first["log_loss"] < high
    output = cli(*command).stdout
    assert f"log loss {first['log_loss']:.4f}" in output
    assert f"edge-plus less {DEFAULT_MODEL}: accuracy" in output
    assert cli(*command).stdout == output
    assert "bootstrap" not in json.loads(cli("evaluate", DEFAULT_MODEL, faces_csv, "--json").stdout)
    assert "95 % interval of the accuracy (Wilson): " in cli("evaluate", DEFAULT_MODEL, faces_csv).stdout


def test_interval_of_a_difference_between_groups() -> None:
    # The first example of Newcombe 1998, table II: 56 of 70 and 48 of 80 have the interval 0.0524 to 0.3339.
    difference = difference_of_accuracy(np.arange(70) < 56, np.arange(80) < 48)
    assert difference.points == pytest.approx(20)
    assert difference.interval == pytest.approx((5.24, 33.39), abs=0.01)


@pytest.mark.parametrize(
    ("gained", "lost", "p_value", "verdict"),
    [
        (0, 0, 1.0, "not shown"),
        (5, 0, 0.0625, "not shown"),
        (6, 0, 0.03125, "better"),
        (1, 8, 0.0390625, "worse"),
        (2, 8, 0.109375, "not shown"),
        (4000, 4000, 1.0, "not shown"),
        (4000, 4200, 0.0279, "worse"),
    ],
)
def test_verdict_follows_from_the_faces_that_one_classifier_gets_right(
    gained: int, lost: int, p_value: float, verdict: str
) -> None:
    before = np.array([False] * gained + [True] * lost + [True] * 10)
    after = np.array([True] * gained + [False] * lost + [True] * 10)
    change = change_of_accuracy(before, after)
    assert (change.gained, change.lost, change.verdict) == (gained, lost, verdict)
    assert change.p_value == pytest.approx(p_value, rel=0.01)


def test_verdict_becomes_the_exit_status(cli: Cli, sample: Sample, tmp_path: Path) -> None:
    files = [
        sample.write_csv(tmp_path / name, rows)
        for name, rows in (("a.csv", slice(350, 500)), ("b.csv", slice(500, 700)))
    ]
    shuffled = tmp_path / "shuffled.tflite"
    shutil.copy(DEFAULT_MODEL, shuffled)
    cli("card", "set", shuffled, "--labels", "happy,angry,disgust,fear,sad,surprise,neutral")
    worse: list[str | Path] = ["evaluate", "edge", shuffled, *files, "--by", "data", "--by", "label"]
    better: list[str | Path] = ["evaluate", shuffled, "edge", *files]
    for command, requirement, status in (
        (worse, "better", 1),
        (worse, "not-worse", 1),
        (better, "better", 0),
        (better, "not-worse", 0),
    ):
        cli(*command, "--require", requirement, status=status)
    text = cli(*worse).stdout
    assert f"{shuffled} is worse than edge: " in text
    for path, faces in zip(files, (150, 200), strict=True):
        assert re.search(rf"  {path} .* of {faces} faces .* points from the others", text)
        assert re.search(rf"  {path} .* points .*: worse, p = ", text)
    assert re.search(r"  happy .* points .*: worse, p = ", text)
    message = cli("evaluate", "edge", *files, "--require", "better", status=2).stderr
    assert "--require better: give two models or more" in message


def test_limits_the_faces(cli: Cli, faces_csv: Path, tmp_path: Path) -> None:
    limited = ("evaluate", "edge", faces_csv, "--limit", "14")
    output = cli(*limited).stdout
    assert "only 14 of 70 faces, of every label in proportion" in output
    assert cli(*limited).stdout == output
    result = json.loads(cli(*limited, "--json").stdout)
    assert (result["faces"], result["faces_in_data"]) == (14, 70)
    assert {one["support"] for one in result["classes"].values()} == {2}
    page = tmp_path / "part.html"
    assert "only" not in cli("evaluate", "edge", faces_csv, "--limit", "70", "--confusion-html", page).stdout
    assert "only" not in page.read_text()


@pytest.fixture(scope="module")
def grouped_csv(faces_csv: Path) -> Path:
    """Return the CSV of `faces_csv` with a column of its own: a decade that follows from the row."""
    lines = faces_csv.read_text().splitlines()
    grouped = [
        f"{lines[0]}, Age_Group",
        *(f"{line},{(i % 3) * 10}-{(i % 3) * 10 + 9}" for i, line in enumerate(lines[1:])),
    ]
    path = faces_csv.with_name("grouped.csv")
    path.write_text("\n".join(grouped))
    return path


def test_accuracy_by_a_column_and_answers_for_each_face(
    cli: Cli, faces_csv: Path, grouped_csv: Path, tmp_path: Path
) -> None:
    table = tmp_path / "answers.csv"
    command = ("evaluate", "edge", grouped_csv, "--by", "age_group", "--answers-csv", table)
    result = json.loads(cli(*command, "--json").stdout)
    groups = result["groups"]["age_group"]
    assert [one["value"] for one in groups] == ["0-9", "10-19", "20-29"]
    assert sum(one["faces"] for one in groups) == result["faces"] == 70
    right = sum(one["faces"] * one["accuracy"][0] for one in groups)
    assert right == pytest.approx(70 * result["accuracy"])
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 70
    assert sum(int(row["right"]) for row in rows) == round(right)
    labels = list(result["classes"])
    lines = faces_csv.read_text().splitlines()[1:]
    for row in rows:
        number = int(row["row"])
        assert lines[number].endswith(row["usage"])
        assert labels[int(lines[number].split(",")[0])] == row["label"]
        assert row["age_group"] == f"{(number % 3) * 10}-{(number % 3) * 10 + 9}"
        scores = {label: float(row[label]) for label in labels}
        assert max(scores.values()) == scores[row["answer"]]
        assert (row["label"] == row["answer"]) == (row["right"] == "1")
    text = cli(*command).stdout
    assert "edge, accuracy by age_group:" in text
    assert re.search(r"  10-19 +[\d.]+% of \d+ faces +95 % interval .* points from the others \(", text)
    one = groups[0]["differences"][0]
    others = (right - groups[0]["faces"] * groups[0]["accuracy"][0]) / (70 - groups[0]["faces"])
    assert one["points"] == pytest.approx(100 * (groups[0]["accuracy"][0] - others))
    assert one["interval"][0] < one["points"] < one["interval"][1]

    wrong = cli("evaluate", "edge", grouped_csv, "--by", "gender", status=2).stderr
    assert "no column gender in its first line; it has emotion, pixels, usage, age_group" in wrong


def test_accuracy_by_agreement_and_near_duplicates(cli: Cli, sample: Sample, tmp_path: Path) -> None:
    part = slice(0, 700, 7)
    votes = sample.write_votes(tmp_path / "fer2013new.csv", part)
    faces = sample.write_csv(tmp_path / "fer2013.csv", part)
    lines = faces.read_text().splitlines()
    tested = next(i for i, line in enumerate(lines) if line.endswith("PublicTest"))
    trained = next(i for i, line in enumerate(lines) if line.endswith("Training"))
    lines[trained] = lines[tested].replace("PublicTest", "Training")
    faces.write_text("\n".join(lines))
    options = ("--votes", votes, "--own-labels", "--by", "agreement", "--by", "near-duplicates")
    result = json.loads(cli("evaluate", "edge", faces, *options, "--json").stdout)
    by_agreement, by_copies = result["groups"]["agreement"], result["groups"]["near-duplicates"]
    assert [one["value"] for one in by_copies] == ["in training", "not in training"]
    assert by_copies[0]["faces"] == 1
    shares = []
    for row in sample.rows[part]:
        counts = [int(row[vote]) for vote in VOTES]
        shares += [max(counts) / sum(counts)] if row["Usage"] == "PublicTest" else []
    assert {one["value"]: one["faces"] for one in by_agreement} == {
        name: count
        for name, low, high in (
            ("0 to 59 % agree", 0, 0.6),
            ("60 to 79 % agree", 0.6, 0.8),
            ("80 to 99 % agree", 0.8, 1),
            ("100 % agree", 1, 2),
        )
        if (count := sum(low <= share < high for share in shares))
    }
    assert "needs their votes; give --votes" in cli("evaluate", "edge", faces, "--by", "agreement", status=2).stderr


def test_measures_mirror_images_apart(cli: Cli, faces_csv: Path, sample: Sample, tmp_path: Path) -> None:
    models = json.loads(cli("evaluate", "edge", faces_csv, "--mirror", "--json").stdout)["models"]
    assert [one["model"] for one in models] == ["edge", "edge, mirrored", "edge, mean of both"]
    mirrored = Sample(sample.faces[:, :, ::-1], sample.rows).write_csv(tmp_path / "mirrored.csv", slice(0, 700, 5))
    alone = json.loads(cli("evaluate", "edge", mirrored, "--json").stdout)
    assert models[1]["confusion"] == alone["confusion"]
    assert models[2]["log_loss"] < max(models[0]["log_loss"], models[1]["log_loss"])


def test_refuses_too_many_groups() -> None:
    answers = Answers("edge", ("a", "b"), np.full((101, 2), 0.5, np.float32), np.zeros(101, np.int64))
    values = np.arange(101).astype(str)
    with pytest.raises(DataError, match=r"name: 101 different values; give a column with 100 groups at most"):
        measure_groups([answers], "name", values)
    assert [one.value for one in measure_groups([answers], "name", np.array([f"n{i % 12}" for i in range(101)]))] == [
        f"n{i}" for i in range(12)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("edge", "edge-plus"), "edge-plus: a model; give the models first, then the labelled faces"),
        (("edge", "edge", "faces.csv"), "edge: given twice"),
        (("edge", "faces.csv", "--bootstrap", "3"), "--bootstrap"),
        (("edge", "faces.csv", "--confusion-html", "page.txt"), "--confusion-html page.txt: end it in .html"),
        (("edge", "faces.csv", "--confusion-html", "/dev/null/page.html"), "cannot write there"),
        (("edge", "faces.csv", "--answers-csv", "answers.txt"), "--answers-csv answers.txt: end it in .csv"),
        (("edge", "faces.csv", "--own-labels"), "--own-labels: the data's labels are used already"),
    ],
)
def test_rejects_arguments(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    (line,) = cli("evaluate", *arguments, status=2).stderr.splitlines()
    assert message in line


def test_chooses_rows_of_every_class_in_proportion() -> None:
    classes = np.repeat([0, 1, 2], [60, 30, 10])
    rows = spread_rows(np.random.default_rng(0).permutation(classes), 10)
    assert len(set(rows.tolist())) == 10
    assert np.bincount(np.random.default_rng(0).permutation(classes)[rows]).tolist() == [6, 3, 1]
    assert spread_rows(classes, 100).tolist() == spread_rows(classes, 1000).tolist() == list(range(100))


def test_intervals_of_accuracy() -> None:
    # Figures of Wilson's interval for 8 of 10 as statistics packages print them.
    assert wilson_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    right = np.array([True] * 50 + [False] * 50)
    same = change_of_accuracy(right, right)
    assert (same.interval, same.p_value, same.verdict) == ((0, 0), 1.0, "not shown")
    change = change_of_accuracy(right, ~right)
    assert change.points == 0
    assert change.interval == pytest.approx((-19.6, 19.6), abs=0.01)


def test_bootstrap_of_known_shares() -> None:
    right = np.repeat([True, False], [800, 200])
    losses = np.where(right, 0.1, 2.0)
    one, same, other = bootstrap(np.stack([right, right, right[::-1]]), np.stack([losses, losses, losses[::-1]]), 4000)
    # The normal approximation, which is good for 1000 faces.
    assert one.accuracy == pytest.approx((0.8 - 1.96 * 0.01265, 0.8 + 1.96 * 0.01265), abs=0.002)
    assert one.log_loss == pytest.approx([0.1 + 1.9 * (1 - share) for share in one.accuracy[::-1]])
    for interval in (same.accuracy_change, same.log_loss_change):
        assert interval == pytest.approx((0, 0), abs=1e-12), "the same resamples for all"
    assert other.accuracy_change == pytest.approx((-3.92, 3.92), abs=0.2)
    assert one.accuracy_change is None


def test_log_loss_of_scores() -> None:
    scores = np.array([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]], np.float32)
    assert log_losses(scores, np.array([0, 0, 0])) == pytest.approx(np.log([2, 4, 512]))
