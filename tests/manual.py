"""What a reader types from a page of the manual."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[1]


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page that are in a language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(shell_blocks: Iterable[str]) -> Iterator[str]:
    """Yield the commands of shell blocks, each on one line, without comments."""
    for block in shell_blocks:
        for line in block.replace("\\\n", " ").splitlines():
            if command := re.sub(r"(^|\s+)#.*", "", line):
                yield command


def words_of(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command of a page, up to the first pipe."""
    for command in commands(blocks(page, "sh")):
        yield shlex.split(command.partition(" | ")[0])


def arguments_of(words: list[str]) -> list[str] | None:
    """Return what follows `fer-edge` in a command; None if that is another program."""
    words = words[1:] if words[0] == "sudo" else words
    return words[1:] if Path(words[0]).name == "fer-edge" else None
