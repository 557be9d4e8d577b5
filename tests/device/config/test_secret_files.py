from __future__ import annotations

from typing import TYPE_CHECKING

from fer_edge_device.config.secret_files import open_secrets
from fer_edge_device.config.settings import CameraSettings, Config, MqttSettings
from fer_edge_device.doctor.secrets import check_secrets

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli


def test_finds_passwords_that_every_user_can_read(tmp_path: Path) -> None:
    password, key, file = tmp_path / "password", tmp_path / "key.pem", tmp_path / "c.toml"
    for path in (password, key, file):
        path.write_text("x")
        path.chmod(0o640)
    mqtt = MqttSettings(url="mqtt://me@b", password_file=str(password), key_file=str(key))
    config = Config(mqtt=mqtt, camera=CameraSettings(source="rtsp://me:secret@h/s"))
    assert open_secrets(config, file) == []
    assert check_secrets(config).level == "ok"
    for path in (password, key, file):
        path.chmod(0o644)
    assert [line.partition(":")[0] for line in open_secrets(config, file)] == [str(password), str(key), str(file)]
    assert check_secrets(config).level == "warning"
    password.unlink()
    assert len(open_secrets(config, file)) == 2
    assert open_secrets(Config(), file) == []


def test_check_warns_of_them(cli: Cli, tmp_path: Path) -> None:
    password, file = tmp_path / "password", tmp_path / "c.toml"
    password.write_text("never to be printed")
    password.chmod(0o644)
    file.write_text(f'mqtt.url = "mqtt://me@b"\nmqtt.password_file = "{password}"\n')
    result = cli("config", "--config", file, "--check")
    assert f"fer-edge: warning: {password}: every user of this machine can read" in result.stderr
    assert "never to be printed" not in result.stderr + result.stdout
    assert result.stdout == f"{file}: valid\n"
