"""A ``fer-edge run`` in another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Running:
    """A ``fer-edge run`` in another process whose messages and log can be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.process = subprocess.Popen(
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
