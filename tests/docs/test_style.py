"""The checker of English finds what it should in pages and docstrings, and nothing in code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKER = Path(__file__).parents[2] / "docs" / "check_style.py"
pytest.importorskip("proselint")


def check(folder: Path, text: str, name: str = "page.md") -> list[str]:
    (folder / name).write_text(text, encoding="utf-8")
    command = [sys.executable, str(CHECKER), name]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == bool(result.stdout), result.stderr
    return result.stdout.splitlines()


def test_findings_name_the_line(tmp_path: Path) -> None:
    long = " ".join(["word"] * 41)
    found = check(tmp_path, f"A page.\n\nOne.  Two.\n\nWe leverage it.\n\n{long}.\n\nIt is very unique.\n")
    lines = [int(line.split(":")[1]) for line in found]
    assert lines[:3] == [3, 5, 7]
    assert set(lines[3:]) == {9}


def test_code_and_tables_are_left_out(tmp_path: Path) -> None:
    code = "`leverage`\n\n```sh\nleverage  in order to.  x\n```\n\n| leverage.  It | x |\n|---|---|\n"
    assert check(tmp_path, f"See [this](leverage.md).\n\n{code}\nEnd.\n") == []


def test_docstrings_are_read_but_no_other_code(tmp_path: Path) -> None:
    long = " ".join(["word"] * 41)
    code = f'''"""A module.  It does nothing."""

TEXT = "Two spaces.  Leverage."


def work(first: int, second: int) -> None:
    """Work in order to rest.

    Args:
        first: The wrong one.
        second: a long one: {long}.
        third: Keras's name of it.

    Raises:
        ValueError: never.
    """
'''
    found = check(tmp_path, code, "module.py")
    assert [int(line.split(":")[1]) for line in found] == [1, 7, 10, 11]
