from __future__ import annotations

import pytest

from fer_edge.errors import InputError
from fer_edge.utils.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("500ms", 0.5),
        ("2m", 120),
        ("1h", 3600),
        ("1.5h", 5400),
        ("0.5", 0.5),
        ("90", 90),
        (" 10 s ", 10),
    ],
)
def test_converts_to_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text, "--every") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "s", "-1s", "1w", "1,5s", "1s2m", "nan", "inf", "1e3", "1" * 99])
def test_rejects_invalid_text(text: str) -> None:
    with pytest.raises(InputError, match=r"--every .*: not a duration; write a number and a unit"):
        parse_duration(text, "--every")


@pytest.mark.parametrize("text", ["0", "0s", "0.0h"])
def test_rejects_zero(text: str) -> None:
    with pytest.raises(InputError, match=rf"^--every {text}: give a duration above 0, such as 500ms"):
        parse_duration(text, "--every")


def test_rejects_durations_outside_the_limits() -> None:
    assert parse_duration("1s", "--sustained", min_s=1, max_s=7200) == 1
    assert parse_duration("2h", "--sustained", min_s=1, max_s=7200) == 7200
    for text in ("999ms", "121m"):
        with pytest.raises(InputError, match=rf"^--sustained {text}: give a duration from 1s to 2h$"):
            parse_duration(text, "--sustained", min_s=1, max_s=7200)
    with pytest.raises(InputError, match="give a duration of at least 500ms"):
        parse_duration("1ms", "--every", min_s=0.5)
