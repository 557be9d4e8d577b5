from __future__ import annotations

import shutil
import types
from typing import TYPE_CHECKING

from fer_edge_device.config.settings import Config, MqttSettings, OutboxSettings
from fer_edge_device.doctor.outbox import check_outbox, outbox_file

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from fer_edge_device.doctor.base import Finding


def test_checks_the_folder_of_the_outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(path: Path | str) -> Finding:
        settings = OutboxSettings(path=str(path), max_events=1000)
        return check_outbox(Config(mqtt=MqttSettings(url="mqtt://broker"), outbox=settings))

    assert check_outbox(Config()).message == "not needed without a broker"
    assert check(tmp_path / "deep" / "down" / "outbox.sqlite").message.startswith(f"{tmp_path}: ")
    assert list(tmp_path.iterdir()) == []
    assert check("/proc/outbox.sqlite").level == "failure"
    for free, level in ((10e6, "failure"), (1e9, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: types.SimpleNamespace(free=free))
        assert check(tmp_path / "outbox.sqlite").level == level
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert outbox_file(Config(), installed=False).parent == tmp_path / "fer-edge"
    assert str(outbox_file(Config(), installed=True).parent) == "/var/lib/fer-edge"
