"""Tagging in bulk: whatever is given, however it ends, the table is whole and right."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET

import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image

from fer_edge import demo
from fer_edge.errors import FerEdgeError, InputError
from fer_edge.geometry import Box
from fer_edge.model_zoo import DEFAULT_MODEL, find_model
from fer_edge.tagging.input import listing, tempdirs
from fer_edge.tagging.input.source import Source
from fer_edge.tagging.input.sources import Sources
from fer_edge.tagging.input.video import split_video
from fer_edge.tagging.options import TagOptions
from fer_edge.tagging.output.destinations import Outputs
from fer_edge.tagging.output.xmp import relative_path
from fer_edge.tagging.pool import map_in_processes
from fer_edge.tagging.run import TagSummary, tag
from fer_edge.tagging.worker import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from tests.conftest import Cli

OPTIONS = TagOptions(model=str(DEFAULT_MODEL))
SQUARES = Path(__file__).parents[2] / "data" / "squares.tflite"
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
        return float(value) if (value := row[name]) not in {None, ""} else None

    track = number("track")
    return Entry(
        path,
        str(row["emotion"]) if row["emotion"] else None,
        number("score"),
        str(row["error"]) if row["error"] else None,
        number("time"),
        int(track) if track else None,
    )


def run(
    out: Path, *inputs: Path | str, options: TagOptions = OPTIONS, overwrite: bool = False, processes: int = 0
) -> TagSummary:
    return tag([str(one) for one in inputs], Outputs(str(out), overwrite=overwrite), options, processes=processes)


def refusal(out: Path, *inputs: Path | str, options: TagOptions = OPTIONS) -> str:
    with pytest.raises(InputError) as caught:
        run(out, *inputs, options=options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def small(emotion: str = "happy") -> npt.NDArray[np.uint8]:
    """An image of 80x72 with one face."""
    image = demo.wall()[:72, :80].copy()
    demo.paste(image, demo.face(emotion), Box(10, 6, 60, 60))
    return image


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 images of mixed kinds in some folders, 3 % of them damaged."""
    folder = tmp_path_factory.mktemp("many")
    first: list[bytes] = []
    for emotion in ("happy", "sad", "neutral"):
        gray = small(emotion)
        colour = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
        deep = gray.astype(np.uint16) * 257
        for ending, image in ((".jpg", colour), (".png", deep), (".webp", colour), (".tif", gray)):
            first.append(cv2.imencode(ending, image)[1].tobytes())
    endings = (".jpg", ".png", ".webp", ".tif")
    for number in range(300):
        inner = folder / f"{number % 7}"
        inner.mkdir(exist_ok=True)
        data = first[number % len(first)]
        damaged = number % 33 == 5
        (inner / f"{number:04d}{endings[number % 4]}").write_bytes(data[:30] if damaged else data)
    return folder


def test_a_run_that_is_killed_again_and_again_gives_the_table_of_one_that_is_not(many: Path, tmp_path: Path) -> None:
    whole = {ending: tmp_path / f"whole{ending}" for ending in KINDS}
    summary = run(whole[".csv"], many, processes=2)
    assert (summary.images, summary.errors) == (300, 9)
    rows = table(whole[".csv"])
    assert len({row.path for row in rows}) == 300
    assert sum(row.error is not None for row in rows) == 9
    assert all(row.error is None or os.fsdecode(row.path) in row.error for row in rows)

    out = tmp_path / "tags.csv"
    journal = tmp_path / "tags.csv.part"
    command = [sys.executable, "-m", "fer_edge.cli", "tag", str(many), "--out", str(out), "--workers", "2"]
    draw = np.random.default_rng()
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
        assert run(half / f"tags{ending}", many).images == 300
        assert table(half / f"tags{ending}") == rows


