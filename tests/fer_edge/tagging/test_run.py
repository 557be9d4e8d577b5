"""Test tagging of many images and videos, above all interrupted runs and damaged input."""

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
from contextlib import closing, suppress
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
from fer_edge.tagging.input import archives, listing, tempdirs
from fer_edge.tagging.input.source import Source
from fer_edge.tagging.input.sources import Sources
from fer_edge.tagging.input.video import measure_video, split_video
from fer_edge.tagging.options import TagOptions
from fer_edge.tagging.output.columns import Provenance
from fer_edge.tagging.output.destinations import Outputs
from fer_edge.tagging.output.table_writer import check_columns
from fer_edge.tagging.output.xmp import relative_path
from fer_edge.tagging.run import TagSummary, tag
from fer_edge.tagging.worker import process
from tests.processes import Process
from tests.videos import make_video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from tests.conftest import Cli

OPTIONS = TagOptions(model=str(DEFAULT_MODEL))
SQUARES = Path(__file__).parents[2] / "data" / "squares.tflite"
TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet", ".sqlite")


class TableRow(NamedTuple):
    """A row of a table in any format."""

    path: bytes
    emotion: str | None
    score: float | None
    error: str | None
    time: float | None
    track: int | None


def read_table(path: Path) -> list[TableRow]:
    """Return the rows of a table in any format."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [make_table_row(row, os.fsencode(row["path"])) for row in rows]
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return [make_table_row(row, os.fsencode(row["path"])) for row in csv.DictReader(file)]
    if path.suffix == ".sqlite":
        database = sqlite3.connect(path)
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute("SELECT * FROM faces")]
        database.close()
        return [
            make_table_row(row, row["path"] if isinstance(row["path"], bytes) else row["path"].encode()) for row in rows
        ]
    parquet = pytest.importorskip("pyarrow.parquet")
    return [
        make_table_row(row, row["path_bytes"] or row["path"].encode()) for row in parquet.read_table(path).to_pylist()
    ]


def make_table_row(row: dict[str, str | float | None], path: bytes) -> TableRow:
    def number(name: str) -> float | None:
        return float(value) if (value := row[name]) not in {None, ""} else None

    track = number("track")
    return TableRow(
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
    return tag([str(path) for path in inputs], Outputs(str(out), overwrite=overwrite), options, processes=processes)


def error_message(out: Path, *inputs: Path | str, options: TagOptions = OPTIONS) -> str:
    with pytest.raises(InputError) as error:
        run(out, *inputs, options=options)
    assert "\n" not in str(error.value)
    return str(error.value)


def make_small_image(emotion: str = "happy") -> npt.NDArray[np.uint8]:
    """Return an image of 80x72 pixels with one face."""
    image = demo.wall()[:72, :80].copy()
    demo.paste(image, demo.face(emotion), Box(10, 6, 60, 60))
    return image


@pytest.fixture(scope="session")
def many_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 300 images in several formats and subfolders, 3 % of them damaged."""
    folder = tmp_path_factory.mktemp("many")
    encoded_images: list[bytes] = []
    for emotion in ("happy", "sad", "neutral"):
        gray = make_small_image(emotion)
        colour = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
        gray16 = gray.astype(np.uint16) * 257
        for suffix, image in ((".jpg", colour), (".png", gray16), (".webp", colour), (".tif", gray)):
            encoded_images.append(cv2.imencode(suffix, image)[1].tobytes())
    suffixes = (".jpg", ".png", ".webp", ".tif")
    for number in range(300):
        subfolder = folder / f"{number % 7}"
        subfolder.mkdir(exist_ok=True)
        data = encoded_images[number % len(encoded_images)]
        damaged = number % 33 == 5
        (subfolder / f"{number:04d}{suffixes[number % 4]}").write_bytes(data[:30] if damaged else data)
    return folder


