from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fer_edge_device.doctor.checks import CHECKS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli


def test_the_command_exits_with_1_after_a_failure(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[camera]\nsource = "demo"\n')
    lines = cli("doctor", "--config", config).stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["ok"] * 3
    assert f"{len(CHECKS)} checks: 0 failures, " in lines[-1]
    config.write_text('model = "nothing.tflite"\n[camera]\nsource = "demo"\n')
    findings = json.loads(cli("doctor", "--config", config, "--json", status=1).stdout)
    assert [finding["name"] for finding in findings] == list(CHECKS)
    assert [finding["message"] for finding in findings if finding["level"] == "failure"] == [
        "nothing.tflite: no such model file"
    ]
    config.write_text("nodes = 1\n")
    assert "did you mean node?" in cli("doctor", "--config", config, status=2).stderr
