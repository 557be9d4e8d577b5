"""Test the report page of tables of faces."""

from __future__ import annotations

import html
import json
import os
import re
import sqlite3
import zipfile
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import pyarrow as pa
import pytest
from markupsafe import escape
from PIL import Image
from pyarrow import parquet

from fer_edge import demo
from fer_edge.classification.colours import emotion_colour
from fer_edge.classification.labels import FER2013
from fer_edge.errors import InputError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.tagging.input.dates import date_of
from fer_edge.tagging.options import TagOptions
from fer_edge.tagging.output.destinations import Outputs
from fer_edge.tagging.output.report import make_report
from fer_edge.tagging.run import TagSummary, tag

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli

pytestmark = pytest.mark.xdist_group("study")  # one worker, so that the images are tagged once

ODD = "<script>alert('&')</script>.png"


class Study(NamedTuple):
    """Images, a video, and tables of their faces in every format."""

    images: Path
    tables: list[Path]
    summary: TagSummary


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("study")
    images = folder / "images"
    (images / "<").mkdir(parents=True)  # ODD contains a slash, so it needs this folder
    (images / ODD).parent.mkdir(exist_ok=True)
    image = Image.fromarray(demo.frame(60))
    for name, date in (("a.jpg", "2024:05:01 10:00:00"), ("b.jpg", "2024:05:09 11:00:00")):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = date
        image.save(images / name, exif=exif)
    cv2.imwrite(str(images / ODD), demo.frame(60))
    os.utime(images / ODD, (1_715_000_000, 1_715_000_000))
    (images / os.fsdecode(b"bad\xff<b>.png")).write_bytes(b"no image")
    writer = cv2.VideoWriter(str(images / "video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 3, (320, 240))
    for number in range(60, 90):
        writer.write(cv2.cvtColor(cv2.resize(demo.frame(number), (320, 240)), cv2.COLOR_GRAY2BGR))
    writer.release()
    tables = [folder / f"t{suffix}" for suffix in (".csv", ".jsonl", ".parquet", ".sqlite")] + [
        folder / "parts.parquet"
    ]
    for table in tables:
        slash = "/" if table.stem == "parts" else ""
        summary = tag([str(images)], Outputs(f"{table}{slash}"), TagOptions(model=str(DEFAULT_MODEL), every=2.0))
    return Study(images, tables, summary)


def rows(page: str) -> list[list[str]]:
    """Return the cells of all tables of a page, row by row."""
    table_rows = re.findall(r"<tr>(.*?)</tr>", page)
    return [[html.unescape(cell) for cell in re.findall(r"<t[dh]>(.*?)</t[dh]>", row)] for row in table_rows]


def test_every_table_format_gives_the_same_standalone_page(study: Study) -> None:
    pages = [make_report([table]) for table in study.tables]
    assert len({page.replace(str(table), "") for page, table in zip(pages, study.tables, strict=True)}) == 1
    page = pages[0]
    counts = {label: study.summary.emotions.get(label, 0) for label in FER2013}
    (_, model), *totals = rows(page)[:4]
    assert model.startswith("edge (")
    assert totals == [["images and videos", "5"], ["with an error", "1"], ["faces", str(study.summary.faces)]]
    for row, (label, count) in zip(rows(page)[4:], counts.items(), strict=False):
        assert row[0] == label
        assert row[1].startswith(f"{count} ({count / study.summary.faces:.0%})")
    assert f"{study.summary.faces} faces in 5 images and videos. Most often: " in page
    assert page.count("data:image/jpeg;base64,") == sum(min(count, 24) for count in counts.values())
    assert "Of 9 faces, 6 have a date that the camera wrote (EXIF). 3 have only the date of the file" in page
    assert all(emotion_colour(label).css in page for label in counts), "each emotion has its colour"
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert "<script" not in page
    assert "<b>" not in page
    assert str(escape(ODD)) in page
    assert "video.mp4</h3>" in page
    path, error = rows(page)[-1]
    assert path.endswith("bad\\udcff<b>.png")
    assert "not an image" in error


def test_adds_up_several_tables(study: Study) -> None:
    both = make_report([study.tables[0], study.tables[3]], images=False)
    assert [row[1] for row in rows(both)[1:4]] == ["10", "2", str(2 * study.summary.faces)]
    assert "data:image" not in both
    assert "Dates" not in both


def test_only_videos_with_faces_get_a_timeline(study: Study, tmp_path: Path) -> None:
    video_lines = [line for line in study.tables[1].read_text().splitlines() if "video.mp4" in line]
    line_without_face = json.dumps({**json.loads(video_lines[0]), "box": None, "emotion": None})
    lines = [line_without_face.replace("video.mp4", f"empty{number}.mp4") for number in range(25)]
    lines += [line.replace("video.mp4", f"{number}.mp4") for number in range(22) for line in video_lines]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    page = make_report([tmp_path / "t.jsonl"], images=False)
    assert [f"{number}.mp4</h3>" in page for number in range(22)] == [True] * 20 + [False] * 2
    assert "And 2 more." in page


def test_reports_missing_images(study: Study, tmp_path: Path) -> None:
    table = tmp_path / "far.jsonl"
    table.write_text(study.tables[1].read_text().replace(str(study.images), "/nowhere"))
    page = make_report([table])
    assert "data:image" not in page
    assert "cannot be shown, because of the image: not on this machine" in page


def test_shows_faces_of_archives(study: Study, tmp_path: Path) -> None:
    archive, table = tmp_path / "a.zip", tmp_path / "t.csv"
    with zipfile.ZipFile(archive, "w") as file:
        for number, name in enumerate(("a.jpg", "b.jpg")):
            file.write(study.images / name, f"folder/{number}.jpg")
    summary = tag([str(archive)], Outputs(str(table)), TagOptions(model=str(DEFAULT_MODEL)))
    page = make_report([table])
    assert page.count("data:image/jpeg;base64,") == summary.faces == 6
    assert "cannot be shown" not in page
    with zipfile.ZipFile(archive, "w") as file:
        file.write(study.images / "a.jpg", "folder/0.jpg")
    assert "because of the image: not in the archive any more (3)" in make_report([table])


def test_timeline_counts_people_not_frames(study: Study, tmp_path: Path) -> None:
    lines = study.tables[1].read_text().splitlines()
    row = json.loads(next(line for line in lines if "video.mp4" in line))
    moments = [(0.1 * number, track, emotion) for number in range(9) for track, emotion in ((1, "sad"), (2, "happy"))]
    moments += [(0.05, 1, "fear")]
    table = tmp_path / "t.jsonl"
    table.write_text(
        "\n".join(json.dumps({**row, "time": time, "track": each, "emotion": name}) for time, each, name in moments)
    )
    page = make_report([table], images=False)
    assert "0:00:00, sad: 1</title>" in page
    assert "0:00:00, happy: 1</title>" in page
    assert "0:00:00, fear" not in page
    assert "Frames of all faces: sad 47%, happy 47%, fear 5%." in page


def test_date_comes_from_exif_or_else_from_the_file(study: Study) -> None:
    dates = [date_of(study.images / name) for name in ("a.jpg", ODD, "none.jpg")]
    assert [str(date.date.date()) if date else None for date in dates[::2]] == ["2024-05-01", None]
    assert [date.from_camera for date in dates if date] == [True, False]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", "name,age\nx,3\n", "has no column 'path'"),
        ("t.csv", "", "has no column 'path'"),
        ("t.jsonl", json.dumps({"path": "x"}), "has no column 'box'"),
        ("t.jsonl", "{", "after 0 rows"),
        (
            "t.csv",
            "path,time,x,y,width,height,emotion,score,error,model,model_sha256,track,reliable\nx,inf,,,,,,,,m,0,,\n",
            "after 1 rows (inf where a number should be)",
        ),
        ("t.sqlite", "no database, and long enough", "after 0 rows"),
        ("t.parquet", "no parquet, and long enough", "after 0 rows"),
        ("t.xlsx", "", "those end in .jsonl, .csv, .parquet, .sqlite"),
        ("none.csv", None, "no such file"),
        (".", None, "a folder without parts of a table"),
    ],
)
def test_rejects_wrong_tables_in_one_line(tmp_path: Path, name: str, content: str | None, expected: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as error:
        make_report([tmp_path / name])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_table_without_rows_gives_a_page_without_faces(study: Study, cli: Cli, tmp_path: Path) -> None:
    with study.tables[0].open(errors="surrogateescape") as file:
        (tmp_path / "t.csv").write_text(file.readline())
    cli("report", tmp_path / "t.csv", "--out", tmp_path / "page.html")
    assert "No faces." in (tmp_path / "page.html").read_text()
    result = cli("report", tmp_path / "t.csv", "--out", tmp_path / "t.csv", status=2)
    assert "end it in .html" in result.stderr


def test_refuses_a_database_that_calculates(tmp_path: Path) -> None:
    columns = "time, x, y, width, height, emotion, score, error, model, model_sha256, track, reliable"
    for path, statement in (
        (
            "view",
            f"CREATE VIEW faces(path, {columns}) AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)",  # noqa: S608 - constants
        ),
        ("blob", f"CREATE TABLE faces (path AS (zeroblob(900000000)), {columns})"),
    ):
        table = tmp_path / f"{path}.sqlite"
        with closing(sqlite3.connect(table)) as database:
            database.execute(f"{statement} SELECT {', '.join(['i'] * 13)} FROM n" if path == "view" else statement)  # noqa: S608 - likewise
            if path == "blob":
                database.execute("INSERT INTO faces (time) VALUES (1)")
            database.commit()
        with pytest.raises(InputError, match=rf"{path}\.sqlite: (not what|has no column)"):
            make_report([table])


def test_refuses_a_parquet_page_that_unpacks_to_gigabytes(cli: Cli, tmp_path: Path) -> None:
    """Zeros are packed to a thousandth, and a page is unpacked as a whole."""
    path = tmp_path / "t.parquet"
    rows = 500
    columns = dict.fromkeys(("time", "x", "y", "width", "height", "score", "track", "reliable"), pa.array([0.0] * rows))
    texts = dict.fromkeys(("emotion", "error", "model", "model_sha256", "path_bytes"), pa.array([""] * rows))
    table = pa.table({"path": pa.array(["x" * (1 << 20)] * rows), **columns, **texts})
    parquet.write_table(table, path, compression="zstd", use_dictionary=False, data_page_size=1 << 30)
    assert path.stat().st_size < 1 << 20
    # In a process of its own, because one that has freed as much memory takes it again.
    refused = cli("report", path, "--out", tmp_path / "page.html", status=2)
    assert "refused, what follows 0 rows takes too much memory" in refused.stderr


def test_refuses_more_emotions_than_models_have(tmp_path: Path) -> None:
    """A page with a bar of each would take gigabytes."""
    row: dict[str, Any] = {
        "path": "a.jpg",
        "time": None,
        "box": [1, 2, 3, 4],
        "emotion": "happy",
        "score": 0.5,
        "error": None,
    }
    row |= {"model": "edge", "model_sha256": "0" * 64, "track": None, "reliable": True}
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({**row, "scores": {str(number): 0.0 for number in range(1001)}}) + "\n")
    with pytest.raises(InputError, match="1001 emotions, where a model has 1000 at most"):
        make_report([path], images=False)
    for key, count in (("emotion", 1002), ("model", 102)):
        rows = ({**row, "scores": {}, key: f"x{number}", "path": str(number)} for number in range(count))
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
        with pytest.raises(InputError, match="more than 1000 emotions or 100 models up to this row"):
            make_report([path], images=False)