def test_resumed_run_gives_the_same_table_as_an_uninterrupted_one(many_images: Path, tmp_path: Path) -> None:
    complete_tables = {suffix: tmp_path / f"whole{suffix}" for suffix in TABLE_SUFFIXES}
    summary = run(complete_tables[".csv"], many_images, processes=2)
    assert (summary.images, summary.errors) == (300, 9)
    rows = read_table(complete_tables[".csv"])
    assert len({row.path for row in rows}) == 300
    assert sum(row.error is not None for row in rows) == 9
    assert all(row.error is None or os.fsdecode(row.path) in row.error for row in rows)

    out = tmp_path / "tags.csv"
    journal = tmp_path / "tags.csv.part"
    command = [sys.executable, "-m", "fer_edge.cli", "tag", str(many_images), "--out", str(out), "--workers", "2"]
    generator = np.random.default_rng(4)
    for _ in range(3):
        with Process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            while not journal.exists() and process.poll() is None:
                time.sleep(0.02)
            time.sleep(generator.uniform(0.5, 2))
            process.send_signal(signal.SIGKILL)
        if journal.exists():
            shutil.copytree(
                tmp_path, tmp_path / "half", ignore=shutil.ignore_patterns("half", "whole*"), dirs_exist_ok=True
            )
    if journal.exists():
        subprocess.run(command, check=True, capture_output=True, timeout=200)
    assert out.read_bytes() == complete_tables[".csv"].read_bytes()
    assert not journal.exists()
    # The journal does not depend on the format of the table.
    interrupted = tmp_path / "half"
    for suffix in TABLE_SUFFIXES[1:]:
        for file in interrupted.glob("tags.csv.part*"):
            shutil.copy(file, interrupted / file.name.replace(".csv", suffix))
        assert run(interrupted / f"tags{suffix}", many_images).images == 300
        assert read_table(interrupted / f"tags{suffix}") == rows


def test_resumes_only_with_the_same_model_options_and_images(many_images: Path, tmp_path: Path) -> None:
    out = tmp_path / "tags.csv"
    with pytest.raises(KeyboardInterrupt):
        tag([str(many_images / "1")], Outputs(str(out)), OPTIONS, on_result=interrupt_after(20))
    assert not out.exists()
    message = error_message(
        out, many_images / "1", options=msgspec.structs.replace(OPTIONS, model=str(find_model(Path("edge-plus"))))
    )
    assert "model: edge (sha256 " in message
    assert "before, edge-plus (sha256 " in message
    other_detector = msgspec.structs.replace(OPTIONS, detector_model=str(SQUARES))
    assert f"detector_model {hashlib.sha256(SQUARES.read_bytes()).hexdigest()[:12]} now" in error_message(
        out, many_images / "1", options=other_detector
    )
    assert "min_face 30 now" in error_message(
        out, many_images / "1", options=msgspec.structs.replace(OPTIONS, min_face=30)
    )
    assert "the images to tag are other ones" in error_message(out, many_images / "2")
    summary = run(out, many_images / "1")
    assert 0 < summary.resumed < summary.images
    assert "exists already; --overwrite replaces it" in error_message(out, many_images / "1")
    assert run(out, many_images / "1", overwrite=True).resumed == 0
    (tmp_path / "t.csv.part").write_text("something else entirely, and longer than a header of SQLite's would be" * 9)
    assert "--overwrite starts again" in error_message(tmp_path / "t.csv", many_images / "1")
    assert run(tmp_path / "t.csv", many_images / "1", overwrite=True).resumed == 0


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE run_key SET content = 'x'",
        "UPDATE run_key SET content = 5",
        "UPDATE results SET result = x'c1'",
        "UPDATE results SET path = 5",
    ],
)
def test_refuses_a_damaged_file_of_an_interrupted_run(tmp_path: Path, damage: str) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), make_small_image())
    out = tmp_path / "t.csv"
    with pytest.raises(KeyboardInterrupt):
        tag([str(tmp_path)], Outputs(str(out)), OPTIONS, on_result=interrupt_after(1))
    with closing(sqlite3.connect(f"{out}.part")) as database, database:
        assert database.execute(damage).rowcount
    message = error_message(out, tmp_path)
    assert message.startswith(f"{out}.part: ")
    assert message.endswith("; --overwrite starts again")
    assert not out.exists()
    assert run(out, tmp_path, overwrite=True).images == 2


def test_overwrite_deletes_the_journal_only_after_all_checks(many_images: Path, tmp_path: Path) -> None:
    out, inputs = tmp_path / "t.csv", [str(many_images / "1")]
    with pytest.raises(KeyboardInterrupt):
        tag(inputs, Outputs(str(out)), OPTIONS, on_result=interrupt_after(20))
    with pytest.raises(InputError, match="is not a list of errors"):
        tag(inputs, Outputs(str(out), errors=next((many_images / "1").iterdir()), overwrite=True), OPTIONS)
    assert run(out, many_images / "1").resumed > 0


