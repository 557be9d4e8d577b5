"""Log in to a real Mosquitto that is locked, encrypted or missing."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from fer_edge.errors import BrokerError
from fer_edge_device.config.settings import MqttSettings
from fer_edge_device.mqtt.maintenance import check_login
from tests.device.brokers import PASSWORD, USER, Certificates, Gate, Mosquitto, wait_for
from tests.device.mqtt.helpers import MESSAGES, event, refusal, sending

if TYPE_CHECKING:
    from pathlib import Path


def test_reports_a_refused_login_once(tmp_path: Path, password_file: str, caplog: pytest.LogCaptureFixture) -> None:
    with Mosquitto(tmp_path / "broker", password=True) as broker, Gate() as gate:
        gate.target = broker.port
        wrong = tmp_path / "wrong"
        wrong.write_text("guess")
        url = f"mqtt://{USER}@localhost:{broker.port}"
        assert "refused the login (Not authorized); check the user camera and the password" in refusal(
            MqttSettings(url=url, password_file=str(wrong))
        )
        assert "mqtt.url names no user; use mqtt://user@host" in refusal(
            MqttSettings(url=f"mqtt://localhost:{broker.port}")
        )
        reached = check_login(MqttSettings(url=url, password_file=password_file), "hall")
        assert reached == f"mqtt://localhost:{broker.port} (MQTT 5), logged in as camera"
        with sending(tmp_path, gate.port) as sink:
            sink.publish(MESSAGES.event(event(1)))
            wait_for(lambda: gate.visits >= 5, "attempts")
            assert sink.queued == 1
    assert caplog.text.count("refused the login (Not authorized)") == 1


def test_reads_the_password_from_the_credentials_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mqtt-password").write_text(PASSWORD)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with Mosquitto(tmp_path / "broker", password=True) as broker:
        settings = MqttSettings(url=f"mqtt://{USER}@localhost:{broker.port}")
        assert "logged in as camera" in check_login(settings, "hall")
        (tmp_path / "mqtt-password").unlink()
        assert "refused the login" in refusal(settings)


def test_verifies_the_certificate_of_the_broker(certificates: Certificates, tmp_path: Path) -> None:
    certificate, key = certificates.issue("localhost")
    authority = str(certificates.authority)
    with Mosquitto(tmp_path / "broker", f"certfile {certificate}", f"keyfile {key}") as broker:
        address = f"localhost:{broker.port}"
        reached = check_login(MqttSettings(url=f"mqtts://{address}", ca_file=authority), "hall")
        assert re.fullmatch(rf"mqtts://{address} \(MQTT 5, TLSv1\.[23]\), logged in without a user", reached)
        message = refusal(MqttSettings(url=f"mqtts://{address}"))
        assert re.search(r"its certificate is not valid \(.*\); if it is your own, .* mqtt\.ca_file", message)
        message = refusal(MqttSettings(url=f"mqtts://127.0.0.1:{broker.port}", ca_file=authority))
        assert re.search(
            r"not valid \(IP address mismatch.*\); use the name that the certificate was issued for", message
        )
        message = refusal(MqttSettings(url=f"mqtt://{address}"))
        assert "closed the connection without an answer; is this its port for mqtts://, or is it no broker?" in message


def test_refuses_an_expired_certificate(certificates: Certificates, tmp_path: Path) -> None:
    certificate, key = certificates.issue("localhost", valid_until=datetime(2020, 1, 1, tzinfo=UTC))
    with Mosquitto(tmp_path / "broker", f"certfile {certificate}", f"keyfile {key}") as broker:
        message = refusal(MqttSettings(url=f"mqtts://localhost:{broker.port}", ca_file=str(certificates.authority)))
    assert "(certificate has expired); renew it, or set this machine's clock" in message


def test_presents_the_client_certificate(certificates: Certificates, tmp_path: Path) -> None:
    certificate, key = certificates.issue("localhost")
    client_certificate, client_key = certificates.issue("device")
    authority = certificates.authority
    lines = (f"certfile {certificate}", f"keyfile {key}", f"cafile {authority}", "require_certificate true")
    with Mosquitto(tmp_path / "broker", *lines) as broker:
        settings = MqttSettings(
            url=f"mqtts://localhost:{broker.port}",
            ca_file=str(authority),
            cert_file=str(client_certificate),
            key_file=str(client_key),
        )
        assert "logged in" in check_login(settings, "hall")
        message = refusal(msgspec.structs.replace(settings, cert_file="", key_file=""))
        # The broker's reason is lost if it closes before our first bytes have arrived.
        assert re.search(r"requires a client certificate; set mqtt\.cert_file|does it require mqtt\.cert_file", message)


def test_reports_an_address_without_a_broker(broker: Mosquitto, gate: Gate) -> None:
    assert "does not speak TLS" in refusal(MqttSettings(url=f"mqtts://localhost:{broker.port}"))
    assert "the host name is unknown" in refusal(MqttSettings(url="mqtt://broker.invalid"))
    assert "or is it no broker?" in refusal(MqttSettings(url=f"mqtt://localhost:{gate.port}"))
    broker.kill()
    assert "refused the connection; is a broker running there?" in refusal(
        MqttSettings(url=f"mqtt://localhost:{broker.port}")
    )
    gate.silent = True
    with pytest.raises(BrokerError, match="did not answer the login within 1 s"):
        check_login(MqttSettings(url=f"mqtt://localhost:{gate.port}"), "hall", timeout=1)
