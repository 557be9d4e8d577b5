"""Test `--labels` in the forms in which people keep labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fer_edge.classification.label_list import parse_labels
from fer_edge.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

FORMS = (
    "angry,happy,sad",
    "angry, happy, sad,",
    "['angry', 'happy', 'sad']",
    "[angry,happy,sad]",
    "('angry', 'happy', 'sad')",
    "{0: 'angry', 1: 'happy', 2: 'sad'}",
    "{0:angry,1:happy,2:sad}",
    '{"happy": 1, "angry": 0, "sad": 2}',
    '{"0": "angry", "1": "happy", "2": "sad"}',
    "0:angry,1:happy,2:sad",
    "sad-3,angry-1,happy-2",
)
FILES = (
    "angry\nhappy\nsad\n",
    "\ufeffangry\r\n\r\nhappy\r\nsad",
    "0 angry\n1 happy\n2 sad\n",
    "1. angry\n2. happy\n3. sad\n",
    "2,sad\n0,angry\n1,happy\n",
    "angry 0\nhappy 1\nsad 2\n",
)


@pytest.mark.parametrize("text", FORMS)
def test_reads_labels_as_argument_and_in_file(text: str, tmp_path: Path) -> None:
    assert parse_labels(text) == ("angry", "happy", "sad")
    (tmp_path / "labels").write_text(f"{text}\n")
    assert parse_labels(str(tmp_path / "labels")) == ("angry", "happy", "sad")


@pytest.mark.parametrize("text", FILES)
def test_reads_label_files(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text(text, newline="")
    assert parse_labels(str(tmp_path / "labels.txt")) == ("angry", "happy", "sad")


def test_keeps_numbers_that_give_no_order(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("level 1\nlevel 3\n")
    assert parse_labels(str(tmp_path / "labels.txt")) == ("level 1", "level 3")


@pytest.mark.parametrize(
    "text", ["{'angry', 'happy'}", "{1: 'a', 3: 'b'}", "{0: 'a', 1: ['b']}", "[1, 2]", "{" * 9000, "[" * 20_000, "[]"]
)
def test_rejects_labels_without_order(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(InputError, match=r"labels\.json.*; give angry|labels\.json: give at least two"):
        parse_labels(str(tmp_path / "labels.json"))
