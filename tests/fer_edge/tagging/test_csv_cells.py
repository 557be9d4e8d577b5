from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest

from fer_edge.expression import Expression
from fer_edge.geometry import Box
from fer_edge.tagging.output.columns import FaceRow, Provenance
from fer_edge.tagging.output.csv_cells import guard_cell, unguard_cell
from fer_edge.tagging.output.error_list import open_error_list
from fer_edge.tagging.output.table_reader import read_table
from fer_edge.tagging.output.table_writer import open_table
from fer_edge.tagging.records import FaceRecord

if TYPE_CHECKING:
    from pathlib import Path

FORMULAS = ("=1+1", "+cmd", "-2.png", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''@x")


@pytest.mark.parametrize("text", [*FORMULAS, "a.png", "'a'", "", "a=b", "'"])
def test_gives_every_text_back(text: str) -> None:
    assert unguard_cell(str(guard_cell(text))) == text


@pytest.mark.parametrize("text", FORMULAS)
def test_guards_formulas(text: str) -> None:
    assert str(guard_cell(text)) == f"'{text}"


def test_leaves_numbers_and_other_texts() -> None:
    assert [guard_cell(value) for value in (-1.5, 3, None, "a-b", "x=1")] == [-1.5, 3, None, "a-b", "x=1"]


def test_tables_hold_no_formulas_and_are_read_back(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    face = Expression(Box(-1.5, 2, 30, 40), "happy", 0.75, {"happy": 0.75, "sad": 0.25})
    provenance = Provenance(labels=("happy", "sad"), model="=model", model_sha256="0" * 64, version="1")
    with open_table(table, provenance) as writer:
        writer.append(FaceRow(path="=HYPERLINK(1).png", record=FaceRecord(face, 0.5)))
        writer.append(FaceRow(path="-a.png", record=FaceRecord(error="@damaged")))
    with table.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["path"], first["x"], first["model"]) == ("'=HYPERLINK(1).png", "-1.5", "'=model")
    assert (second["path"], second["error"]) == ("'-a.png", "'@damaged")
    rows = list(read_table(table))
    assert [row.path for row in rows] == ["=HYPERLINK(1).png", "-a.png"]
    assert rows[0].box == (-1.5, 2, 30, 40)
    assert rows[1].error == "@damaged"


def test_lists_of_errors_hold_no_formulas(tmp_path: Path) -> None:
    with open_error_list(tmp_path / "e.csv") as add:
        add("=a.png", "=a.png: damaged")
    assert (tmp_path / "e.csv").read_text() == "path,error\n'=a.png,'=a.png: damaged\n"
