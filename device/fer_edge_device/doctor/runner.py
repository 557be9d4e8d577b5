"""Run the checks in a child process.

A driver that hangs or a library that crashes takes down the child process, never the doctor.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_edge.errors import FerEdgeError
from fer_edge_device.doctor.base import Finding, run_check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection

    from fer_edge_device.config.settings import Config
    from fer_edge_device.doctor.base import Check

_START_TIMEOUT: Final = 60.0  # seconds for the child process to start, which a slow SD card can delay


def run_checks(config: Config, checks: Mapping[str, Check]) -> Iterator[Finding]:
    """Run checks one after the other.

    Args:
        config: the service's configuration.
        checks: the checks by name.

    Yields:
        The finding of each check, as soon as it is known.

    Raises:
        FerEdgeError: the child process did not start.
    """
    child: _Child | None = None
    try:
        for name, check in checks.items():
            child = child or _Child()
            finding = child.run(check, config)
            if finding is None:
                finding = child.stop(check)
                child = None
            yield replace(finding, name=name)
    finally:
        if child:
            child.stop(None)


class _Child:
    """The process that runs the checks."""

    def __init__(self) -> None:
        _leave_unusable_folder()
        # Spawned, because a fork would copy the threads and native libraries of this process in a broken state.
        context = multiprocessing.get_context("spawn")
        self._pipe, child_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(child_end,), daemon=True)
        self._process.start()
        child_end.close()
        if not self._pipe.poll(_START_TIMEOUT) or self._receive() is None:
            self.stop(None)
            raise FerEdgeError(
                f"the process that runs the checks did not start within {_START_TIMEOUT:.0f} s;"
                " is the machine overloaded?"
            )

    def run(self, check: Check, config: Config) -> Finding | None:
        """Return the finding of a check, or None if it hangs or its process crashed."""
        self._pipe.send((check.function, config))
        return self._receive() if self._pipe.poll(check.timeout) else None

    def stop(self, check: Check | None) -> Finding:
        """Stop the process and return the finding of the check that it did not finish."""
        # A crashed process may need a moment to exit. A hanging one has had its time.
        self._process.join(timeout=1)
        status = self._process.exitcode
        self._process.kill()
        self._process.join()
        self._pipe.close()
        if check is None or status is None:
            timeout, advice = (check.timeout, check.timeout_advice) if check else (0.0, "")
            return Finding("failure", f"no answer within {timeout:g} s", advice)
        reason = signal.Signals(-status).name if status < 0 else f"status {status}"
        return Finding(
            "failure",
            f"a native library crashed ({reason})",
            "reinstall the package it belongs to; FER_EDGE_NATIVE_LOG=1 shows what the library prints",
        )

    def _receive(self) -> Finding | None:
        try:
            finding: Finding = self._pipe.recv()
        except (EOFError, OSError):
            return None
        return finding


def _leave_unusable_folder() -> None:
    """Change to / if the working folder was removed or may not be entered: a child could not start in it."""
    try:
        os.chdir(Path.cwd())
    except OSError:
        os.chdir("/")  # relative paths did not work before either


def _serve(pipe: Connection[Any, Any]) -> None:
    """Run the checks that arrive on a pipe and send back their findings."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the doctor itself handles Ctrl-C
    if not os.environ.get("FER_EDGE_NATIVE_LOG"):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
    pipe.send(Finding("ok", "started"))
    with suppress(EOFError, OSError):
        while True:
            function, config = pipe.recv()
            pipe.send(run_check(function, config))
