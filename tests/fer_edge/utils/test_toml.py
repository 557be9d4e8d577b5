"""Reading TOML: what is wrong is said with its line."""

from __future__ import annotations

import pytest

from fer_edge.errors import InputError
from fer_edge.utils.toml import Section, find_problems, parse_toml


@pytest.mark.parametrize(
    ("text", "line"), [("a = 1\nb =", 2), ("a = 1\nb = = 2\nc = 3\n", 2), ("[table\n", 1), ("a = 1\na = 2\n", 2)]
)
def test_names_the_line_of_an_error(text: str, line: int) -> None:
    with pytest.raises(InputError, match=rf"^x\.toml: not valid TOML, line {line}: .*; correct it there$") as raised:
        parse_toml(text, "x.toml")
    assert "document" not in str(raised.value)


def test_ignores_a_byte_order_mark() -> None:
    assert parse_toml("\ufeffa = 1", "x.toml") == {"a": 1}


@pytest.mark.parametrize("text", [".".join("a" * 2000) + " = 1", f"[{'.'.join('a' * 2000)}]\nb = 1"])
def test_refuses_tables_that_dots_nest_too_deeply(text: str) -> None:
    """The parser takes them, but whatever walks through them would not."""
    with pytest.raises(InputError, match="x: not valid, a table in it is nested too deeply"):
        parse_toml(text, "x")
    assert parse_toml("a.b.c = [[1]]", "x") == {"a": {"b": {"c": [[1]]}}}


def test_lists_a_hundred_problems_at_most() -> None:
    """Each takes as long as reading the document: twenty thousand would take minutes."""

    class Empty(Section, frozen=True):
        """A table without keys."""

    assert len(find_problems({f"k{number}": 1 for number in range(20_000)}, Empty)) == 100
