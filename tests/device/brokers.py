"""A real Mosquitto that tests can start, kill and subscribe to, and a proxy in front of it."""

from __future__ import annotations

import getpass
import os
import select
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Self

import paho.mqtt.client as paho
import trustme
from paho.mqtt.enums import CallbackAPIVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

TIMEOUT = 60.0  # seconds; a loaded machine is slow
USER, PASSWORD = "camera", "open sesame"
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def wait_for(condition: Callable[[], object], description: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"{description} did not happen within {TIMEOUT:.0f} s"
        time.sleep(0.005)


def program(name: str) -> str:
    path = shutil.which(name, path=SEARCH)
    assert path, f"{name} is missing, which the tests of MQTT need: sudo apt install mosquitto"
    return path


class Certificates:
    """A certificate authority and its certificates, as files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._authority = trustme.CA()
        self.authority = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(self.authority)

    def issue(self, name: str, *, valid_until: datetime | None = None) -> tuple[Path, Path]:
        """Issue a certificate and return its file and the file of its key."""
        issued = self._authority.issue_cert(name, not_after=valid_until)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key


class Mosquitto:
    """A broker. Each start uses another port and remembers nothing of the previous one."""

    def __init__(self, folder: Path, *lines: str, password: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        # Started as root, it would switch to a user who cannot read the folder.
        self._lines = [f"user {getpass.getuser()}", "persistence false", *lines]
        if password:
            file = folder / "passwords"
            file.touch(0o600)
            subprocess.run([program("mosquitto_passwd"), "-b", file, USER, PASSWORD], check=True, capture_output=True)
            self._lines += ["allow_anonymous false", f"password_file {file}"]
        else:
            self._lines.append("allow_anonymous true")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> None:
        for _ in range(5):  # another process may take the port first
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
            configuration = self._folder / "mosquitto.conf"
            configuration.write_text("\n".join([f"listener {self.port} 127.0.0.1", *self._lines]) + "\n")
            with (self._folder / "mosquitto.log").open("ab") as log:
                self._process = subprocess.Popen([program("mosquitto"), "-c", configuration], stdout=log, stderr=log)
            wait_for(lambda: self._listens() or self._ended(), "Mosquitto starts")
            if not self._ended():
                return
        raise AssertionError((self._folder / "mosquitto.log").read_text())

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def reload(self) -> None:
        """Reload rules and passwords."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def freeze(self) -> None:
        """Stop responding, but keep every connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class ReceivedMessage(NamedTuple):
    topic: str
    payload: bytes
    retained: bool


class Subscriber:
    """A client that records all messages in the broker's order, also over several connections."""

    def __init__(self, *, authority: Path | None = None, password: bool = False) -> None:
        self.received: list[ReceivedMessage] = []
        self._authority, self._password = authority, password
        self._client: paho.Client | None = None
        self._lost = threading.Event()

    def connect(self, port: int, topic: str = "#") -> None:
        """Subscribe. Retained messages have arrived when this returns."""
        subscribed = threading.Event()
        self._client = client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        if self._password:
            client.username_pw_set(USER, PASSWORD)
        if self._authority:
            client.tls_set_context(ssl.create_default_context(cafile=str(self._authority)))
        client.on_message = lambda _client, _data, message: self.received.append(
            ReceivedMessage(message.topic, bytes(message.payload), message.retain)
        )
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_disconnect = lambda *_: self._lost.set()
        self._lost.clear()
        client.connect("localhost", port)
        client.loop_start()
        client.subscribe(topic)
        assert subscribed.wait(TIMEOUT)

    def publish(self, topic: str, payload: str, *, retain: bool = False) -> None:
        assert self._client is not None
        self._client.publish(topic, payload, 1, retain).wait_for_publish(TIMEOUT)

    def wait_for_end(self) -> None:
        """Wait for the last messages of a broker that was killed."""
        assert self._lost.wait(TIMEOUT)
        self.drop()

    def drop(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def has_received(self, count: int) -> bool:
        return len(self.received) >= count

    def payloads(self, topic: str) -> list[bytes]:
        return [received.payload for received in list(self.received) if received.topic == topic]


@contextmanager
def subscribing(port: int) -> Iterator[Subscriber]:
    subscriber = Subscriber()
    subscriber.connect(port)
    try:
        yield subscriber
    finally:
        subscriber.drop()


class Gate:
    """A proxy with a port of its own that leads to a broker or to nowhere, as the test needs.

    Attributes:
        port: of the proxy; it never changes.
        target: port of the broker; None closes every connection at once.
        silent: whether connections are accepted and never answered.
        refuses_version_5: whether a login with MQTT 5 is answered as by a broker that supports only 3.1.1.
        ignores_version_5: whether it is not answered at all, as by amqtt 0.12.
        visits: the number of connections so far.
    """

    def __init__(self) -> None:
        self.target: int | None = None
        self.silent = self.refuses_version_5 = self.ignores_version_5 = False
        self.visits = 0
        self._server = _Server(self)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shut = True
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    request_queue_size = 64

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.shut = False
        super().__init__(("127.0.0.1", 0), _Visit)


class _Visit(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        gate = self.server.gate
        gate.visits += 1
        while gate.silent and not self.server.shut:
            time.sleep(0.02)
        if gate.target is None:
            return
        first = self.request.recv(4096) if gate.refuses_version_5 or gate.ignores_version_5 else b""
        if first[8:9] == b"\x05":  # 0x10, length, 4 letters "MQTT" after their length, version
            if gate.refuses_version_5:
                self.request.sendall(b"\x20\x02\x00\x01")
            else:
                self.request.recv(1)  # until the client gives up
            return
        try:
            with socket.create_connection(("127.0.0.1", gate.target)) as broker:
                broker.sendall(first)
                self._relay(broker)
        except OSError:
            return

    def _relay(self, broker: socket.socket) -> None:
        ways: Sequence[tuple[socket.socket, socket.socket]] = [(self.request, broker), (broker, self.request)]
        while not self.server.shut:
            ready, _, _ = select.select([broker, self.request], [], [], 0.1)
            for source, sink in ways:
                if source in ready:
                    data = source.recv(65_536)
                    if not data:
                        return
                    sink.sendall(data)