def test_overwrite_refuses_a_table_that_another_run_writes(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), make_small_image())
    messages = []

    def on_result(_result: object) -> None:
        with pytest.raises(InputError) as error:
            run(tmp_path / "t.csv", tmp_path / "photo.png", overwrite=True)
        messages.append(str(error.value))

    tag([str(tmp_path / "photo.png")], Outputs(str(tmp_path / "t.csv")), OPTIONS, on_result=on_result)
    assert messages == [f"{tmp_path}/t.csv.part: another run is writing the same table"]
    assert len(read_table(tmp_path / "t.csv")) == 1


def interrupt_after(number: int) -> Callable[[object], None]:
    remaining = iter(range(number))

    def on_result(_result: object) -> None:
        if next(remaining, None) is None:
            raise KeyboardInterrupt

    return on_result


def test_resumed_run_notices_added_removed_and_changed_images(many_images: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(many_images / "2", tmp_path / "folder")
    names = sorted(path.name for path in folder.iterdir())
    with pytest.raises(KeyboardInterrupt):
        tag([str(folder)], Outputs(str(tmp_path / "t.csv")), OPTIONS, on_result=interrupt_after(40))
    (folder / names[3]).unlink()
    (folder / names[5]).write_bytes(b"no image")
    cv2.imwrite(str(folder / "0000new.png"), make_small_image("surprise"))
    run(tmp_path / "t.csv", folder)
    run(tmp_path / "whole.csv", folder)
    assert (tmp_path / "t.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_every_image_format_gives_the_same_faces(tmp_path: Path) -> None:
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
    for suffix in ("gif", "png", "webp"):
        image.save(folder / f"moving.{suffix}", save_all=True, append_images=[blank, blank], duration=100)
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
        rows_of_image = [row for row in rows if row["path"] == str(path)]
        assert [row["error"] for row in rows_of_image] == [None] * 3, (path, rows_of_image)
        sorted_by_box = (sorted(image_rows, key=lambda row: row["box"]) for image_rows in (rows_of_image, expected))
        for row, expected_row in zip(*sorted_by_box, strict=True):
            assert np.abs(np.subtract(row["box"], expected_row["box"])).max() < 12, path


def test_finds_small_faces_in_a_jpeg_decoded_at_reduced_size(tmp_path: Path) -> None:
    image = np.asarray(cv2.resize(demo.wall(), (3000, 2000), interpolation=cv2.INTER_CUBIC), np.uint8)
    for number, emotion in enumerate(("happy", "neutral", "happy")):
        demo.paste(image, demo.face(emotion), Box(300 + 900 * number, 900, 230, 230))
    for suffix in ("jpg", "png"):
        cv2.imwrite(str(tmp_path / f"large.{suffix}"), image)
    jpeg_result, png_result = process(
        OPTIONS, [Source(str(path), str(path)) for path in (tmp_path / "large.jpg", tmp_path / "large.png")]
    )
    faces = [
        sorted((record.face.box, record.face.emotion) for record in result.records if record.face)
        for result in (jpeg_result, png_result)
    ]
    assert len(faces[1]) == 3
    for jpeg_face, png_face in zip(*faces, strict=True):
        assert jpeg_face[1] == png_face[1]
        assert np.abs(np.subtract(jpeg_face[0], png_face[0])).max() < 30


def list_paths(*inputs: Path | str) -> list[str]:
    return [pending.source.path for pending in Sources([str(path) for path in inputs])]


def test_order_of_files_does_not_depend_on_folder_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/2.png", "b/10.JPG", "b-1.png", "a.webp", "c/d/e.png", "c/new\nline.png", "c/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / os.fsdecode(b"c/\xff.png")).touch()
    expected = ["a.webp", "b-1.png", "b/10.JPG", "b/2.png", "c/d/e.png", "c/new\nline.png", "c/\udcff.png"]
    assert list_paths(tmp_path) == [str(tmp_path / name) for name in expected]
    monkeypatch.setattr(listing, "_MAX_SORTED_IN_MEMORY", 2)
    assert list_paths(tmp_path) == [str(tmp_path / name) for name in expected]
    assert list_paths(tmp_path / "*.png", tmp_path / "c" / "**" / "e*") == [
        str(tmp_path / "b-1.png"),
        str(tmp_path / "c/d/e.png"),
    ]
    assert list_paths(tmp_path / "b/2.png", tmp_path / "b", tmp_path / "b/2.png") == [
        str(tmp_path / "b/2.png"),
        str(tmp_path / "b/10.JPG"),
    ]


def test_link_loop_gives_one_row_and_each_image_is_tagged_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    cv2.imwrite(str(folder / "deep" / "p.png"), make_small_image())
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "same").symlink_to(folder / "deep")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "itself.png").symlink_to("itself.png")
    run(tmp_path / "t.csv", folder)
    rows = read_table(tmp_path / "t.csv")
    paths = [os.fsdecode(row.path).removeprefix(str(folder)) for row in rows]
    assert paths == ["/deep/p.png", "/deep/up", "/gone.png", "/itself.png"]
    assert [bool(row.error) for row in rows] == [False, True, True, True]
    assert "a link to a folder that contains it" in str(rows[1].error)
    matched = [name.removeprefix(str(folder)) for name in list_paths(folder / "**" / "*.png")]
    assert matched == ["/deep/p.png", "/gone.png", "/itself.png"]
    annotating = msgspec.structs.replace(OPTIONS, annotate=str(tmp_path / "drawn"))
    assert run(tmp_path / "itself.csv", folder / "itself.png", options=annotating).errors == 1


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_tables_keep_names_that_are_not_utf8(tmp_path: Path, suffix: str) -> None:
    image = tmp_path / os.fsdecode(b"in/na\xffme.png")
    image.parent.mkdir()
    cv2.imwrite(str(tmp_path / "plain.png"), make_small_image())
    shutil.copy(tmp_path / "plain.png", image)
    (image.parent / os.fsdecode(b"z\xfe.png")).write_bytes(b"no image")
    run(tmp_path / f"t{suffix}", image.parent)
    rows = read_table(tmp_path / f"t{suffix}")
    assert [row.path for row in rows] == [os.fsencode(image), os.fsencode(image.parent) + b"/z\xfe.png"]
    assert rows[0].emotion == "happy"
    assert "z\\udcfe.png: not an image" in str(rows[1].error)


