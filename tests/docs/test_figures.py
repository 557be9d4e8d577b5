"""Every figure of the manual stands in a section that names the command which prints it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "how-it-works").glob("*.md")),
    *sorted((ROOT / "docs/models").glob("*.md")),
]
# What was measured, not what was chosen: shares, sizes of files and of memory, and times of processors.
FIGURE = re.compile(r"\b\d[\d,.]*\s?(?:%|MB\b|kB\b|ms\b)")
COMMAND = re.compile(r"`[^`]*(?:fer-edge |benchmarks[/.]|make |tests[/.])[^`]*`|^```sh", re.MULTILINE)
SOURCE = re.compile(
    r"\]\(https?://|(?:first|second|same) command|experiment \d|\(0\d\d\)|\| experiment \||train/experiments/"
)
# Bounds and settings, which are no measurements, and what others have measured.
OTHERWISE = {"docs/how-it-works/published-figures.md", "docs/how-it-works/delivery.md"}


def sections(page: Path) -> list[str]:
    return re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_figures_have_a_command(page: Path) -> None:
    if str(page.relative_to(ROOT)) in OTHERWISE:
        return
    for section in sections(page):
        found = FIGURE.search(section)
        assert not found or COMMAND.search(section) or SOURCE.search(section), f"{section.splitlines()[0]}: {found[0]}"
