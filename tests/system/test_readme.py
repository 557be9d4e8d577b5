"""Test that the README is short, and agrees with the commands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
START = (ROOT / "docs/start/maker.md").read_text()


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150
    doors = re.findall(r"\*\*You have .*?```sh\n(.*?)```", README, re.DOTALL)
    assert len(doors) == 3
    assert all(len(door.splitlines()) <= 8 for door in doors)


def test_event_on_the_first_page_is_the_third_of_the_demo(cli: Cli) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", START, re.DOTALL)
    lines = cli("run", "--source", "demo", "--full-speed", "--node", "demo").stdout.splitlines()
    documented, printed = json.loads(block), json.loads([line for line in lines if "/event" in line][2])
    # Boxes, scores and times differ slightly between releases of the runtimes, and so does what follows from them.
    assert documented["payload"]["quality"].keys() == printed["payload"]["quality"].keys()
    for key in ("box", "score", "scores", "time", "duration_s", "quality"):
        documented["payload"].pop(key)
        printed["payload"].pop(key)
    assert documented == printed


def test_links_lead_to_files() -> None:
    for name in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / name).exists(), name
