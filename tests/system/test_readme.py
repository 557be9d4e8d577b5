"""What the README shows is what the commands print."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_event_shown_is_the_third_of_the_demo(cli: Cli) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    lines = cli("run", "--source", "demo", "--full-speed", "--node", "demo").stdout.splitlines()
    shown, printed = json.loads(block), json.loads([line for line in lines if "/event" in line][2])
    # The detector's boxes differ a little between releases of runtimes, and scores and times with them.
    for key in ("box", "score", "scores", "time", "duration_s"):
        shown["payload"].pop(key)
        printed["payload"].pop(key)
    assert shown == printed


def test_every_command_is_in_the_table_and_nothing_else(cli: Cli) -> None:
    listed = re.findall(r"^  ([\w-]+) ", cli("--help").stdout.partition("Commands:")[2], re.MULTILINE)
    assert re.findall(r"^\| `fer-edge ([\w-]+)", README, re.MULTILINE) == listed


def test_every_file_that_is_linked_or_named_is_there() -> None:
    for name in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / name).exists(), name
