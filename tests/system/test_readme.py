"""Test that the README agrees with the commands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_event_in_readme_is_the_third_of_the_demo(cli: Cli) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    lines = cli("run", "--source", "demo", "--full-speed", "--node", "demo").stdout.splitlines()
    documented, printed = json.loads(block), json.loads([line for line in lines if "/event" in line][2])
    # Boxes, scores and times differ slightly between releases of the runtimes.
    for key in ("box", "score", "scores", "time", "duration_s"):
        documented["payload"].pop(key)
        printed["payload"].pop(key)
    assert documented == printed


def test_table_lists_exactly_the_commands(cli: Cli) -> None:
    commands = re.findall(r"^  ([\w-]+) ", cli("--help").stdout.partition("Commands:")[2], re.MULTILINE)
    assert re.findall(r"^\| `fer-edge ([\w-]+)", README, re.MULTILINE) == commands


def test_links_lead_to_files() -> None:
    for name in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / name).exists(), name
