"""Test the log lines of another process."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from fer_edge_device.logging import RateLimitedLog
from tests.device.brokers import wait_for

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import logging, sys
from fer_edge_device.config.settings import LogSettings
from fer_edge_device.logging import set_up_logging

set_up_logging(LogSettings(level=sys.argv[1], format=sys.argv[2]))
own, other = logging.getLogger("fer_edge_device.capture.factory"), logging.getLogger("picamera2")
own.debug("a detail")
own.info("ünderway")
own.warning("two\\nlines")
own.error("an error")
own.critical("the end")
other.info("other chatter")
other.warning("other warning")
"""


def log_lines(level: str, log_format: str, path: Path, environment: dict[str, str] | None = None) -> list[str]:
    with path.open("wb") as file:
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), level, log_format],
            stderr=file,
            check=True,
            env={**os.environ, "PYTHONUTF8": "1", **(environment or {})},
        )
    return path.read_text("utf-8").splitlines()


@pytest.mark.parametrize("log_format", ["plain", "auto"])
def test_lines_are_plain_without_a_journal(tmp_path: Path, log_format: str) -> None:
    assert log_lines("warning", log_format, tmp_path / "log") == [
        *("fer-edge: two", "lines", "fer-edge: an error", "fer-edge: the end", "fer-edge: other warning"),
    ]


def test_every_line_has_a_priority_under_the_journal(tmp_path: Path) -> None:
    # systemd gives device and inode of the stream that it connected, which may be any file.
    path = tmp_path / "log"
    path.touch()
    stream = {"JOURNAL_STREAM": f"{path.stat().st_dev}:{path.stat().st_ino}"}
    assert log_lines("info", "auto", path, stream) == [
        *("<6>ünderway", "<4>two", "<4>lines", "<3>an error", "<2>the end", "<4>other warning"),
    ]


def test_inherited_stream_is_not_taken_for_the_journal(tmp_path: Path) -> None:
    (last,) = log_lines("error", "auto", tmp_path / "log", {"JOURNAL_STREAM": "8:12345"})[1:]
    assert last == "fer-edge: the end"


def test_warnings_appear_while_native_output_is_hidden() -> None:
    script = """
import logging, os
from fer_edge.utils.native_stderr import hide_native_stderr
from fer_edge_device.config.settings import LogSettings
from fer_edge_device.logging import set_up_logging
set_up_logging(LogSettings())
with hide_native_stderr():
    os.write(2, b"chatter\\n")
    logging.getLogger("fer_edge_device.capture.factory").warning("the camera is gone")
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr.endswith("the camera is gone\n")
    assert len(result.stderr.splitlines()) == 1


def test_no_line_is_lost_while_another_thread_hides_native_output() -> None:
    script = """
import logging, threading
from fer_edge.utils.native_stderr import hide_native_stderr
from fer_edge_device.config.settings import LogSettings
from fer_edge_device.logging import set_up_logging
set_up_logging(LogSettings())
def log():
    for number in range(2000):
        logging.getLogger("fer_edge_device").warning("%d", number)
thread = threading.Thread(target=log)
thread.start()
while thread.is_alive():
    with hide_native_stderr():
        pass
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr.splitlines() == [f"fer-edge: {number}" for number in range(2000)]


def test_debug_level_shows_lines_of_all_packages(tmp_path: Path) -> None:
    lines = log_lines("debug", "journal", tmp_path / "log")
    assert lines[0] == "<7>a detail"
    assert "<6>other chatter" in lines


def test_json_lines_have_time_level_logger_and_message(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in log_lines("info", "json", tmp_path / "log")]
    assert [line["message"] for line in lines[:2]] == ["ünderway", "two\nlines"]
    assert set(lines[0]) == {"time", "level", "logger", "message"}
    assert (lines[0]["level"], lines[0]["logger"]) == ("info", "fer_edge_device.capture.factory")
    assert datetime.fromisoformat(lines[0]["time"]).tzinfo is not None


def test_lines_beyond_the_limit_are_counted_when_the_interval_is_over_or_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = RateLimitedLog(logging.getLogger("test"), logging.WARNING, "word", lines=2, interval=0.2)
    for word in ("a", "b", "c", "d"):
        log.log(word)
        log.flush()
    assert caplog.messages == ["a", "b"]

    def is_counted() -> bool:
        log.flush()
        return len(caplog.messages) > 2

    wait_for(is_counted, "the count")
    for word in ("e", "f", "g"):
        log.log(word)
    log.flush(at_end=True)
    log.flush(at_end=True)
    assert caplog.messages[2:] == ["2 more words were not logged", "e", "f", "1 more word was not logged"]


def test_process_without_standard_error_continues() -> None:
    command = f"exec \"{sys.executable}\" -c '{SCRIPT}' info auto 2>&-"
    subprocess.run(["/bin/sh", "-c", command], check=True)
