"""Log in to a real Mosquitto that is locked, encrypted or missing."""

from __future__ import annotations

import inspect
import math
import re
import socket
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
from paho.mqtt import publish

from fer_edge.errors import BrokerError
from fer_edge_device.config.settings import MqttSettings
from fer_edge_device.mqtt.backoff import Backoff
from fer_edge_device.mqtt.broker import Broker
from fer_edge_device.mqtt.login import connect
from fer_edge_device.mqtt.maintenance import check_login
from fer_edge_device.mqtt.sink import MqttSink
from tests.device.brokers import PASSWORD, USER, Certificates, Gate, Mosquitto, subscribing, wait_for
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


def test_reads_many_messages_in_one_step(tmp_path: Path) -> None:
    """Otherwise an OFF waits until each message before it has been handled on its own."""
    with Mosquitto(tmp_path / "broker") as broker, subscribing(broker.port) as subscriber:
        settings = MqttSettings(url=f"mqtt://localhost:{broker.port}")
        connection = connect(Broker(settings), "reader", deadline=lambda: math.inf)
        try:
            connection.subscribe(["flood"])
            while not connection.subscribed:
                connection.step(1.0)
            publish.multiple([{"topic": "flood", "payload": str(number)} for number in range(500)], port=broker.port)
            wait_for(lambda: subscriber.has_received(500), "the messages")
            connection.step(1.0)
            first = connection.take_received()
            assert 50 <= len(first) < 500, "but not without end"
            while len(first) < 500:
                connection.step(1.0)
                first += connection.take_received()
            assert [message.payload for message in first] == [str(number).encode() for number in range(500)]
        finally:
            connection.drop()


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
    with pytest.raises(BrokerError, match=r"did not answer the login within \d+ s"):
        check_login(MqttSettings(url=f"mqtt://localhost:{gate.port}"), "hall", timeout=1)


def test_falls_back_to_mqtt_3_1_1_when_a_login_with_5_is_not_answered(broker: Mosquitto, gate: Gate) -> None:
    gate.ignores_version_5, gate.target = True, broker.port
    settings = MqttSettings(url=f"mqtt://localhost:{gate.port}")
    assert "(MQTT 3.1.1)" in check_login(settings, "hall", timeout=5)  # the second login has as long
    assert gate.visits == 2
    forced = msgspec.structs.replace(settings, version="3.1.1")
    assert "(MQTT 3.1.1)" in check_login(forced, "hall", timeout=30)
    assert gate.visits == 3
    with pytest.raises(BrokerError, match="did not answer the login"):
        check_login(msgspec.structs.replace(settings, version="5"), "hall", timeout=0.5)
    assert gate.visits == 4


def test_tries_the_version_that_worked_first(gate: Gate, broker: Mosquitto, tmp_path: Path) -> None:
    gate.refuses_version_5, gate.target = True, broker.port
    with sending(tmp_path, gate.port) as sink:
        sink.publish(MESSAGES.event(event(1)))
        wait_for(lambda: sink.queued == 0, "a connection")
        assert gate.visits == 2
        broker.kill()
        broker.start()
        gate.target = broker.port
        sink.publish(MESSAGES.event(event(2)))
        wait_for(lambda: sink.queued == 0, "another")


def test_does_not_wait_long_after_repeated_outages() -> None:
    backoff = Backoff(*inspect.signature(MqttSink).parameters["backoff"].default)
    delays = [backoff.next_delay() for _ in range(500)]
    assert min(delays) >= 1
    assert max(delays) < 15
    assert len(set(delays)) > 50
    backoff.reset()
    assert backoff.next_delay() <= 3


ENDLESS = b"\x00" * 65_536


@pytest.mark.parametrize(
    "greeting",
    [b"", b"\x20\x03\x00\x00\x00"],
    ids=["before the login is answered", "after it"],
)
def test_closes_the_connection_when_a_packet_of_256_mb_is_announced(
    greeting: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sent = 0
    ended = threading.Event()

    def serve() -> None:
        nonlocal sent
        client, _ = server.accept()
        with client:
            client.recv(4096)
            try:
                client.sendall(greeting + b"\x30\xff\xff\xff\x7f")
                while sent < 100_000_000:
                    client.sendall(ENDLESS)
                    sent += len(ENDLESS)
            except OSError:
                pass
        ended.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        with sending(tmp_path, server.getsockname()[1], backoff=(60, 60)):
            assert ended.wait(60)
        thread.join()
    assert sent < 20_000_000, "what the system's buffers hold"
    assert "sent a packet of more than 65,536 bytes" in caplog.text
