"""A few mutants of each reader's inputs, always the same; ``make fuzz`` tries 100,000."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fer_edge.errors import FerEdgeError, hide_passwords, one_line
from fer_edge.expression import Expression
from fer_edge.geometry import Box
from fer_edge.modelcard.card_labels import label_problem
from fer_edge.tagging.input.image_decode import StoredImage
from fer_edge.tagging.output.csv_cells import guard_cell, unguard_cell
from fer_edge.tagging.output.xmp import write_sidecar
from fer_edge.tflite import trial
from fer_edge.utils.toml import parse_toml
from fer_edge_convert.formats import isolated
from tests.fork_server import read_in_process

from .model_readers import read_in_fork
from .reader import Reader, is_one_line
from .readers import readers, try_in_fork
from .run import check

MUTANTS = 30
few = settings(
    max_examples=100, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


# TensorFlow is loaded in the worker that converts models.
READERS = [
    pytest.param(
        reader,
        id=reader.name,
        marks=[pytest.mark.slow, pytest.mark.xdist_group("convert")] if reader.needs_tensorflow else [],
    )
    for reader in readers()
]


@pytest.fixture(autouse=True)
def _no_new_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_try", try_in_fork)
    reader = request.node.callspec.params.get("reader") if hasattr(request.node, "callspec") else None
    # A fork would not have the threads of TensorFlow.
    in_process = reader is not None and reader.needs_tensorflow
    monkeypatch.setattr(isolated, "run_reader", read_in_process if in_process else read_in_fork)


@pytest.mark.parametrize("reader", READERS)
def test_readers_refuse_mutants_in_one_line(reader: Reader, tmp_path: Path) -> None:
    outcomes = {seed: check(reader, seed, tmp_path) for seed in range(max(MUTANTS // reader.cost, 2))}
    assert set(outcomes.values()) <= {"read", "refused"}, outcomes


@pytest.mark.parametrize("reader", READERS)
def test_readers_read_their_seeds(reader: Reader, tmp_path: Path) -> None:
    """A reader that refuses everything would hide every defect behind it."""
    path = tmp_path / reader.name
    refused = 0
    for seed in reader.seeds:
        path.write_bytes(seed)
        try:
            reader.read(path)
        except FerEdgeError:
            refused += 1
    assert refused < len(reader.seeds)


@few
@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    assert is_one_line(f"x{one_line(text)}") or "internal error" in text


@few
@given(st.text(max_size=70), st.integers(1, 8))
def test_sidecars_are_xml(label: str, orientation: int) -> None:
    assume(not label_problem([label, "another"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.xmp")
        image = StoredImage(np.zeros((30, 40), np.uint8), 1, 40, 30, orientation)
        write_sidecar(path, image, [Expression(Box(1, 2, 30, 20), label, 0.5, {label: 0.5})])
        ET.parse(path)  # noqa: S314 - what we wrote


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