def test_reads_archives_in_place_and_refuses_bombs(tmp_path: Path) -> None:
    image = cv2.imencode(".png", make_small_image())[1].tobytes()
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
    rows = [(os.fsdecode(row.path).removeprefix(f"{tmp_path}/"), row) for row in read_table(tmp_path / "t.csv")]
    assert [name for name, row in rows if row.emotion == "happy"] == [
        "a.zip/in/1.png",
        "a.zip/../2.png",
        "b.tar.gz/in/3.png",
    ]
    errors = {name: str(row.error) for name, row in rows if row.error}
    assert set(errors) == {"a.zip/bomb.png", "a.zip/video.mp4", "c.tar", "d.zip"}
    assert "refused, it would unpack to 67 MB" in errors["a.zip/bomb.png"]
    assert "video.mp4: not a video that FFmpeg can read" in errors["a.zip/video.mp4"]
    assert "damaged, or not the kind of archive" in errors["c.tar"]


def test_archive_with_an_empty_name_costs_no_other_image(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    image = cv2.imencode(".png", make_small_image())[1].tobytes()
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("x", b"")
        archive.writestr("b.png", image)
    data = (folder / "a.zip").read_bytes()
    central = data.rindex(b"PK\1\2", 0, data.rindex(b"PK\1\2"))
    named = bytearray(data)
    named[central + 28 : central + 30] = bytes(2)  # its name is empty now, and one byte of it is left over
    named[central + 30 : central + 32] = (1).to_bytes(2, "little")
    (folder / "a.zip").write_bytes(named)
    (folder / "c.png").write_bytes(image)
    summary = run(tmp_path / "t.csv", folder)
    assert summary.faces >= 1
    assert os.fsencode(folder / "c.png") in {row.path for row in read_table(tmp_path / "t.csv") if row.emotion}


def test_error_while_a_file_is_listed_is_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise IndexError("string index\nout of range")

    monkeypatch.setattr(archives, "members", fail)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.zip").touch()
    cv2.imwrite(str(tmp_path / "in" / "b.png"), make_small_image())
    assert run(tmp_path / "t.csv", tmp_path / "in").errors == 1
    first, second = read_table(tmp_path / "t.csv")
    assert str(first.error).endswith("a.zip: cannot be read (IndexError: string index)")
    assert second.emotion == "happy"


def test_labels_that_no_column_can_have_are_refused_before_the_work() -> None:
    provenance = Provenance(labels=("Happy", "happy"), model="edge", model_sha256="", version="")
    with pytest.raises(InputError, match=r"t\.sqlite: SQLite cannot have columns for the model's labels Happy, happy"):
        check_columns("t.sqlite", provenance)
    for table in ("t.csv", "t.jsonl", "t.parquet", "parts/"):
        check_columns(table, provenance)


def test_refuses_image_bombs(cli: Cli, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "bomb.png"), np.zeros((17_000, 17_000), np.uint8))
    jpeg = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    size = jpeg.index(b"\xff\xc0") + 5
    (tmp_path / "bomb.jpg").write_bytes(jpeg[:size] + b"\xff\xff\xff\xff" + jpeg[size + 4 :])
    Image.new("1", (1, 1)).save(tmp_path / "bomb.gif")
    gif = bytearray((tmp_path / "bomb.gif").read_bytes())
    gif[6:10] = b"\xff\xff\xff\xff"
    (tmp_path / "bomb.gif").write_bytes(gif)
    cli("tag", tmp_path, "--out", tmp_path / "t.jsonl", "--errors", tmp_path / "errors.csv")
    rows = read_table(tmp_path / "t.jsonl")
    assert len(rows) == 3
    assert all(": refused, " in str(row.error) for row in rows)
    error_lines = (tmp_path / "errors.csv").read_text().splitlines()
    assert error_lines == ["path,error", *(f'{os.fsdecode(row.path)},"{row.error}"' for row in rows)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of 70 seconds in which three people walk through the image twice."""
    path = tmp_path_factory.mktemp("video") / os.fsdecode(b"fi\xfflm.mp4")
    plain = path.with_name("video.mp4")
    writer = cv2.VideoWriter(str(plain), cv2.VideoWriter.fourcc(*"mp4v"), 3, (320, 240))
    for number in range(210):
        gray = cv2.resize(demo.frame(number), (320, 240))
        writer.write(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR))
    writer.release()
    plain.rename(path)
    return path


def test_video_in_parts_gives_the_rows_of_the_whole_video(video: Path, tmp_path: Path) -> None:
    options = msgspec.structs.replace(OPTIONS, every=2.0)
    run(tmp_path / "t.csv", video, options=options, processes=2)
    rows = read_table(tmp_path / "t.csv")
    assert sorted({row.time for row in rows}) == list(range(0, 70, 2))  # type: ignore[type-var]
    (whole_video,) = process(options, [Source(str(video), str(video), "video")])
    assert [row.score for row in rows] == [record.face.score if record.face else None for record in whole_video.records]
    assert [row.time for row in rows] == [record.time for record in whole_video.records]
    for row in rows:
        assert (row.track is None) == (row.emotion is None)
    assert 6 <= len({row.track for row in rows if row.track}) <= 10


def test_frames_of_the_same_time_are_told_apart(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", [0, 100, 100, 100, 200, 300], gop=1)
    options = msgspec.structs.replace(OPTIONS, annotate=str(tmp_path / "copies"))
    run(tmp_path / "t.csv", path, options=options)
    rows = read_table(tmp_path / "t.csv")
    assert [row.time for row in rows] == [time for time in (0, 0.1, 0.1, 0.1, 0.2, 0.3) for _ in range(3)]
    assert {row.track for row in rows} == {1, 2, 3}
    assert len(list((tmp_path / "copies").rglob("*.jpg"))) == 6


def test_does_not_split_a_video_with_an_absurd_frame_count(video: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(damaged), cv2.VideoWriter.fourcc(*"MJPG"), 3, (64, 48))
    for _ in range(30):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    data = bytearray(damaged.read_bytes())
    frame_count_at = data.index(b"strh") + 8 + 32
    assert int.from_bytes(data[frame_count_at : frame_count_at + 4], "little") == 30
    data[frame_count_at : frame_count_at + 4] = (2**31 - 1).to_bytes(4, "little")
    damaged.write_bytes(data)
    assert list(split_video(measure_video(damaged), 0.5)) == [(0, math.inf)]
    assert list(split_video(measure_video(video), 0.5)) == [(0, 60), (60, math.inf)]


def test_damaged_video_gives_an_error_row(video: Path, tmp_path: Path) -> None:
    (tmp_path / "none.mp4").write_bytes(b"no video")
    (tmp_path / "video.mp4").symlink_to(video)
    options = msgspec.structs.replace(OPTIONS, every=60.0)
    videos = [str(tmp_path / name) for name in ("none.mp4", "video.mp4")]
    with pytest.raises(KeyboardInterrupt):
        tag(videos, Outputs(str(tmp_path / "t.csv")), options, on_result=interrupt_after(2))
    summary = run(tmp_path / "t.csv", *videos, options=options)
    assert (summary.images, summary.resumed) == (2, 2)
    first, *later_rows = read_table(tmp_path / "t.csv")
    assert "none.mp4: not a video that FFmpeg can read" in str(first.error)
    assert {row.time for row in later_rows} == {0, 60}


@pytest.fixture
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that is used for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_tags_videos_in_archives_and_removes_temporary_files(
    video: Path, tmp_path: Path, temporary_folder: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("in/video.mp4", "last.mp4"):
            archive.write(video, name)
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as tar:
        tar.add(video, "video.mp4")
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
    limited_options = msgspec.structs.replace(options, max_fetch=video.stat().st_size - 1)
    run(tmp_path / "refused.csv", tmp_path / "b.tar.gz", options=limited_options)
    assert "b.tar.gz/video.mp4: refused, it has more than" in str(read_table(tmp_path / "refused.csv")[0].error)
    assert not list(temporary_folder.iterdir())


def test_removes_temporary_folders_of_killed_runs_only(temporary_folder: Path) -> None:
    script = (
        "from fer_edge.tagging.input import tempdirs\n"
        "with tempdirs.folder() as path:\n print(path, flush=True)\n input()"
    )
    command = [sys.executable, "-c", script]
    with Process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(temporary_folder)}
    ) as process:
        assert process.stdout
        orphan = Path(os.fsdecode(process.stdout.readline().strip()))
        (orphan / "video.mp4").touch()
        with tempdirs.folder() as in_use:
            tempdirs.clean()
            assert sorted(temporary_folder.iterdir()) == sorted((orphan, in_use))
        process.kill()
    assert list(temporary_folder.iterdir()) == [orphan]
    tempdirs.clean()
    assert not list(temporary_folder.iterdir())


class FolderServer(BaseHTTPRequestHandler):
    """Serve one folder over HTTP, and an endless image."""

    folder: Path

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].strip("/")
        file = self.folder / name
        self.send_response(HTTPStatus.OK if file.is_file() or name == "endless.jpg" else HTTPStatus.FORBIDDEN)
        self.end_headers()
        if file.is_file():
            self.wfile.write(file.read_bytes())
        with suppress(OSError):
            while name == "endless.jpg":
                self.wfile.write(bytes(1 << 20))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Log nothing."""


@pytest.fixture
def server_url(tmp_path: Path) -> Iterator[str]:
    """Return the address of a server of ``tmp_path``."""
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (FolderServer,), {"folder": tmp_path})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_limits_downloads_and_hides_secrets_of_addresses(
    server_url: str, video: Path, tmp_path: Path, temporary_folder: Path
) -> None:
    pytest.importorskip("aiohttp")
    cv2.imwrite(str(tmp_path / "photo.png"), make_small_image())
    shutil.copy(video, tmp_path / "video.mp4")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("photo.png", "video.mp4"):
            archive.write(tmp_path / name, name)
    names = ("photo.png", "endless.jpg", "video.mp4", "all.zip", "none.jpg")
    options = msgspec.structs.replace(OPTIONS, every=60.0, max_fetch=2_000_000)
    run(tmp_path / "t.csv", *(f"{server_url}/{name}?sig=a%2bb" for name in names), options=options)
    text = (tmp_path / "t.csv").read_text()
    assert "sig" not in text
    rows = {row.path.decode().removeprefix(f"{server_url}/"): row for row in read_table(tmp_path / "t.csv")}
    assert rows["photo.png"].emotion == rows["all.zip/photo.png"].emotion == "happy"
    assert rows["video.mp4"].time == 60
    assert "refused, it has more than 2 MB (see --max-fetch)" in str(rows["endless.jpg"].error)
    assert "a video in an archive at an address; fetch the archive first" in str(rows["all.zip/video.mp4"].error)
    assert "403" in str(rows["none.jpg"].error)
    assert not list(temporary_folder.iterdir())


