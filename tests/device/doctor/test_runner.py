from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import FerEdgeError
from fer_edge_device.config.settings import Config
from fer_edge_device.doctor.base import Check, Finding
from fer_edge_device.doctor.runner import run_checks

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
from fer_edge_device.config.settings import Config
from fer_edge_device.doctor.checks import CHECKS
from fer_edge_device.doctor.runner import run_checks
for finding in run_checks(Config(), {"python": CHECKS["python"]}):
    print(finding.level, finding.name)
"""


def hangs(config: Config) -> Finding:
    del config
    time.sleep(600)
    return Finding("ok", "never")


def crashes(config: Config) -> Finding:
    del config
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(600)
    return Finding("ok", "never")


def raises(config: Config) -> Finding:
    raise ZeroDivisionError(config.node)


def refuses(config: Config) -> Finding:
    raise FerEdgeError(f"{config.node}: no such thing; make one")


def works(config: Config) -> Finding:
    return Finding("ok", config.node)


def test_reports_checks_that_hang_crash_or_fail_and_runs_the_others() -> None:
    checks = {
        "first": Check(works),
        "hung": Check(hangs, timeout=0.2, timeout_advice="unplug it"),
        "second": Check(works),
        "crashed": Check(crashes),
        "failed": Check(raises),
        "refused": Check(refuses),
        "last": Check(works),
    }
    first, hung, second, crashed, failed, refused, last = run_checks(Config(node="me"), checks)
    assert first == Finding("ok", "me", name="first")
    assert hung == Finding("failure", "no answer within 0.2 s", "unplug it", "hung")
    assert (second.message, last.message) == ("me", "me")
    assert "SIGSEGV" in crashed.message
    assert "ZeroDivisionError: me" in failed.message
    assert refused.message == "me: no such thing; make one"
    assert {finding.level for finding in (crashed, failed, refused)} == {"failure"}


@pytest.mark.parametrize("command", ["chmod 0 .", 'rmdir "$PWD"'], ids=["closed", "gone"])
def test_runs_in_a_folder_that_may_not_be_entered_or_was_removed(tmp_path: Path, command: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    # Without capabilities, permissions bind root, too.
    unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    if unprivileged and subprocess.run([*unprivileged, "true"], capture_output=True, check=False).returncode:
        pytest.skip("root cannot give up its capabilities here")
    result = subprocess.run(
        # -P keeps the working folder out of sys.path, as in the installed command.
        [*unprivileged, "sh", "-c", f'{command} && exec "$@"', "sh", sys.executable, "-P", "-c", SCRIPT],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok python\n", "")