def test_a_table_goes_on_only_as_it_was_begun(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "tags.csv"
    with pytest.raises(KeyboardInterrupt):
        tag([str(many / "1")], Outputs(str(out)), OPTIONS, on_result=interrupt_at(20))
    assert not out.exists()
    other = refusal(out, many / "1", options=msgspec.structs.replace(OPTIONS, model=str(find_model(Path("edge-plus")))))
    assert "model: edge (sha256 " in other
    assert "before, edge-plus (sha256 " in other
    finder = msgspec.structs.replace(OPTIONS, detector_model=str(SQUARES))
    assert f"detector_model {hashlib.sha256(SQUARES.read_bytes()).hexdigest()[:12]} now" in refusal(
        out, many / "1", options=finder
    )
    assert "min_face 30 now" in refusal(out, many / "1", options=msgspec.structs.replace(OPTIONS, min_face=30))
    assert "the images to tag are other ones" in refusal(out, many / "2")
    summary = run(out, many / "1")
    assert 0 < summary.resumed < summary.images
    assert "exists already; --overwrite replaces it" in refusal(out, many / "1")
    assert run(out, many / "1", overwrite=True).resumed == 0
    (tmp_path / "t.csv.part").write_text("something else entirely, and longer than a header of SQLite's would be" * 9)
    assert "--overwrite starts again" in refusal(tmp_path / "t.csv", many / "1")
    assert run(tmp_path / "t.csv", many / "1", overwrite=True).resumed == 0


def test_starting_again_destroys_no_work_before_all_is_known_to_be_right(many: Path, tmp_path: Path) -> None:
    out, inputs = tmp_path / "t.csv", [str(many / "1")]
    with pytest.raises(KeyboardInterrupt):
        tag(inputs, Outputs(str(out)), OPTIONS, on_result=interrupt_at(20))
    with pytest.raises(InputError, match="is not a list of errors"):
        tag(inputs, Outputs(str(out), errors=next((many / "1").iterdir()), overwrite=True), OPTIONS)
    assert run(out, many / "1").resumed > 0


def test_starting_again_leaves_a_run_alone_that_is_at_it(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), small())
    refused = []

    def on_result(_result: object) -> None:
        with pytest.raises(InputError) as caught:
            run(tmp_path / "t.csv", tmp_path / "photo.png", overwrite=True)
        refused.append(str(caught.value))

    tag([str(tmp_path / "photo.png")], Outputs(str(tmp_path / "t.csv")), OPTIONS, on_result=on_result)
    assert refused == [f"{tmp_path}/t.csv.part: another run is writing the same table"]
    assert len(table(tmp_path / "t.csv")) == 1


def interrupt_at(number: int) -> Callable[[object], None]:
    left = iter(range(number))

    def on_result(_result: object) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return on_result


def test_what_was_added_taken_away_or_changed_between_two_runs_is_so_in_the_table(many: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(many / "2", tmp_path / "folder")
    names = sorted(path.name for path in folder.iterdir())
    with pytest.raises(KeyboardInterrupt):
        tag([str(folder)], Outputs(str(tmp_path / "t.csv")), OPTIONS, on_result=interrupt_at(40))
    (folder / names[3]).unlink()
    (folder / names[5]).write_bytes(b"no image")
    cv2.imwrite(str(folder / "0000new.png"), small("surprise"))
    run(tmp_path / "t.csv", folder)
    run(tmp_path / "whole.csv", folder)
    assert (tmp_path / "t.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_images_of_every_kind_are_read_alike(tmp_path: Path) -> None:
    gray = demo.frame(60)
    image = Image.fromarray(gray)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    folder = tmp_path / "kinds"
    folder.mkdir()
    image.save(folder / "gray.jpg", quality=95)
    image.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    image.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", quality=95, exif=rotated)
    image.convert("RGB").quantize(200).save(folder / "palette.png")
    transparent = image.convert("RGBA")
    transparent.putalpha(Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (480, 3))[:, :640]))
    transparent.save(folder / "alpha.png")
    transparent.save(folder / "alpha.webp", lossless=True)
    blank = Image.new("L", image.size)
    for ending in ("gif", "png", "webp"):
        image.save(folder / f"moving.{ending}", save_all=True, append_images=[blank, blank], duration=100)
    cv2.imwrite(str(folder / "deep.png"), gray.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "deep.tif"), gray.astype(np.uint16) * 257)
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    image.convert("RGB").save(folder / "phone.heic", quality=95)
    image.convert("RGB").save(folder / "phone.avif", quality=95)
    image.save(folder / "bits.jp2")
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
    image = np.asarray(cv2.resize(demo.wall(), (3000, 2000), interpolation=cv2.INTER_CUBIC), np.uint8)
    for number, emotion in enumerate(("happy", "neutral", "happy")):
        demo.paste(image, demo.face(emotion), Box(300 + 900 * number, 900, 230, 230))
    for ending in ("jpg", "png"):
        cv2.imwrite(str(tmp_path / f"large.{ending}"), image)
    small_scale, whole = process(
        OPTIONS, [Source(str(path), str(path)) for path in (tmp_path / "large.jpg", tmp_path / "large.png")]
    )
    found = [
        sorted((record.face.box, record.face.emotion) for record in result.records if record.face)
        for result in (small_scale, whole)
    ]
    assert len(found[1]) == 3
    for one, other in zip(*found, strict=True):
        assert one[1] == other[1]
        assert np.abs(np.subtract(one[0], other[0])).max() < 30


