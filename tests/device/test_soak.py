"""Test a short run of the soak benchmark in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_memory_files_and_threads_do_not_grow() -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--frames", "2000", "--from", "700"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "device"), *sys.path])},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "after 2000 frames" in result.stdout
