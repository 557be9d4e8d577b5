"""Tagging in bulk: whatever is given, however it ends, the table is whole and right."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image

from fer_edge import demo
from fer_edge.classify import DEFAULT_MODEL, find_model
from fer_edge.errors import InputError
from fer_edge.tag.look import Job, look_at
from fer_edge.tag.run import Outputs, Summary, tag
from fer_edge.tag.sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from tests.conftest import Cli

JOB = Job(model=str(DEFAULT_MODEL))
KINDS = (".csv", ".jsonl", ".parquet", ".sqlite")


class Entry(NamedTuple):
    """A row of a table of any kind."""

    path: bytes
    emotion: str | None
    score: float | None
    error: str | None
    time: float | None
    track: int | None


def table(path: Path) -> list[Entry]:
    """The rows of a table of any kind."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [entry(row, os.fsencode(row["path"])) for row in rows]
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return [entry(row, os.fsencode(row["path"])) for row in csv.DictReader(file)]
    if path.suffix == ".sqlite":
        database = sqlite3.connect(path)
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute("SELECT * FROM faces")]
        database.close()
        return [entry(row, row["path"] if isinstance(row["path"], bytes) else row["path"].encode()) for row in rows]
    parquet = pytest.importorskip("pyarrow.parquet")
    return [entry(row, row["path_bytes"] or row["path"].encode()) for row in parquet.read_table(path).to_pylist()]


def entry(row: dict[str, str | float | None], path: bytes) -> Entry:
    def number(name: str) -> float | None:
        return float(value) if (value := row[name]) not in {None, ""} else None  # type: ignore[arg-type]

    track = number("track")
    return Entry(
        path,
        str(row["emotion"]) if row["emotion"] else None,
        number("score"),
        str(row["error"]) if row["error"] else None,
        number("time"),
        int(track) if track else None,
    )


def run(out: Path, *inputs: Path | str, job: Job = JOB, overwrite: bool = False, processes: int = 1) -> Summary:
    return tag([str(one) for one in inputs], Outputs(str(out), overwrite=overwrite), job, processes=processes)


