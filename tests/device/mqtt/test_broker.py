from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import InputError
from fer_edge_device.config.settings import MqttSettings
from fer_edge_device.mqtt.broker import Broker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.device.brokers import Certificates


def test_password_does_not_include_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("geheim\r\n", encoding="utf-8-sig")
    assert Broker(MqttSettings(url="mqtt://u@b", password_file=str(path))).password() == "geheim"


def test_refuses_settings_that_cannot_work(certificates: Certificates, tmp_path: Path) -> None:
    def refused(**settings: str) -> str:
        with pytest.raises(InputError) as failed:
            Broker(MqttSettings(**settings))  # type: ignore[arg-type]
        return str(failed.value)

    certificate, key = certificates.issue("device")
    empty, text = tmp_path / "empty", tmp_path / "text"
    empty.write_text("\n")
    text.write_text("no certificate")
    assert "mqtt.ca_file works only with an encrypted connection" in refused(url="mqtt://b", ca_file=str(text))
    assert "missing: mqtt.ca_file cannot be used (No such file" in refused(url="mqtts://b", ca_file="missing")
    assert "mqtt.ca_file cannot be used" in refused(url="mqtts://b", ca_file=str(text))
    assert "mqtt.cert_file and key_file cannot be used" in refused(url="mqtts://b", cert_file=str(text))
    assert "mqtt.key_file needs a certificate" in refused(url="mqtts://b", key_file=str(key))
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked],  # noqa: S607
        check=True,
    )
    assert "mqtt.key_file is encrypted" in refused(url="mqtts://b", cert_file=str(certificate), key_file=str(locked))
    assert "names no user for the broker's password" in refused(url="mqtt://b", password_file=str(text))
    assert "mqtt.password_file is empty" in refused(url="mqtt://u@b", password_file=str(empty))
    assert "cannot be read (No such file" in refused(url="mqtt://u@b", password_file=str(tmp_path / "missing"))
