"""What is said on standard error, by a process of its own that says it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SAYING = """
import logging, sys
from fer_edge_device.config.settings import LogSettings
from fer_edge_device.logging import set_up_logging

set_up_logging(LogSettings(level=sys.argv[1], format=sys.argv[2]))
ours, theirs = logging.getLogger("fer_edge_device.capture.factory"), logging.getLogger("picamera2")
ours.debug("a detail")
ours.info("ünderway")
ours.warning("two\\nlines")
ours.error("an error")
ours.critical("the end")
theirs.info("their chatter")
theirs.warning("their warning")
"""


def said(level: str, form: str, path: Path, environment: dict[str, str] | None = None) -> list[str]:
    with path.open("wb") as file:
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SAYING), level, form],
            stderr=file,
            check=True,
            env={**os.environ, "PYTHONUTF8": "1", **(environment or {})},
        )
    return path.read_text("utf-8").splitlines()


@pytest.mark.parametrize("form", ["plain", "auto"])
def test_without_a_journal_lines_are_plain(tmp_path: Path, form: str) -> None:
    assert said("warning", form, tmp_path / "log") == [
        *("fer-edge: two", "lines", "fer-edge: an error", "fer-edge: the end", "fer-edge: their warning"),
    ]


def test_under_the_journal_every_line_has_its_priority(tmp_path: Path) -> None:
    # systemd tells device and inode of the stream that it connected, which may be any file.
    path = tmp_path / "log"
    path.touch()
    stream = {"JOURNAL_STREAM": f"{path.stat().st_dev}:{path.stat().st_ino}"}
    assert said("info", "auto", path, stream) == [
        *("<6>ünderway", "<4>two", "<4>lines", "<3>an error", "<2>the end", "<4>their warning"),
    ]


def test_a_stream_that_was_inherited_from_a_service_is_not_taken_for_the_journal(tmp_path: Path) -> None:
    (last,) = said("error", "auto", tmp_path / "log", {"JOURNAL_STREAM": "8:12345"})[1:]
    assert last == "fer-edge: the end"


def test_a_warning_is_heard_while_native_libraries_are_not() -> None:
    script = """
import logging, os
from fer_edge.utils.native_stderr import native_stderr_hidden
from fer_edge_device.config.settings import LogSettings
from fer_edge_device.logging import set_up_logging
set_up_logging(LogSettings())
with native_stderr_hidden():
    os.write(2, b"chatter\\n")
    logging.getLogger("fer_edge_device.capture.factory").warning("the camera is gone")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.endswith("the camera is gone\n")
    assert len(done.stderr.splitlines()) == 1


def test_debug_has_everybodys_lines(tmp_path: Path) -> None:
    lines = said("debug", "journal", tmp_path / "log")
    assert lines[0] == "<7>a detail"
    assert "<6>their chatter" in lines


def test_json_lines_tell_time_level_logger_and_message(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in said("info", "json", tmp_path / "log")]
    assert [line["message"] for line in lines[:2]] == ["ünderway", "two\nlines"]
    assert set(lines[0]) == {"time", "level", "logger", "message"}
    assert (lines[0]["level"], lines[0]["logger"]) == ("info", "fer_edge_device.capture.factory")
    assert datetime.fromisoformat(lines[0]["time"]).tzinfo is not None


def test_a_process_without_standard_error_goes_on() -> None:
    command = f"exec \"{sys.executable}\" -c '{SAYING}' info auto 2>&-"
    subprocess.run(["/bin/sh", "-c", command], check=True)