def refusal(out: Path, *inputs: Path | str, job: Job = JOB) -> str:
    with pytest.raises(InputError) as caught:
        run(out, *inputs, job=job)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def small(emotion: str = "happy") -> npt.NDArray[np.uint8]:
    """A picture of 80x72 with one face."""
    picture = demo.wall()[:72, :80].copy()
    demo.paste(picture, demo.face(emotion), demo.Box(10, 6, 60, 60))
    return picture


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 pictures of mixed kinds in some folders, 3 % of them damaged."""
    folder = tmp_path_factory.mktemp("many")
    first: list[bytes] = []
    for emotion in ("happy", "sad", "neutral"):
        gray = small(emotion)
        colour = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
        deep = gray.astype(np.uint16) * 257
        for ending, picture in ((".jpg", colour), (".png", deep), (".webp", colour), (".tif", gray)):
            first.append(cv2.imencode(ending, picture)[1].tobytes())
    endings = (".jpg", ".png", ".webp", ".tif")
    for number in range(400):
        inner = folder / f"{number % 7}"
        inner.mkdir(exist_ok=True)
        data = first[number % len(first)]
        damaged = number % 33 == 5
        (inner / f"{number:04d}{endings[number % 4]}").write_bytes(data[:30] if damaged else data)
    return folder


def test_a_run_that_is_killed_again_and_again_gives_the_table_of_one_that_is_not(many: Path, tmp_path: Path) -> None:
    whole = {ending: tmp_path / f"whole{ending}" for ending in KINDS}
    summary = run(whole[".csv"], many, processes=2)
    assert (summary.pictures, summary.errors) == (400, 12)
    rows = table(whole[".csv"])
    assert len({row.path for row in rows}) == 400
    assert sum(row.error is not None for row in rows) == 12
    assert all(row.error is None or os.fsdecode(row.path) in row.error for row in rows)

    out = tmp_path / "tags.csv"
    journal = tmp_path / "tags.csv.part"
    command = [sys.executable, "-m", "fer_edge.cli", "tag", str(many), "--out", str(out), "--workers", "2"]
    draw = random.Random(7)
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            while not journal.exists() and process.poll() is None:
                time.sleep(0.02)
            time.sleep(draw.uniform(0.5, 2))
            process.send_signal(signal.SIGKILL)
        if journal.exists():
            shutil.copytree(
                tmp_path, tmp_path / "half", ignore=shutil.ignore_patterns("half", "whole*"), dirs_exist_ok=True
            )
    if journal.exists():
        subprocess.run(command, check=True, capture_output=True, timeout=200)
    assert out.read_bytes() == whole[".csv"].read_bytes()
    assert not journal.exists()
    # What was done when it was stopped does not depend on the kind of table.
    half = tmp_path / "half"
    for ending in KINDS[1:]:
        for left in half.glob("tags.csv.part*"):
            shutil.copy(left, half / left.name.replace(".csv", ending))
        assert run(half / f"tags{ending}", many).pictures == 400
        assert table(half / f"tags{ending}") == rows


def test_a_table_goes_on_only_as_it_was_begun(cli: Cli, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "tags.csv"
    with pytest.raises(KeyboardInterrupt):
        tag([str(many / "1")], Outputs(str(out)), JOB, seen=interrupt_at(20))
    assert not out.exists()
    other = refusal(out, many / "1", job=msgspec.structs.replace(JOB, model=str(find_model(Path("edge-plus")))))
    assert "model: edge (sha256 " in other
    assert "before, edge-plus (sha256 " in other
    assert "min_face 30 now" in refusal(out, many / "1", job=msgspec.structs.replace(JOB, min_face=30))
    assert "the pictures to look at: others now" in refusal(out, many / "2")
    summary = run(out, many / "1")
    assert 0 < summary.before < summary.pictures
    assert "is there already; --overwrite makes it again" in refusal(out, many / "1")
    assert run(out, many / "1", overwrite=True).before == 0
    (tmp_path / "t.csv.part").write_text("something else entirely, and longer than a header of SQLite's would be" * 9)
    assert "--overwrite starts again" in refusal(tmp_path / "t.csv", many / "1")


def interrupt_at(number: int) -> object:
    left = iter(range(number))

    def seen(_looked: object) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return seen


def test_what_was_added_taken_away_or_changed_between_two_runs_is_so_in_the_table(many: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(many / "2", tmp_path / "folder")
    names = sorted(path.name for path in folder.iterdir())
    with pytest.raises(KeyboardInterrupt):
        tag([str(folder)], Outputs(str(tmp_path / "t.csv")), JOB, seen=interrupt_at(40))
    (folder / names[3]).unlink()
    (folder / names[5]).write_bytes(b"no picture")
    cv2.imwrite(str(folder / "0000new.png"), small("surprise"))
    run(tmp_path / "t.csv", folder)
    run(tmp_path / "whole.csv", folder)
    assert (tmp_path / "t.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_pictures_of_every_kind_are_read_alike(tmp_path: Path) -> None:
    gray = demo.frame(60)
    picture = Image.fromarray(gray)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    folder = tmp_path / "kinds"
    folder.mkdir()
    picture.save(folder / "gray.jpg", quality=95)
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", quality=95, exif=rotated)
    picture.convert("RGB").quantize(200).save(folder / "palette.png")
    transparent = picture.convert("RGBA")
    transparent.putalpha(Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (480, 3))[:, :640]))
    transparent.save(folder / "alpha.png")
    transparent.save(folder / "alpha.webp", lossless=True)
    blank = Image.new("L", picture.size)
    for ending in ("gif", "png", "webp"):
        picture.save(folder / f"moving.{ending}", save_all=True, append_images=[blank, blank], duration=100)
    cv2.imwrite(str(folder / "deep.png"), gray.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "deep.tif"), gray.astype(np.uint16) * 257)
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    picture.convert("RGB").save(folder / "phone.heic", quality=95)
    picture.convert("RGB").save(folder / "phone.avif", quality=95)
    picture.save(folder / "bits.jp2")
    run(tmp_path / "t.jsonl", folder)
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    expected = [row for row in rows if row["path"].endswith("gray.jpg")]
    assert len(expected) == 3
    for path in folder.iterdir():
        given = [row for row in rows if row["path"] == str(path)]
        assert [row["error"] for row in given] == [None] * 3, (path, given)
        by_place = (sorted(some, key=lambda row: row["box"]) for some in (given, expected))
        for one, other in zip(*by_place, strict=True):
            assert np.abs(np.subtract(one["box"], other["box"])).max() < 12, path


def test_a_large_jpeg_is_decoded_small_and_its_small_faces_are_found(tmp_path: Path) -> None:
    picture = cv2.resize(demo.wall(), (3000, 2000), interpolation=cv2.INTER_CUBIC)
    for number, emotion in enumerate(("happy", "neutral", "surprise")):
        demo.paste(picture, demo.face(emotion), demo.Box(300 + 900 * number, 1200, 230, 230))
    for ending in ("jpg", "png"):
        cv2.imwrite(str(tmp_path / f"large.{ending}"), picture)
    small_scale, whole = look_at(
        JOB, [Source(str(path), str(path)) for path in (tmp_path / "large.jpg", tmp_path / "large.png")]
    )
    found = [
        sorted((sighting.face.box, sighting.face.emotion) for sighting in looked.sightings if sighting.face)
        for looked in (small_scale, whole)
    ]
    assert len(found[1]) == 3
    for one, other in zip(*found, strict=True):
        assert one[1] == other[1]
        assert np.abs(np.subtract(one[0], other[0])).max() < 30


def lines(paths: Iterable[Path]) -> bytes:
    return b"".join(os.fsencode(path) + b"\n" for path in paths)
