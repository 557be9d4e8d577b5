from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import FerEdgeError, InputError
from fer_edge.review.decisions import DecisionLog, check_reviewer, list_logs, read_log
from tests.processes import Process

if TYPE_CHECKING:
    from pathlib import Path

A, B = "a" * 64, "b" * 64
# Records one answer after another, and says each when it is recorded.
WRITER = """
import sys
from pathlib import Path
from fer_edge.review.decisions import DecisionLog
with DecisionLog(Path(sys.argv[1]), "ann") as log:
    for number in range(100_000):
        log.record({f"{number:064x}": "happy"})
        print(number, flush=True)
"""


def test_answers_undo_and_what_came_before(tmp_path: Path) -> None:
    with DecisionLog(tmp_path, "ann") as log:
        log.record({A: "happy", B: "happy"})
        log.record({A: "sad"})
        before = log.decisions.last_undoable
        assert before == {A: "happy"}
        log.record(before, undo=True)
    with DecisionLog(tmp_path, "ann") as log:
        assert {face: answer.label for face, answer in log.decisions.answers.items()} == {A: "happy", B: "happy"}
        assert log.decisions.last_undoable == {A: None, B: None}
        log.record({A: None, B: None}, undo=True)
        assert log.decisions.answers == {}
        assert log.decisions.last_undoable is None


def test_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    for count in (3, 30):
        with Process(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout
            acknowledged = [int(writer.stdout.readline()) for _ in range(count)]
            os.kill(writer.pid, signal.SIGKILL)
            acknowledged += [int(line) for line in writer.stdout if line.endswith("\n")]
        answers = read_log(tmp_path / "ann.jsonl").answers
        assert {f"{number:064x}" for number in acknowledged} <= set(answers)


def test_line_that_a_power_cut_left_half_is_passed_over(tmp_path: Path) -> None:
    with DecisionLog(tmp_path, "ann") as log:
        log.record({A: "happy"})
    with (tmp_path / "ann.jsonl").open("ab") as file:
        file.write(b'{"time":"2026-')
    with DecisionLog(tmp_path, "ann") as log:
        assert log.decisions.faults == 1
        log.record({B: "sad"})
    decisions = read_log(tmp_path / "ann.jsonl")
    assert {face: answer.label for face, answer in decisions.answers.items()} == {A: "happy", B: "sad"}


def test_log_of_a_stranger_cannot_name_folders_or_hide_text(tmp_path: Path) -> None:
    lines = [
        {"time": "now", "labels": {A: "../../evil"}},
        {"time": "now", "labels": {"../x": "happy"}},
        {"time": "now\x1b[2J", "labels": {A: "happy"}},
        {"time": "now", "labels": {A: "sad\nhappy"}},
        {"time": "now", "labels": [A]},
        [],
        {"time": "2026-11-30T12:00:00Z", "labels": {B: "cannot tell"}},
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    (tmp_path / "eve.jsonl").write_bytes(text + b"\xff\xfe\n" + b"[" * 10_000)
    decisions = read_log(tmp_path / "eve.jsonl")
    assert set(decisions.answers) == {B}
    assert decisions.faults == 8


def test_two_processes_do_not_write_one_log(tmp_path: Path) -> None:
    with DecisionLog(tmp_path, "ann"), DecisionLog(tmp_path, "bob"):
        with pytest.raises(InputError, match="another `fer-edge review`"):
            DecisionLog(tmp_path, "ann")
        assert [path.stem for path in list_logs(tmp_path)] == ["ann", "bob"]


def test_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_some(file: int, data: bytes) -> int:
        if len(data) > 10:
            return write(file, data[:10])
        raise OSError(28, "No space left on device")

    with DecisionLog(tmp_path, "ann") as log:
        log.record({A: "happy"})
        before = (tmp_path / "ann.jsonl").read_bytes()
        write = os.write
        monkeypatch.setattr(os, "write", write_some)
        with pytest.raises(FerEdgeError, match="make room"):
            log.record({B: "x" * 3})
        monkeypatch.undo()
        assert (tmp_path / "ann.jsonl").read_bytes() == before
        assert B not in log.decisions.answers


@pytest.mark.parametrize("name", ["", "../ann", "a/b", ".ann", "ann.", "a" * 61, "a\nb", "-x"])
def test_names_that_cannot_be_files(name: str) -> None:
    with pytest.raises(InputError, match="--reviewer"):
        check_reviewer(name)
