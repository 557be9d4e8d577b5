"""Let systemd check the units without running them; tests/system/test_service.py runs one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "systemd"
UNITS = ("fer-edge.service", "fer-edge@.service")

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the units, with an existing program, which `systemd-analyze verify` requires."""
    for name in UNITS:
        text = (FOLDER / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/fer-edge/current/bin/fer-edge", shutil.which("true") or ""))
    return tmp_path


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit_without_a_warning(folder: Path, name: str) -> None:
    verify = ["systemd-analyze", "verify", "--man=no", str(folder / name)]
    result = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_the_units_exposure_is_at_most_1_2(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    analyse = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=12", str(folder / name)]
    result = subprocess.run(analyse, capture_output=True, text=True, check=False)
    with capsys.disabled():
        print("\n" + result.stdout.strip().splitlines()[-1], end=" ")  # noqa: T201 - for the log of the test run
    assert result.returncode == 0, result.stdout + result.stderr
    level = re.search(r"exposure level for \S+: ([\d.]+)", result.stdout)
    assert level
    assert float(level[1]) <= 1.2


def test_the_template_differs_only_in_the_paths_of_configuration_and_state() -> None:
    unit, template = (_settings((FOLDER / name).read_text()) for name in UNITS)
    assert {line.partition("=")[0] for line in unit ^ template} == {
        *("Description", "Documentation", "ExecStart", "StateDirectory"),
    }


def _settings(text: str) -> set[str]:
    return {line for line in text.splitlines() if line and not line.startswith("#")}