def test_writes_sidecars_annotated_copies_and_contact_sheets(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    photo, wall, foreign = folder / "photo.png", folder / "wall.png", folder / "theirs.png"
    cv2.imwrite(str(photo), demo.frame(60))
    shutil.copy(photo, foreign)
    cv2.imwrite(str(wall), demo.wall())
    before = photo.read_bytes()
    (folder / "theirs.png.xmp").write_text("<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Other'/>")
    outputs_per_image = {"sidecars": True, "annotate": str(folder / "drawn"), "thumbnails": True}
    outputs = Outputs(str(tmp_path / "t.csv"), montage=folder / "sheets", overwrite=True)
    for _ in range(2):  # the second run ignores annotated copies and replaces its own sidecars
        summary = tag([str(folder)], outputs, msgspec.structs.replace(OPTIONS, **outputs_per_image))
        assert (summary.images, summary.errors) == (3, 1)
    assert photo.read_bytes() == before
    assert "Other" in (folder / "theirs.png.xmp").read_text()
    emotions = [row.emotion for row in read_table(tmp_path / "t.csv") if row.path == os.fsencode(photo)]
    root = ET.fromstring((folder / "photo.png.xmp").read_text())  # noqa: S314 - our own
    keywords = [item.text for item in root.iterfind(".//{http://purl.org/dc/elements/1.1/}subject//{*}li")]
    assert keywords == list(dict.fromkeys(emotions))
    areas = [dict(area.attrib) for area in root.iterfind(".//{*}Area")]
    assert len(areas) == 3
    assert all(0 < float(area["{http://ns.adobe.com/xmp/sType/Area#}x"]) < 1 for area in areas)
    annotated = cv2.imread(str(folder / "drawn" / str(photo).lstrip("/")), cv2.IMREAD_GRAYSCALE)
    assert annotated is not None
    assert annotated.shape == (480, 640)
    assert len(list((folder / "drawn").rglob("*.png"))) == 2
    for emotion in {emotion for emotion in emotions if emotion}:
        assert (folder / "sheets" / f"{emotion}.jpg").stat().st_size > 1000


def test_results_never_replace_images_or_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    cv2.imwrite("in/photo.png", make_small_image())
    before = Path("in/photo.png").read_bytes()
    for source in ("in", "in/photo.png", "in/*.png"):
        for folder in (".", "in"):
            assert "choose a folder of its own" in error_message(
                Path("t.csv"), source, options=msgspec.structs.replace(OPTIONS, annotate=folder)
            )
    (result,) = process(msgspec.structs.replace(OPTIONS, annotate="."), [Source("in/photo.png", "in/photo.png")])
    assert result.records[-1].error.endswith("in/photo.png: is the image itself; annotate into a folder of its own")
    assert Path("in/photo.png").read_bytes() == before
    with pytest.raises(InputError, match="give them different names"):
        tag(["in"], Outputs("t.csv", errors=Path("t.csv")), OPTIONS)
    Path("list.csv").touch()
    with pytest.raises(InputError, match=r"list\.csv: exists already"):
        tag(["in"], Outputs("t.csv", errors=Path("list.csv")), OPTIONS)


def test_image_folders_with_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("0.png", "1.png"):
        cv2.imwrite(str(tmp_path / "in" / name), make_small_image())
    copies = tmp_path / "copies"
    sheets = copies / "sheets"
    options = msgspec.structs.replace(OPTIONS, annotate=str(copies), thumbnails=True)
    outputs = Outputs(str(tmp_path / "t.csv"), montage=sheets)
    inputs = [str(tmp_path / "in")]
    for foreign, tag_options in (
        (copies / relative_path(f"{tmp_path}/in/0.png"), options),
        (sheets / "happy.jpg", OPTIONS),
    ):
        foreign.parent.mkdir(parents=True, exist_ok=True)
        foreign.write_text("theirs")
        with pytest.raises(InputError, match="contains files already; choose another folder"):
            tag(inputs, outputs, tag_options)
        assert foreign.read_text() == "theirs"
        assert not outputs.journal.exists()
        foreign.unlink()
    with pytest.raises(KeyboardInterrupt):
        tag(inputs, outputs, options, on_result=interrupt_after(1))
    with pytest.raises(InputError, match=r"montage .*sheets before"):
        tag(inputs, dataclasses.replace(outputs, montage=copies), options)
    assert tag(inputs, outputs, options).resumed > 0  # the resumed run accepts its own copies
    assert tag(inputs, dataclasses.replace(outputs, overwrite=True), options).errors == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a mounted disk of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["/bin/mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", str(folder)], check=True)


