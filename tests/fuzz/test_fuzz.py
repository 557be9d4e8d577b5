"""A few mutants of each reader's inputs, always the same; ``make fuzz`` tries 100,000."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_edge.errors import FerEdgeError, hide_passwords, one_line
from fer_edge.modelcard.card_labels import label_problem
from fer_edge.tagging.output.csv_cells import guard_cell, unguard_cell
from fer_edge.tflite import trial
from fer_edge.utils.toml import parse_toml

from .readers import Reader, is_one_line, readers, try_in_fork
from .run import check

if TYPE_CHECKING:
    from pathlib import Path

MUTANTS = 30
few = settings(
    max_examples=100, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("reader", [pytest.param(reader, id=reader.name) for reader in readers()])
def test_readers_refuse_mutants_in_one_line(reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_try", try_in_fork)
    outcomes = {seed: check(reader, seed, tmp_path) for seed in range(max(MUTANTS // reader.cost, 2))}
    assert set(outcomes.values()) <= {"read", "refused"}, outcomes


@pytest.mark.parametrize("reader", [pytest.param(reader, id=reader.name) for reader in readers()])
def test_readers_read_their_seeds(reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that refuses everything would hide every defect behind it."""
    monkeypatch.setattr(trial, "_try", try_in_fork)
    path = tmp_path / reader.name
    refused = 0
    for seed in reader.seeds:
        path.write_bytes(seed)
        try:
            reader.read(path)
        except FerEdgeError:
            refused += 1
    assert refused < len(reader.seeds) or reader.name == "bench.json"


@few
@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    assert is_one_line(f"x{one_line(text)}") or "internal error" in text


@few
@given(st.text())
def test_cells_are_no_formulas_and_come_back(text: str) -> None:
    cell = str(guard_cell(text))
    assert unguard_cell(cell) == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


@few
@given(st.lists(st.text(max_size=70), max_size=5))
def test_labels_that_pass_can_be_told_apart(labels: list[str]) -> None:
    problem = label_problem(labels)
    assert one_line(problem) == problem or not problem.isascii()
    if not problem:
        assert len({label.strip().casefold() for label in labels}) == len(labels) >= 2


@few
@given(st.text(string.printable + "é\0\ud800", max_size=300) | st.text("[]{}=.\"'a1\n", max_size=300))
def test_toml_is_read_or_refused(text: str) -> None:
    try:
        parse_toml(text, "x")
    except FerEdgeError as error:
        assert is_one_line(str(error))  # noqa: PT017 - many texts are valid


@few
@given(
    st.text(string.ascii_letters + string.digits, min_size=1),
    st.sampled_from(["rtsp://me:{}@h/a", "http://h/a?token={}"]),
)
def test_passwords_never_show(password: str, form: str) -> None:
    assert hide_passwords(form.format(f"#{password}#")).count("#") == 0
