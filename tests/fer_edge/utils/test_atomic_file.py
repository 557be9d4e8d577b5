"""Test that files are written whole or not at all, whenever the writer is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fer_edge.errors import InputError
from fer_edge.utils.atomic_file import ensure_writable, replacing

# Forks for the same work again and again. The n-th fork is killed before its n-th call to the operating system that
# opens, renames or removes a file. Prints the files that each kill has left, until a fork does its work to the end.
PROGRAM = """
import itertools, json, os, signal, sys
from pathlib import Path
from fer_edge.utils.atomic_file import ensure_writable, replacing

def replace(path):
    with replacing(path) as temporary:
        temporary.write_text("new")

def kill_before(event, args):
    if event in ("open", "os.rename", "os.remove") and next(calls) == last:
        os.kill(os.getpid(), signal.SIGKILL)

path = Path(sys.argv[1])
for last in itertools.count(1):
    pid = os.fork()
    if not pid:
        calls = itertools.count(1)
        sys.addaudithook(kill_before)
        {work}(path)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != -signal.SIGKILL:
        sys.exit(status)
    print(json.dumps({{file.name: file.read_text() for file in path.parent.iterdir()}}))
"""


def leftovers_of_kills(work: str, path: Path) -> list[dict[str, str]]:
    """Return names and contents of the files beside a path after each kill."""
    command = [sys.executable, "-c", PROGRAM.format(work=work), str(path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines
    return [json.loads(line) for line in lines]


def test_killed_replacement_leaves_the_complete_old_or_new_file(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    leftovers = leftovers_of_kills("replace", path)
    assert {name for files in leftovers for name in files if not name.startswith(".")} == {"out.txt"}
    assert {files["out.txt"] for files in leftovers} == {"old", "new"}
    assert path.read_text() == "new"


def test_killed_check_leaves_nothing(tmp_path: Path) -> None:
    assert not any(leftovers_of_kills("ensure_writable", tmp_path / "out.txt"))
    assert not list(tmp_path.iterdir())


def test_failed_replacement_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("folder", "Is a directory"),
        ("file/out.txt", "Not a directory|File exists"),
        (f"{'n' * 250}.txt", "File name too long"),
        ("pipe", "a device, pipe or socket"),
        ("s3://bucket/out.txt", "an address; only a file on this machine"),
    ],
)
def test_check_finds_what_writing_would_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    os.mkfifo("pipe")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=problem):
        ensure_writable(Path(name))
    with pytest.raises(InputError, match=problem), replacing(Path(name)):
        pass
    assert sorted(tmp_path.iterdir()) == before