def names(*inputs: Path | str) -> list[str]:
    return [pending.source.path for pending in Sources([str(one) for one in inputs])]


def test_folders_come_in_one_order_whatever_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/2.png", "b/10.JPG", "b-1.png", "a.webp", "c/d/e.png", "c/new\nline.png", "c/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / os.fsdecode(b"c/\xff.png")).touch()
    expected = ["a.webp", "b-1.png", "b/10.JPG", "b/2.png", "c/d/e.png", "c/new\nline.png", "c/\udcff.png"]
    assert names(tmp_path) == [str(tmp_path / name) for name in expected]
    monkeypatch.setattr(listing, "_MAX_SORTED_IN_MEMORY", 2)
    assert names(tmp_path) == [str(tmp_path / name) for name in expected]
    assert names(tmp_path / "*.png", tmp_path / "c" / "**" / "e*") == [
        str(tmp_path / "b-1.png"),
        str(tmp_path / "c/d/e.png"),
    ]
    assert names(tmp_path / "b/2.png", tmp_path / "b", tmp_path / "b/2.png") == [
        str(tmp_path / "b/2.png"),
        str(tmp_path / "b/10.JPG"),
    ]


def test_a_loop_of_folders_is_a_row_and_every_image_is_there_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    cv2.imwrite(str(folder / "deep" / "p.png"), small())
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "same").symlink_to(folder / "deep")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "itself.png").symlink_to("itself.png")
    run(tmp_path / "t.csv", folder)
    rows = table(tmp_path / "t.csv")
    found = [os.fsdecode(row.path).removeprefix(str(folder)) for row in rows]
    assert found == ["/deep/p.png", "/deep/up", "/gone.png", "/itself.png"]
    assert [bool(row.error) for row in rows] == [False, True, True, True]
    assert "a link to a folder that contains it" in str(rows[1].error)
    matched = [name.removeprefix(str(folder)) for name in names(folder / "**" / "*.png")]
    assert matched == ["/deep/p.png", "/gone.png", "/itself.png"]
    drawing = msgspec.structs.replace(OPTIONS, annotate=str(tmp_path / "drawn"))
    assert run(tmp_path / "itself.csv", folder / "itself.png", options=drawing).errors == 1


@pytest.mark.parametrize("ending", KINDS)
def test_a_name_that_is_not_utf8_survives_in_a_table(tmp_path: Path, ending: str) -> None:
    odd = tmp_path / os.fsdecode(b"in/na\xffme.png")
    odd.parent.mkdir()
    cv2.imwrite(str(tmp_path / "plain.png"), small())
    shutil.copy(tmp_path / "plain.png", odd)
    (odd.parent / os.fsdecode(b"z\xfe.png")).write_bytes(b"no image")
    run(tmp_path / f"t{ending}", odd.parent)
    rows = table(tmp_path / f"t{ending}")
    assert [row.path for row in rows] == [os.fsencode(odd), os.fsencode(odd.parent) + b"/z\xfe.png"]
    assert rows[0].emotion == "happy"
    assert "z\\udcfe.png: not an image" in str(rows[1].error)


