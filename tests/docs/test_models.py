"""The figures on the model cards belong to the shipped files, and to each other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fer_edge.classification.comparison import wilson_interval
from fer_edge.model_zoo import CLASSIFIERS

if TYPE_CHECKING:
    from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "docs/models"
FILES = {"edge": "edge.tflite", "edge-plus": "edge-plus.tflite", "large": "large.tflite", "faces": "faces.tflite"}

# 71.27 % of 3,589 faces (95 % interval 69.8 to 72.7 %), and | 87.67 % (85.5 to 89.6 %) | 1,014 |
SHARE = re.compile(r"([\d.]+) % of ([\d,]+) (?:faces )?\((?:95 % interval )?([\d.]+) to ([\d.]+) %\)")
ROW = re.compile(r"\| ([\d.]+) % \(([\d.]+) to ([\d.]+) %\) \| ([\d,]+) \|")
CLASS = re.compile(
    r"^\| (\w+) \| (0\.\d{3}|1\.000) \| (0\.\d{3}) \|(?: (0\.\d{3}) to (0\.\d{3}) \|)? (0\.\d{3}) \| ([\d,]+) \|$",
    re.MULTILINE,
)


def number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.fixture(params=FILES)
def card(request: pytest.FixtureRequest, cli: Cli) -> tuple[str, dict[str, object]]:
    """Return the text of a card, and what `fer-edge inspect` prints of its model."""
    model = ROOT / "fer_edge/models" / FILES[request.param]
    text = (MODELS / f"{request.param}.md").read_text(encoding="utf-8")
    return text, json.loads(cli("inspect", model, "--json").stdout)


def test_size_and_cost_are_those_of_the_file(card: tuple[str, dict[str, object]]) -> None:
    text, printed = card
    assert f"{int(str(printed['bytes'])) / 1000:.0f} kB" in text
    assert f"{float(str(printed['multiply_adds'])) / 1e6:.1f} million multiply-adds" in text


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_accuracy_and_classes_are_those_of_the_file(model: str, cli: Cli) -> None:
    text = (MODELS / f"{model}.md").read_text(encoding="utf-8")
    card = json.loads(cli("inspect", ROOT / "fer_edge/models" / FILES[model], "--json").stdout)["card"]
    assert f"{100 * card['scores']['int8 accuracy on PublicTest']:.2f} % of" in text
    rows = CLASS.findall(text)
    assert [row[0] for row in rows] == list(card["labels"])
    (faces,) = {number(found[1]) for found in SHARE.findall(text.partition("PrivateTest")[0])}
    assert sum(number(row[6]) for row in rows) == faces
    for label, precision, recall, low, high, f1, support in rows:
        p, r = float(precision), float(recall)
        assert 2 * p * r / (p + r) == pytest.approx(float(f1), abs=0.0015), label
        if low:
            right = round(r * number(support)) / number(support)
            assert wilson_interval(right, number(support)) == pytest.approx((float(low), float(high)), abs=6e-4), label


def test_intervals_follow_from_shares() -> None:
    count = 0
    for model in CLASSIFIERS:
        text = (MODELS / f"{model}.md").read_text(encoding="utf-8")
        shares = [(share, faces, low, high) for share, faces, low, high in SHARE.findall(text)]
        shares += [(share, faces, low, high) for share, low, high, faces in ROW.findall(text)]
        for share, faces, low, high in shares:
            interval = wilson_interval(float(share) / 100, number(faces))
            assert [100 * each for each in interval] == pytest.approx([float(low), float(high)], abs=0.06), share
            count += 1
    assert count == 23, "all of them were found"


def test_every_table_of_figures_names_a_command() -> None:
    for model in FILES:
        for section in re.split(r"^## ", (MODELS / f"{model}.md").read_text(encoding="utf-8"), flags=re.MULTILINE):
            if re.search(r"^\|.*\d %", section, re.MULTILINE):
                assert re.search(r"`(?:fer-edge|python) |command above|first command", section), section[:60]
