from __future__ import annotations

import csv
import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "train" / "experiments"
FILES = sorted(FOLDER.glob("[0-9]*.md"))
KINDS = {"classifier", "detector", "refiner", "conversion", "speed", "data", "evaluation"}
SECTIONS = ["Question", "Expected", "Setup", "Result", "Meaning"]


def rows() -> list[dict[str, str]]:
    with (FOLDER / "experiments.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_row_has_its_file_and_each_file_its_row() -> None:
    assert [row["file"] for row in rows()] == [file.name for file in FILES]


def test_experiments_are_numbered_without_gaps() -> None:
    assert [row["number"] for row in rows()] == [f"{number:03d}" for number in range(1, len(FILES) + 1)]


def test_rows_equal_the_statements_in_the_files() -> None:
    for row in rows():
        heading = (FOLDER / row["file"]).read_text(encoding="utf-8").split("\n", 1)[0]
        assert heading.replace("`", "") == f"# {row['number']}: {row['title']}"
        assert row["file"].startswith(f"{row['number']}-")
        assert row["kind"] in KINDS
        for column in ("dev_log_loss", "dev_accuracy", "faces"):
            assert re.fullmatch(r"(\d+(\.\d+)?)?", row[column]), (row["file"], column)


def test_each_file_has_all_sections_in_order() -> None:
    for file in FILES:
        sections = re.findall(r"^\*\*(\w+)\*\*", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert sections == SECTIONS, file.name


def test_links_lead_to_files() -> None:
    for file in [*FILES, FOLDER / "README.md", FOLDER.parent / "README.md"]:
        for target in re.findall(r"\]\(([^):#]+)\)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), f"{file.name}: {target}"
    for file in FILES:
        for number, target in re.findall(r"\[(\d{3})\]\(([^)]+)\)", file.read_text(encoding="utf-8")):
            assert target.startswith(f"{number}-"), f"{file.name}: {target}"
