"""A ``fer-edge run`` in another process, and what it tells systemd."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest


class Running:
    """A ``fer-edge run`` in another process whose messages and log can be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.process = Process(
            [sys.executable, "-m", "fer_edge.cli", "run", "--config", path, "--realtime"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENCV_FFMPEG_LOGLEVEL": "-8"},
        )

    def until(self, kind: str, **fields: object) -> dict[str, Any]:
        """Return the next message of a topic with these fields."""
        assert self.process.stdout
        for line in self.process.stdout:
            message: dict[str, Any] = json.loads(line)
            payload = message["payload"]
            if message["topic"].endswith(kind) and all(payload[name] == value for name, value in fields.items()):
                return message
        raise AssertionError(f"no {kind} with {fields} came: {self.process.stderr and self.process.stderr.read()}")

    def log_line(self) -> str:
        """Return the next line of the log."""
        assert self.process.stderr
        return self.process.stderr.readline()

    def change(self, text: str) -> None:
        self._path.write_text(text)
        self.process.send_signal(signal.SIGHUP)


@contextmanager
def systemd_notices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[queue.Queue[str]]:
    """Take the notices to systemd at once, as systemd does."""
    notices: queue.Queue[str] = queue.Queue()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(folder / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))

        def listen() -> None:
            while notice := receiver.recv(1000).decode():
                notices.put(notice)

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield notices
        finally:
            receiver.shutdown(socket.SHUT_RD)
            listener.join()