def test_archives_are_read_in_place_and_bombs_in_them_refused(tmp_path: Path) -> None:
    image = cv2.imencode(".png", small())[1].tobytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in/1.png", image)
        archive.writestr("__MACOSX/in/1.png", b"junk")
        archive.writestr("notes.txt", "not looked at")
        archive.writestr("../2.png", image)
        archive.writestr("bomb.png", bytes(64 << 20))
        archive.writestr("video.mp4", b"video")
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        for name in ("in/3.png", "4.txt"):
            (tmp_path / "member").write_bytes(image)
            archive.add(tmp_path / "member", name)
    (tmp_path / "c.tar").write_bytes(b"no archive" * 99)
    (tmp_path / "d.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:200])
    run(tmp_path / "t.csv", *(tmp_path / name for name in ("a.zip", "b.tar.gz", "c.tar", "d.zip")))
    found = [(os.fsdecode(row.path).removeprefix(f"{tmp_path}/"), row) for row in table(tmp_path / "t.csv")]
    assert [name for name, row in found if row.emotion == "happy"] == [
        "a.zip/in/1.png",
        "a.zip/../2.png",
        "b.tar.gz/in/3.png",
    ]
    errors = {name: str(row.error) for name, row in found if row.error}
    assert set(errors) == {"a.zip/bomb.png", "a.zip/video.mp4", "c.tar", "d.zip"}
    assert "refused, it would unpack to 67 MB" in errors["a.zip/bomb.png"]
    assert "video.mp4: not a video that OpenCV can read" in errors["a.zip/video.mp4"]
    assert "damaged, or not the kind of archive" in errors["c.tar"]


def test_images_that_would_fill_the_memory_are_refused(cli: Cli, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "bomb.png"), np.zeros((17_000, 17_000), np.uint8))
    header = b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + bytes(64)
    (tmp_path / "bomb.jpg").write_bytes(header)
    Image.new("1", (1, 1)).save(tmp_path / "bomb.gif")
    gif = bytearray((tmp_path / "bomb.gif").read_bytes())
    gif[6:10] = b"\xff\xff\xff\xff"
    (tmp_path / "bomb.gif").write_bytes(gif)
    cli("tag", tmp_path, "--out", tmp_path / "t.jsonl", "--errors", tmp_path / "errors.csv")
    rows = table(tmp_path / "t.jsonl")
    assert len(rows) == 3
    assert all(": refused, " in str(row.error) for row in rows)
    listed = (tmp_path / "errors.csv").read_text().splitlines()
    assert listed == ["path,error", *(f'{os.fsdecode(row.path)},"{row.error}"' for row in rows)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 seconds, in which three people walk through the image, twice."""
    path = tmp_path_factory.mktemp("video") / os.fsdecode(b"fi\xfflm.mp4")
    plain = path.with_name("video.mp4")
    writer = cv2.VideoWriter(str(plain), cv2.VideoWriter.fourcc(*"mp4v"), 3, (320, 240))
    for number in range(210):
        gray = cv2.resize(demo.frame(number), (320, 240))
        writer.write(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR))
    writer.release()
    plain.rename(path)
    return path


def test_a_video_in_parts_is_the_whole_video_with_times_and_tracks(video: Path, tmp_path: Path) -> None:
    options = msgspec.structs.replace(OPTIONS, every=2.0)
    run(tmp_path / "t.csv", video, options=options, processes=2)
    rows = table(tmp_path / "t.csv")
    assert sorted({row.time for row in rows}) == list(range(0, 70, 2))  # type: ignore[type-var]
    (whole,) = process(options, [Source(str(video), str(video), "video")])
    assert [row.score for row in rows] == [record.face.score if record.face else None for record in whole.records]
    assert [row.time for row in rows] == [record.time for record in whole.records]
    for row in rows:
        assert (row.track is None) == (row.emotion is None)
    assert 6 <= len({row.track for row in rows if row.track}) <= 10


def test_a_video_whose_header_tells_of_endless_frames_is_one_part(video: Path, tmp_path: Path) -> None:
    short = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(short), cv2.VideoWriter.fourcc(*"MJPG"), 3, (64, 48))
    for _ in range(30):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    data = bytearray(short.read_bytes())
    length = data.index(b"strh") + 8 + 32
    assert int.from_bytes(data[length : length + 4], "little") == 30
    data[length : length + 4] = (2**31 - 1).to_bytes(4, "little")
    short.write_bytes(data)
    assert list(split_video(short, 0.5)) == [(0, math.inf)]
    assert len(list(split_video(video, 0.5))) > 1


def test_a_damaged_video_is_a_row_after_what_could_be_read(video: Path, tmp_path: Path) -> None:
    (tmp_path / "none.mp4").write_bytes(b"no video")
    (tmp_path / "video.mp4").symlink_to(video)
    options = msgspec.structs.replace(OPTIONS, every=60.0)
    both = [str(tmp_path / name) for name in ("none.mp4", "video.mp4")]
    with pytest.raises(KeyboardInterrupt):
        tag(both, Outputs(str(tmp_path / "t.csv")), options, on_result=interrupt_at(2))
    summary = run(tmp_path / "t.csv", *both, options=options)
    assert (summary.images, summary.resumed) == (2, 2)
    first, *rest = table(tmp_path / "t.csv")
    assert "none.mp4: not a video that OpenCV can read" in str(first.error)
    assert {row.time for row in rest} == {0, 60}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that nobody else uses."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_video_in_an_archive_is_looked_at_as_any_and_nothing_of_it_is_left(
    video: Path, tmp_path: Path, temporary: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("in/video.mp4", "last.mp4"):
            archive.write(video, name)
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as packed:
        packed.add(video, "video.mp4")
    options = msgspec.structs.replace(OPTIONS, every=10.0, sha256=True)
    run(tmp_path / "t.jsonl", video, tmp_path / "a.zip", tmp_path / "b.tar.gz", options=options)
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    paths = list(dict.fromkeys(row.pop("path") for row in rows))
    assert paths[1:] == [
        f"{tmp_path}/{name}" for name in ("a.zip/in/video.mp4", "a.zip/last.mp4", "b.tar.gz/video.mp4")
    ]
    quarter = len(rows) // 4
    assert {row["time"] for row in rows} == set(range(0, 70, 10))
    assert all(rows[quarter * copy : quarter * (copy + 1)] == rows[:quarter] for copy in range(1, 4))
    small_options = msgspec.structs.replace(options, max_fetch=video.stat().st_size - 1)
    run(tmp_path / "refused.csv", tmp_path / "b.tar.gz", options=small_options)
    assert "b.tar.gz/video.mp4: refused, it has more than" in str(table(tmp_path / "refused.csv")[0].error)
    assert not list(temporary.iterdir())


def test_what_a_killed_run_unpacked_is_taken_away_by_the_next_and_what_is_in_use_is_not(temporary: Path) -> None:
    waiting = (
        "from fer_edge.tagging.input import tempdirs\n"
        "with tempdirs.folder() as path:\n print(path, flush=True)\n input()"
    )
    command = [sys.executable, "-c", waiting]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(temporary)}
    ) as process:
        assert process.stdout
        left = Path(os.fsdecode(process.stdout.readline().strip()))
        (left / "video.mp4").touch()
        with tempdirs.folder() as mine:
            tempdirs.clean()
            assert sorted(temporary.iterdir()) == sorted((left, mine))
        process.kill()
    assert list(temporary.iterdir()) == [left]
    tempdirs.clean()
    assert not list(temporary.iterdir())


class Web(BaseHTTPRequestHandler):
    """A server of one folder, which also has an image without an end."""

    folder: Path

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].strip("/")
        found = self.folder / name
        self.send_response(HTTPStatus.OK if found.is_file() or name == "endless.jpg" else HTTPStatus.FORBIDDEN)
        self.end_headers()
        if found.is_file():
            self.wfile.write(found.read_bytes())
        with suppress(OSError):
            while name == "endless.jpg":
                self.wfile.write(bytes(1 << 20))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a server of ``tmp_path``."""
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Ours", (Web,), {"folder": tmp_path})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_comes_from_the_web_has_a_bound_and_its_secrets_are_not_told(
    web: str, video: Path, tmp_path: Path, temporary: Path
) -> None:
    pytest.importorskip("aiohttp")
    cv2.imwrite(str(tmp_path / "photo.png"), small())
    shutil.copy(video, tmp_path / "video.mp4")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("photo.png", "video.mp4"):
            archive.write(tmp_path / name, name)
    names = ("photo.png", "endless.jpg", "video.mp4", "all.zip", "none.jpg")
    options = msgspec.structs.replace(OPTIONS, every=60.0, max_fetch=2_000_000)
    run(tmp_path / "t.csv", *(f"{web}/{name}?sig=a%2bb" for name in names), options=options)
    text = (tmp_path / "t.csv").read_text()
    assert "sig" not in text
    rows = {row.path.decode().removeprefix(f"{web}/"): row for row in table(tmp_path / "t.csv")}
    assert rows["photo.png"].emotion == rows["all.zip/photo.png"].emotion == "happy"
    assert rows["video.mp4"].time == 60
    assert "refused, it has more than 2 MB (see --max-fetch)" in str(rows["endless.jpg"].error)
    assert "a video in an archive at an address; fetch the archive first" in str(rows["all.zip/video.mp4"].error)
    assert "403" in str(rows["none.jpg"].error)
    assert not list(temporary.iterdir())


