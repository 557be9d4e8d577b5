"""Check the English of the manual and of docstrings. ``make check`` runs it.

    python docs/check_style.py README.md docs fer_edge

Our own rules: a sentence has at most 40 words; one space follows a full stop; some words have a plainer one; what an
argument or attribute is begins with a small letter, except for a name. Pages are also read by proselint. Code, tables
and addresses are left out.
"""

# ruff: noqa: T201 - a script that prints

from __future__ import annotations

import ast
import re
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proselint.checks import __register__ as proselint_checks
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_WORDS: Final = 40
PLAINER: Final = {
    "utilize": "use",
    "leverage": "use",
    "facilitate": "help",
    "in order to": "to",
    "prior to": "before",
    "whilst": "while",
    "as well as": "and",
    "simply": "nothing: leave it out",
    "easily": "nothing: leave it out",
}
OFF: Final = (
    "lexical_illusions",
    "typography",
    "misc.phrasal_adjectives",
    "spelling.consistency",
    "dates_times.dates.dash_and_from",
)
DOCUMENTED: Final = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
ENTRY: Final = re.compile(r"^(?= *(?:[*\w.]+(?:, [*\w.]+)*:\s|- ))", re.MULTILINE)
NAMES: Final = {"Keras", "Python"}
CAPITAL: Final = re.compile(r"[*a-z_][a-z_0-9]*: ([A-Z][a-z]+) (?=[a-z])")
# What proselint must not read, replaced by as many characters, so that its positions stay right.
CODE: Final = re.compile(r"^```.*?^```|`[^`\n]*`|\]\([^)]*\)|^\|[^\n]*|https?://\S+", re.DOTALL | re.MULTILINE)


def hide_code(text: str) -> str:
    """Replace code, tables and addresses by as many letters or line breaks."""
    return CODE.sub(lambda found: re.sub(r"[^\n]", "c", found[0]), text)


def page_findings(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and description of everything that is wrong in a page of the manual."""
    prose = hide_code(text)
    for found in LintFile("text", prose).lint():
        check = found.check_result.check_path
        if not check.startswith(OFF):
            yield line_at(prose, found.check_result.span[0]), f"{found.check_result.message} ({check})"
    yield from prose_findings(prose)


def code_findings(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and description of everything that is wrong in the docstrings of a module."""
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, DOCUMENTED) or ast.get_docstring(node) is None:
            continue
        docstring = node.body[0]
        first = docstring.lineno
        # Each description of an argument is a paragraph of its own.
        for paragraph in ENTRY.split(hide_code("".join(lines[first - 1 : docstring.end_lineno]))):
            prose = re.sub(r"^ +", "", paragraph, flags=re.MULTILINE)
            yield from ((first - 1 + line, description) for line, description in prose_findings(prose))
            if (capital := CAPITAL.match(prose)) and capital[1] not in NAMES:
                yield first, f"{capital[1]}: begin with a small letter"
            first += paragraph.count("\n")


def line_at(text: str, position: int) -> int:
    """Return the number of the line of a position, from 1."""
    return text.count("\n", 0, position) + 1


def prose_findings(prose: str) -> Iterator[tuple[int, str]]:
    """Yield line and description of what our own rules find in a text without code."""
    for match in re.finditer(r"[.!?]  +(?=\S)", prose):
        yield line_at(prose, match.start()), "two spaces after a sentence"
    for word, plainer in PLAINER.items():
        for match in re.finditer(rf"\b{word}\b", prose, re.IGNORECASE):
            yield line_at(prose, match.start()), f"{match[0]}: write {plainer}"
    for paragraph in re.finditer(r"(?:^(?![#|>\s]|cc).+\n?)+", prose, re.MULTILINE):
        for sentence in re.finditer(r"[^.!?:;]+(?:[.!?:;](?!\s)[^.!?:;]*)*[.!?:;]?", paragraph[0]):
            if (count := len(sentence[0].split())) > MAX_WORDS:
                yield (
                    line_at(prose, paragraph.start() + sentence.start()),
                    f"a sentence of {count} words: {sentence[0].strip()[:60]} ...",
                )


def main(names: list[str]) -> int:
    """Print what is wrong in pages and modules, and in those of folders."""
    CheckRegistry().register_many(proselint_checks)
    paths = [Path(name) for name in names]
    found = chain.from_iterable(sorted(path.rglob("*.[mp][dy]")) if path.is_dir() else [path] for path in paths)
    wrong = 0
    for page in found:
        text = page.read_text(encoding="utf-8")
        findings = code_findings if page.suffix == ".py" else page_findings
        for line, description in sorted(findings(text)):
            print(f"{page}:{line}: {description}")
            wrong += 1
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
