"""Slow work is shown on a terminal, and leaves nothing there."""

from __future__ import annotations

import io
import re
import time

import pytest

from fer_edge.cli import waiting
from fer_edge.cli.waiting import show_work


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def wait_for(screen: Screen, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in screen.getvalue():
        assert time.monotonic() < deadline, screen.getvalue()
        time.sleep(0.01)


def test_slow_work_is_shown_and_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(waiting, "_DELAY_S", 0.0)
    with show_work("reading faces"), show_work("something within it"):
        wait_for(screen, "reading faces: 0 s\r")
    assert screen.getvalue().endswith("\r\x1b[K")
    assert "within" not in screen.getvalue()
    before = len(screen.getvalue())
    with show_work("more"):
        wait_for(screen, "more: 0 s\r")
    assert re.fullmatch(r"(\r\x1b\[Kmore: \d+ s\r)+\r\x1b\[K", screen.getvalue()[before:])


def test_the_part_that_is_done_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(waiting, "_DELAY_S", 0.0)
    monkeypatch.setattr(waiting, "_INTERVAL_S", 0.01)
    with show_work("reading") as work:
        wait_for(screen, "reading: 0 s\r")
        work.count(512, 10_000)
        wait_for(screen, "reading: 512 of 10,000, 0 s\r")


def test_an_error_ends_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(waiting, "_DELAY_S", 0.0)

    def fail() -> None:
        with show_work("reading"):
            wait_for(screen, "reading: 0 s\r")
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    assert screen.getvalue().endswith("\r\x1b[K")


def test_quick_work_and_files_get_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for screen in (Screen(), io.StringIO()):
        monkeypatch.setattr("sys.stderr", screen)
        with show_work("reading"):
            pass
        assert screen.getvalue() == ""
