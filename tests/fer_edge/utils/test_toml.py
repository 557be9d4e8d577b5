"""Reading TOML: what is wrong is said with its line."""

from __future__ import annotations

import pytest

from fer_edge.errors import InputError
from fer_edge.utils.toml import parse_toml


@pytest.mark.parametrize(
    ("text", "line"), [("a = 1\nb =", 2), ("a = 1\nb = = 2\nc = 3\n", 2), ("[table\n", 1), ("a = 1\na = 2\n", 2)]
)
def test_names_the_line_of_an_error(text: str, line: int) -> None:
    with pytest.raises(InputError, match=rf"^x\.toml: not valid TOML, line {line}: .*; correct it there$") as raised:
        parse_toml(text, "x.toml")
    assert "document" not in str(raised.value)


def test_ignores_a_byte_order_mark() -> None:
    assert parse_toml("\ufeffa = 1", "x.toml") == {"a": 1}