def end_on_marked(items: list[int]) -> list[int]:
    if 13 in items:
        os.kill(os.getpid(), signal.SIGKILL)
    return [item * 2 for item in items]


def test_what_ends_a_process_costs_itself_and_nothing_else() -> None:
    chunks = ([number, number + 1] for number in range(0, 40, 2))
    results = list(map_in_processes(end_on_marked, chunks, 2, lambda _: -1))
    assert results == [(number, -1 if number == 13 else number * 2) for number in range(40)]


def test_sidecars_annotated_copies_and_contact_sheets(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    photo, wall, theirs = folder / "photo.png", folder / "wall.png", folder / "theirs.png"
    cv2.imwrite(str(photo), demo.frame(60))
    shutil.copy(photo, theirs)
    cv2.imwrite(str(wall), demo.wall())
    before = photo.read_bytes()
    (folder / "theirs.png.xmp").write_text("<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Other'/>")
    extra = {"sidecars": True, "annotate": str(folder / "drawn"), "thumbnails": True}
    outputs = Outputs(str(tmp_path / "t.csv"), montage=folder / "sheets", overwrite=True)
    for _ in range(2):  # of its own results it takes none for images, and replaces its own sidecars
        summary = tag([str(folder)], outputs, msgspec.structs.replace(OPTIONS, **extra))
        assert (summary.images, summary.errors) == (3, 1)
    assert photo.read_bytes() == before
    assert "Other" in (folder / "theirs.png.xmp").read_text()
    emotions = [row.emotion for row in table(tmp_path / "t.csv") if row.path == os.fsencode(photo)]
    root = ET.fromstring((folder / "photo.png.xmp").read_text())  # noqa: S314 - our own
    keywords = [item.text for item in root.iterfind(".//{http://purl.org/dc/elements/1.1/}subject//{*}li")]
    assert keywords == list(dict.fromkeys(emotions))
    areas = [dict(area.attrib) for area in root.iterfind(".//{*}Area")]
    assert len(areas) == 3
    assert all(0 < float(area["{http://ns.adobe.com/xmp/sType/Area#}x"]) < 1 for area in areas)
    drawn = cv2.imread(str(folder / "drawn" / str(photo).lstrip("/")), cv2.IMREAD_GRAYSCALE)
    assert drawn is not None
    assert drawn.shape == (480, 640)
    assert len(list((folder / "drawn").rglob("*.png"))) == 2
    for emotion in {emotion for emotion in emotions if emotion}:
        assert (folder / "sheets" / f"{emotion}.jpg").stat().st_size > 1000


def test_results_never_replace_images_or_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    cv2.imwrite("in/photo.png", small())
    before = Path("in/photo.png").read_bytes()
    for given in ("in", "in/photo.png", "in/*.png"):
        for folder in (".", "in"):
            assert "choose a folder of its own" in refusal(
                Path("t.csv"), given, options=msgspec.structs.replace(OPTIONS, annotate=folder)
            )
    (result,) = process(msgspec.structs.replace(OPTIONS, annotate="."), [Source("in/photo.png", "in/photo.png")])
    assert result.records[-1].error.endswith("in/photo.png: is the image itself; annotate into a folder of its own")
    assert Path("in/photo.png").read_bytes() == before
    with pytest.raises(InputError, match="give them different names"):
        tag(["in"], Outputs("t.csv", errors=Path("t.csv")), OPTIONS)
    Path("list.csv").touch()
    with pytest.raises(InputError, match=r"list\.csv: exists already"):
        tag(["in"], Outputs("t.csv", errors=Path("list.csv")), OPTIONS)


def test_folders_for_images_that_hold_files_are_written_to_only_when_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("0.png", "1.png"):
        cv2.imwrite(str(tmp_path / "in" / name), small())
    copies = tmp_path / "copies"
    sheets = copies / "sheets"
    options = msgspec.structs.replace(OPTIONS, annotate=str(copies), thumbnails=True)
    outputs = Outputs(str(tmp_path / "t.csv"), montage=sheets)
    inputs = [str(tmp_path / "in")]
    for theirs, how in ((copies / relative_path(f"{tmp_path}/in/0.png"), options), (sheets / "happy.jpg", OPTIONS)):
        theirs.parent.mkdir(parents=True, exist_ok=True)
        theirs.write_text("theirs")
        with pytest.raises(InputError, match="contains files already; choose another folder"):
            tag(inputs, outputs, how)
        assert theirs.read_text() == "theirs"
        assert not outputs.journal.exists()
        theirs.unlink()
    with pytest.raises(KeyboardInterrupt):
        tag(inputs, outputs, options, on_result=interrupt_at(1))
    with pytest.raises(InputError, match=r"montage .*sheets before"):
        tag(inputs, dataclasses.replace(outputs, montage=copies), options)
    assert tag(inputs, outputs, options).resumed > 0  # going on, it finds its own copies there
    assert tag(inputs, dataclasses.replace(outputs, overwrite=True), options).errors == 0


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB of which little is left."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["/bin/mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", str(folder)], check=True)


def test_a_table_may_be_the_folder_that_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.png", small())
    tag(["photo.png"], Outputs("./"), OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces-000000.parquet", "photo.png"]


def test_a_full_disk_costs_nothing_that_was_done(many: Path, tiny_disk: Path, tmp_path: Path) -> None:
    (tiny_disk / "other").write_bytes(bytes(212_000))
    with pytest.raises(FerEdgeError, match="when it can, the same command continues"):
        run(tiny_disk / "t.jsonl", many / "1", many / "2")
    assert not (tiny_disk / "t.jsonl").exists()
    (tiny_disk / "other").unlink()
    run(tiny_disk / "t.jsonl", many / "1", many / "2")
    run(tmp_path / "whole.jsonl", many / "1", many / "2")
    assert (tiny_disk / "t.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_copy_that_finds_the_disk_full_is_a_row_that_says_where(tiny_disk: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), small())
    (tiny_disk / "rest").write_bytes(bytes(240_000))
    options = msgspec.structs.replace(OPTIONS, annotate=str(tiny_disk))
    result = process(options, [Source(f"{number}.png", str(tmp_path / "0.png")) for number in range(9)])[-1]
    error = f"{tiny_disk}/8.png: cannot be written (No space left on device); make room"
    assert [record.error for record in result.records] == ["", error]


def test_a_folder_that_is_read_only_is_said_before_work_begins(many: Path, tiny_disk: Path) -> None:
    subprocess.run(["/bin/mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    assert "cannot write there (Read-only file system)" in refusal(tiny_disk / "t.csv", many)


def test_a_bucket_is_read_and_written(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3fs = pytest.importorskip("s3fs")
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - it takes seconds

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.chdir(tmp_path)
    try:
        bucket = s3fs.S3FileSystem(use_listings_cache=False)
        bucket.mkdir("study")
        chosen = sorted((many / "5").iterdir())[:15]
        for number, path in enumerate(chosen):
            bucket.put_file(str(path), f"study/in/{number % 2}/{path.name}")
        bucket.pipe_file("study/in/notes.txt", b"not looked at")
        with pytest.raises(KeyboardInterrupt):
            tag(["s3://study/in"], Outputs("s3://study/out/t.csv"), OPTIONS, on_result=interrupt_at(5))
        summary = tag(["s3://study/in"], Outputs("s3://study/out/t.csv"), OPTIONS)
        assert summary.images == 15
        bucket.get_file("study/out/t.csv", str(tmp_path / "got.csv"))
        rows = {os.fsdecode(row.path).rpartition("/")[2]: row for row in table(tmp_path / "got.csv")}
        run(tmp_path / "near.csv", *chosen)
        for row in table(tmp_path / "near.csv"):
            far = rows[os.fsdecode(row.path).rpartition("/")[2]]
            assert (far.emotion, far.score, bool(far.error)) == (row.emotion, row.score, bool(row.error))
        for again in (False, True):
            tag(["s3://study/in"], Outputs("s3://study/out/t.parquet/", overwrite=again), OPTIONS)
            assert bucket.ls("study/out/t.parquet") == ["study/out/t.parquet/faces-000000.parquet"]
        for out in ("t.csv", "t.parquet/"):
            assert "exists already" in refusal_of_address("s3://study/in", f"s3://study/out/{out}")
        run(tmp_path / "none.csv", "s3://nowhere/x.png")
        assert "s3://nowhere/x.png: " in str(table(tmp_path / "none.csv")[0].error)
    finally:
        server.stop()


def refusal_of_address(given: str, out: str) -> str:
    with pytest.raises(InputError) as caught:
        tag([given], Outputs(out), OPTIONS)
    return str(caught.value)


def test_an_address_that_nothing_reads_is_one_line(tmp_path: Path) -> None:
    assert "install gcsfs" in refusal(tmp_path / "t.csv", "gs://study/in")
    assert "an unknown kind of address" in refusal(tmp_path / "t.csv", "nothing://study/in")
    assert "s3://study/t.xlsx: unknown kind of table" in refusal_of_address("in.png", "s3://key:secret@study/t.xlsx")


def test_a_list_on_standard_input(many: Path, tmp_path: Path) -> None:
    chosen = [*sorted((many / "4").iterdir())[:3], tmp_path / "gone.png", tmp_path / f"{'long' * 80}.mp4"]
    for number, mark in enumerate((b"\r\n\r\n", b"\0")):
        out = tmp_path / f"{number}.csv"
        command = [sys.executable, "-m", "fer_edge.cli", "tag", "-", "--out", str(out), "--quiet"]
        given = mark.join(map(os.fsencode, [*chosen, chosen[0]]))
        done = subprocess.run(command, input=given, capture_output=True, timeout=200, check=True)
        assert (done.stdout, done.stderr) == (b"", b"")
        assert [row.path for row in table(out)] == [os.fsencode(path) for path in chosen]


def test_a_list_on_a_closed_standard_input_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert refusal(tmp_path / "t.csv", "-") == "-: standard input is closed; give a list there, or paths"
