"""Test which files of folders and lists are tagged, and what is counted as left out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import cv2
import pytest

from fer_edge import demo
from fer_edge.errors import InputError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.tagging.input.sources import Sources
from fer_edge.tagging.options import TagOptions
from fer_edge.tagging.output.destinations import Outputs
from fer_edge.tagging.run import tag

if TYPE_CHECKING:
    from pathlib import Path

SYSTEM_FILES = (
    "._a.jpg",
    ".hidden.jpg",
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
    ".Trash-1000/files/b.jpg",
    "#recycle/b.jpg",
    "$RECYCLE.BIN/b.jpg",
    "__MACOSX/a.jpg",
    ".thumbnails/c.jpg",
    "sub/@EADIR/c.jpg",
)


def make_files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def list_paths(sources: Sources, folder: Path) -> list[str]:
    return [pending.source.path.removeprefix(f"{folder}/") for pending in sources]


def test_folder_leaves_out_and_counts_hidden_and_system_files(tmp_path: Path) -> None:
    make_files(tmp_path, *SYSTEM_FILES, "a.JFIF", "b.mpo", "sub/c.heic", "notes.txt", "b.xmp", "sub/raw.xmp", "README")
    sources = Sources([str(tmp_path)])
    assert list_paths(sources, tmp_path) == ["a.JFIF", "b.mpo", "sub/c.heic"]
    assert sources.left_out.lines() == (
        "9 hidden or system files and folders",
        "4 files of other kinds (.xmp 2, .txt 1)",
    )
    assert list_paths(sources, tmp_path) == ["a.JFIF", "b.mpo", "sub/c.heic"]
    assert sources.left_out.system == 9


def test_named_files_and_folders_are_tagged_even_if_hidden(tmp_path: Path) -> None:
    make_files(tmp_path, "@eaDir/a.jpg", ".b.jpg")
    sources = Sources([str(tmp_path / "@eaDir"), str(tmp_path / ".b.jpg")])
    assert list_paths(sources, tmp_path) == ["@eaDir/a.jpg", ".b.jpg"]
    assert sources.left_out.lines() == ()


def test_typescript_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "film.ts").write_bytes(b"G" + bytes(187))
    (tmp_path / "00001.MTS").write_bytes(bytes(4) + b"G" + bytes(187))
    (tmp_path / "index.ts").write_text("export {}")
    sources = Sources([str(tmp_path)])
    assert list_paths(sources, tmp_path) == ["00001.MTS", "film.ts"]
    assert sources.left_out.lines() == ("1 file of another kind (.ts 1)",)


@pytest.mark.timeout(60)
def test_no_pipe_stops_a_run(tmp_path: Path) -> None:
    """Opening a pipe waits for its other end: where a folder is listed, a video is hashed, or a sidecar exists."""
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.jpg"), demo.frame(60))
    os.mkfifo(tmp_path / "pipe")
    for name in ("film.ts", "b.mp4", "c.zip", "d.png", "a.jpg.xmp"):
        (folder / name).symlink_to(tmp_path / "pipe")
    os.mkfifo(folder / "e.mts")
    options = TagOptions(model=str(DEFAULT_MODEL), sha256=True, sidecars=True)
    assert tag([str(folder)], Outputs(str(tmp_path / "t.csv")), options).faces == 3
    rows = (tmp_path / "t.csv").read_text().splitlines()
    assert len([row for row in rows if "not a regular file" in row or "no such file" in row]) == 5


def test_summary_and_error_tell_what_was_left_out(tmp_path: Path) -> None:
    make_files(tmp_path / "in", "._a.jpg", "notes.txt")
    options = TagOptions(model=str(DEFAULT_MODEL))
    with pytest.raises(InputError, match=r"no images \(left out: 1 hidden or system file or folder; 1 file of another"):
        tag([str(tmp_path / "in")], Outputs(str(tmp_path / "t.csv")), options)
    cv2.imwrite(str(tmp_path / "in" / "a.png"), demo.frame(60))
    summary = tag([str(tmp_path / "in")], Outputs(str(tmp_path / "t.csv")), options)
    assert summary.left_out == ("1 hidden or system file or folder", "1 file of another kind (.txt 1)")


def test_archive_leaves_out_and_counts_the_same(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a.jpg", "in/@eaDir/a.jpg", "._a.jpg", "../b.jpg", "notes.txt"):
            archive.writestr(name, b"x")
    sources = Sources([str(tmp_path / "a.zip")])
    assert list_paths(sources, tmp_path) == ["a.zip/a.jpg", "a.zip/../b.jpg"]
    assert sources.left_out.lines() == (
        "2 hidden or system files and folders",
        "1 file of another kind (.txt 1)",
    )


@pytest.mark.parametrize(
    ("null", "content", "expected"),
    [
        (False, "\ufeffa.png\r\nb.png\r\n".encode(), ["a.png", "b.png"]),
        (False, "\ufeffä.png\r\nb.png".encode("utf-16-le"), ["ä.png", "b.png"]),
        (False, "\ufeffa.png\n".encode("utf-16-be"), ["a.png"]),
        (False, b"a.png\0new\nline.png\0", ["a.png", "new\nline.png"]),
        (True, b"new\nline.png", ["new\nline.png"]),
        (False, b"a", ["a"]),
        (False, b"a" * 100_000 + b"\nb.png", ["a" * 8192, "b.png"]),
        (False, b"", []),
    ],
)
def test_reads_lists_as_tools_write_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, null: bool, content: bytes, expected: list[str]
) -> None:
    (tmp_path / "list").write_bytes(content)
    with (tmp_path / "list").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert [pending.source.path for pending in Sources(["-"], null=null)] == expected


def test_tag_command_takes_null_separated_names(tmp_path: Path) -> None:
    name = tmp_path / "new\nline.png"
    cv2.imwrite(str(tmp_path / "a.png"), demo.frame(60))
    shutil.move(tmp_path / "a.png", name)
    command = [sys.executable, "-m", "fer_edge.cli", "tag", "-", "-0", "--out", str(tmp_path / "t.csv")]
    result = subprocess.run([*command, "--workers", "1"], input=os.fsencode(name), capture_output=True, check=True)
    assert b"1 image, 3 faces, 0 errors" in result.stdout
