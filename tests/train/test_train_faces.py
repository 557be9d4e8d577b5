"""`train-faces` from pictures to report, on the demo's film, whose faces are known."""

from __future__ import annotations

import csv
import json
import zipfile
from typing import TYPE_CHECKING

import cv2
import pytest

from fer_edge import demo
from fer_edge.card import read_detector_card
from fer_edge_train.faces.recipe import load_faces_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COLUMNS = ["file", "width", "height", "x", "y", "w", "h", "score", *(f"lm{i}{axis}" for i in range(5) for axis in "xy")]
PLACES = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
SMALL = [
    word
    for change in (
        "network.stem=4",
        "network.widths=[8, 8, 8]",
        "network.blocks=[1, 1, 1]",
        "optimizer.batch_size=4",
        "schedule.sizes=[[0.0, 64], [0.5, 96]]",
        "schedule.average_epochs=2",
    )
    for word in ("--set", change)
]


def write_part(folder: Path, frames: range) -> None:
    """Frames of the film, a quarter of their size, in a zip."""
    folder.mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file, zipfile.ZipFile(folder / "film.zip", "w") as archive:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in frames:
            name = f"film_{number:03d}.png"
            small = cv2.resize(demo.frame(number), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
            archive.writestr(name, cv2.imencode(".png", small)[1].tobytes())
            shown = [one.box for one in demo.truth(number)]
            for box in shown:
                x, y, width, height = (value / 4 for value in box)
                points = [value for dx, dy in PLACES for value in (x + dx * width, y + dy * height)]
                writer.writerow([name, 160, 120, x, y, width, height, 0.9, *points])
            if not shown:
                writer.writerow([name, 160, 120, *[""] * 15])


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    write_part(folder / "train", range(0, 120, 5))
    write_part(folder / "val", range(2, 120, 20))
    return folder


def test_a_run_that_was_cut_goes_on_to_the_same_numbers(
    cli: Cli, film: Path, fer2013_csv: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = ("train-faces", film, "--paste", fer2013_csv, *SMALL, "--epochs", "2", "--out")
    first = cli(*command, whole)
    assert "epoch 2/2 loss" in first.stderr
    assert "average precision" in first.stdout
    (last,) = whole.glob("checkpoint-*.keras")
    assert last.name == "checkpoint-0002.keras"
    assert "add --resume" in cli(*command, whole, status=2).stderr
    card = read_detector_card(whole / "model.keras")
    assert card.strides == (8, 16, 32)
    assert "train-faces" in card.made_by[0]
    report = json.loads((whole / "report" / "report.json").read_text())
    assert report["pictures"] == 6
    assert len(report["history"]) == 2
    assert "http" not in (whole / "report" / "index.html").read_text().replace("http://www.w3.org", "")
    # A run of which one epoch is done, as one that was killed then left it.
    stopped = ("--set", "schedule.measure_epochs=1")
    cli(*command, cut, *stopped)
    assert (cut / "history.csv").read_text() == (whole / "history.csv").read_text()


def test_folders_without_labels_and_wrong_recipes_are_refused_in_a_line(cli: Cli, film: Path, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    assert "no pictures" in cli("train-faces", tmp_path, "--out", tmp_path / "run", status=1).stderr
    wrong = cli("train-faces", film, "--out", tmp_path / "run", "--set", "network.steam=4", status=2).stderr
    assert "did you mean stem?" in wrong.splitlines()[-1]
    assert load_faces_recipe().schedule.sizes[-1][1] % 32 == 0
