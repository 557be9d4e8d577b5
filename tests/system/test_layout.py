"""Test rules of this repository that no linter checks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_make_lists_every_target() -> None:
    output = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = [line for line in makefile.splitlines() if line.startswith(".PHONY:")]
    for target in phony.split()[1:]:
        assert f"{target} " in output


def test_contributing_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    names = re.findall(r"`((?:fer_edge|device|train|convert|tests)/[\w/.-]+)`", text)
    assert len(names) > 20
    for name in names:
        assert (ROOT / name).exists(), name
