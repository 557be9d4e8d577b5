"""Test `fer-edge evaluate` with several models, a part of the faces and a page."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.classification.comparison import change_of_accuracy, spread_rows, wilson_interval
from fer_edge.model_zoo import DEFAULT_MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli, Sample


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("edge", "edge-plus"), "edge-plus: a model; give the models first, then the labelled faces"),
        (("edge", "edge", "faces.csv"), "edge: given twice"),
        (("edge", "faces.csv", "--confusion-html", "page.txt"), "--confusion-html page.txt: end it in .html"),
        (("edge", "faces.csv", "--confusion-html", "/dev/null/page.html"), "cannot write there"),
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
    assert change_of_accuracy(right, right).interval == (0, 0)
    change = change_of_accuracy(right, ~right)
    assert change.points == 0
    assert change.interval == pytest.approx((-19.6, 19.6), abs=0.01)
