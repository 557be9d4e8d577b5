"""Test the translation of msgspec's messages into plain words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest

from fer_edge.errors import InputError
from fer_edge.utils.toml import find_problems, override, to_struct
from fer_edge.utils.validation import explain


class Small(msgspec.Struct, frozen=True, tag="small", tag_field="kind", forbid_unknown_fields=True):
    width: int = 3


class Large(msgspec.Struct, frozen=True, tag="large", tag_field="kind", forbid_unknown_fields=True):
    depth: int = 3


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    count: int = 1
    rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    batch_size: Annotated[int, msgspec.Meta(multiple_of=4)] = 4
    level: Literal["low", "high"] | None = "low"
    limits: dict[str, float] = {}
    steps: Annotated[tuple[int, ...], msgspec.Meta(min_length=2)] = (1, 2)
    size: tuple[int, int] = (1, 1)
    sizes: tuple[tuple[float, int], ...] = ()
    name: Annotated[str, msgspec.Meta(pattern="^[a-z]*$", max_length=5)] = "a"
    code: Annotated[str, msgspec.Meta(pattern="^[0-9]*$", extra={"form": "consist of digits"})] = ""
    large: Annotated[float, msgspec.Meta(ge=1e-7, le=31_536_000)] = 1.0
    pair: tuple[int, float] | None = None


class Whole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    settings: Settings = Settings()
    network: Small | Large = Small()

    def __post_init__(self) -> None:
        if self.settings.count == 99:
            message = "settings.count must not be 99"
            raise ValueError(message)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"settings": {"count": "x"}}, "settings.count must be a whole number, not text"),
        ({"settings": {"count": 1.5}}, "settings.count must be a whole number, without a decimal point"),
        ({"settings": {"count": True}}, "settings.count must be a whole number, not true or false"),
        ({"settings": {"rate": 0}}, "settings.rate must be above 0"),
        ({"settings": {"rate": 1.5}}, "settings.rate must be at most 1"),
        ({"settings": {"batch_size": 3}}, "settings.batch_size must be a multiple of 4"),
        ({"settings": {"level": "loud"}}, "settings.level cannot be 'loud'; choose low or high"),
        ({"settings": {"level": 3}}, "settings.level must be text, not a whole number"),
        ({"settings": {"limits": {"a": "x"}}}, "each value of settings.limits must be a number, not text"),
        ({"settings": {"limits": {1: 2.0}}}, "a key of settings.limits must be text, not a whole number"),
        ({"settings": {"steps": [1]}}, "settings.steps must have at least 2 entries"),
        ({"settings": {"size": [1]}}, "settings.size must have 2 entries, not 1"),
        ({"settings": {"sizes": [[1.5, 2], ["x", 2]]}}, "settings.sizes[1][0] must be a number, not text"),
        ({"settings": {"name": "abcdef"}}, "settings.name must have at most 5 characters"),
        ({"settings": {"name": "A"}}, "settings.name must match the pattern '^[a-z]*$'"),
        ({"settings": {"code": "A"}}, "settings.code must consist of digits"),
        ({"settings": {"large": 1e9}}, "settings.large must be at most 31,536,000"),
        ({"settings": {"large": 0}}, "settings.large must be at least 0.0000001"),
        ({"settings": {"pair": 3}}, "settings.pair must be a list, not a whole number"),
        ({"settings": 3}, "settings must be a table, not a whole number"),
        ({"settings": {"count": 99}}, "settings.count must not be 99"),
        ({"network": {"kind": "huge"}}, "network.kind cannot be 'huge'; choose small or large"),
        ({"network": {"width": 1}}, "network.kind is missing"),
        ({"network": {"kind": "small", "depht": 1}}, "there is no key network.depht; did you mean network.depth?"),
        ({"batch_size": 8}, "there is no key batch_size; did you mean settings.batch_size?"),
        ({"setings": {}}, "there is no key setings; did you mean settings?"),
        ({"settings": {"xyz": 1}}, "there is no key settings.xyz"),
    ],
)
def test_explains_what_is_wrong_with_tables(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        to_struct({"title": "a", **tables}, Whole, "file.toml")
    assert str(caught.value) == f"file.toml: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{}", "title is missing"),
        (b"[1]", "it must be a table, not a list"),
        (b'{"title":x}', "it is not valid JSON from byte 9 on"),
        (b'{"title":', "it ends too early"),
        (b'{"title":"\xff"}', "it is not text in UTF-8"),
    ],
)
def test_explains_what_is_wrong_with_json(text: bytes, message: str) -> None:
    try:
        msgspec.json.decode(text, type=Whole)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        assert explain(error, Whole).message == message  # noqa: PT017 - of two kinds
    else:
        pytest.fail("it is valid")


def test_names_the_setting_that_the_user_gave() -> None:
    def settings(**values: object) -> dict[str, tuple[str, object]]:
        return {f"--{name}": (f"settings.{name}", value) for name, value in values.items()}

    with pytest.raises(InputError, match=r"^--rate: settings.rate must be above 0$"):
        override({"title": "a"}, settings(count=2, rate=0), Whole)
    with pytest.raises(InputError, match=r"^--count, --rate: settings.count must not be 99$"):
        override({"title": "a"}, settings(count=99, rate=1), Whole)
    with pytest.raises(InputError, match=r"^--x: title is a value, not a table$"):
        override({"title": "a"}, {"--x": ("title.x", 1)}, Whole)
    tables: dict[str, Any] = {"title": 3}
    override(tables, settings(count=2), Whole)
    assert tables == {"title": 3, "settings": {"count": 2}}, "what was wrong before is the file's mistake"


def test_finds_every_problem_of_a_table() -> None:
    table = {"settings": {"count": "x", "rate": 5, "depht": 1, "name": "a"}, "network": {"kind": "huge"}, "x.y": 1}
    before = str(table)
    assert [problem.message.partition(";")[0] for problem in find_problems(table, Whole)] == [
        "settings.count must be a whole number, not text",
        "settings.rate must be at most 1",
        "there is no key settings.depht",
        "network.kind cannot be 'huge'",
        "there is no key x.y",
        "title is missing",
    ]
    assert str(table) == before
    assert not find_problems({"title": "a"}, Whole)