def test_table_may_be_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.png", make_small_image())
    tag(["photo.png"], Outputs("./"), OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces-000000.parquet", "photo.png"]


def test_full_disk_keeps_finished_work(many_images: Path, small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "other").write_bytes(bytes(212_000))
    with pytest.raises(FerEdgeError, match="when it can, the same command continues"):
        run(small_disk / "t.jsonl", many_images / "1", many_images / "2")
    assert not (small_disk / "t.jsonl").exists()
    (small_disk / "other").unlink()
    run(small_disk / "t.jsonl", many_images / "1", many_images / "2")
    run(tmp_path / "whole.jsonl", many_images / "1", many_images / "2")
    assert (small_disk / "t.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_annotated_copy_on_a_full_disk_gives_an_error_row(small_disk: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), make_small_image())
    (small_disk / "rest").write_bytes(bytes(240_000))
    options = msgspec.structs.replace(OPTIONS, annotate=str(small_disk))
    sources = [Source(f"{number}.png", str(tmp_path / "0.png")) for number in range(9)]
    *_, result = process(options, sources)
    error = f"{small_disk}/8.png: cannot be written (No space left on device); make room"
    assert [record.error for record in result.records] == ["", error]


def test_rejects_a_read_only_folder_at_once(many_images: Path, small_disk: Path) -> None:
    subprocess.run(["/bin/mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "cannot write there (Read-only file system)" in error_message(small_disk / "t.csv", many_images)


def test_reads_and_writes_a_bucket(many_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        uploaded = sorted((many_images / "5").iterdir())[:15]
        for number, path in enumerate(uploaded):
            bucket.put_file(str(path), f"study/in/{number % 2}/{path.name}")
        bucket.pipe_file("study/in/notes.txt", b"not looked at")
        with pytest.raises(KeyboardInterrupt):
            tag(["s3://study/in"], Outputs("s3://study/out/t.csv"), OPTIONS, on_result=interrupt_after(5))
        summary = tag(["s3://study/in"], Outputs("s3://study/out/t.csv"), OPTIONS)
        assert summary.images == 15
        bucket.get_file("study/out/t.csv", str(tmp_path / "got.csv"))
        rows = {os.fsdecode(row.path).rpartition("/")[2]: row for row in read_table(tmp_path / "got.csv")}
        run(tmp_path / "near.csv", *uploaded)
        for row in read_table(tmp_path / "near.csv"):
            bucket_row = rows[os.fsdecode(row.path).rpartition("/")[2]]
            assert (bucket_row.emotion, bucket_row.score, bool(bucket_row.error)) == (
                row.emotion,
                row.score,
                bool(row.error),
            )
        for overwrite in (False, True):
            tag(["s3://study/in"], Outputs("s3://study/out/t.parquet/", overwrite=overwrite), OPTIONS)
            assert bucket.ls("study/out/t.parquet") == ["study/out/t.parquet/faces-000000.parquet"]
        for out in ("t.csv", "t.parquet/"):
            assert "exists already" in address_error("s3://study/in", f"s3://study/out/{out}")
        run(tmp_path / "none.csv", "s3://nowhere/x.png")
        assert "s3://nowhere/x.png: " in str(read_table(tmp_path / "none.csv")[0].error)
    finally:
        server.stop()


def address_error(source: str, out: str) -> str:
    with pytest.raises(InputError) as error:
        tag([source], Outputs(out), OPTIONS)
    return str(error.value)


def test_unsupported_address_gives_one_error_line(tmp_path: Path) -> None:
    assert "install gcsfs" in error_message(tmp_path / "t.csv", "gs://study/in")
    assert "an unknown kind of address" in error_message(tmp_path / "t.csv", "nothing://study/in")
    assert "s3://study/t.xlsx: unknown kind of table" in address_error("in.png", "s3://key:secret@study/t.xlsx")


def test_reads_a_list_from_standard_input(many_images: Path, tmp_path: Path) -> None:
    paths = [*sorted((many_images / "4").iterdir())[:3], tmp_path / "gone.png", tmp_path / f"{'long' * 80}.mp4"]
    for number, separator in enumerate((b"\r\n\r\n", b"\0")):
        out = tmp_path / f"{number}.csv"
        command = [sys.executable, "-m", "fer_edge.cli", "tag", "-", "--out", str(out), "--quiet"]
        stdin = separator.join(map(os.fsencode, [*paths, paths[0]]))
        result = subprocess.run(command, input=stdin, capture_output=True, timeout=200, check=True)
        assert (result.stdout, result.stderr) == (b"", b"")
        assert [row.path for row in read_table(out)] == [os.fsencode(path) for path in paths]


def test_closed_standard_input_gives_one_error_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert error_message(tmp_path / "t.csv", "-") == "-: standard input is closed; give a list there, or paths"
