"""Readers of what reaches a node: configuration, messages, its own files, and the bytes of cameras."""

from __future__ import annotations

import logging
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError, one_line
from fer_edge_device.capture.multipart import MultipartReader, TooLargeError
from fer_edge_device.config.edit import edit_config
from fer_edge_device.config.load import file_problems, load_config
from fer_edge_device.config.render import example
from fer_edge_device.config.settings import EventsSettings, OutboxSettings
from fer_edge_device.live_settings import SavedSettings, parse_change
from fer_edge_device.messages import MessageFactory
from fer_edge_device.mqtt.commands import Commands
from fer_edge_device.mqtt.connection import Received
from fer_edge_device.mqtt.outbox import Outbox
from fer_edge_device.mqtt.outbox_events import NewEvent

from .reader import Reader, is_one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

_MESSAGES: Final = MessageFactory("a", "fer-edge")


class _Lines(logging.Handler):
    """Checks each line of the log as the program would print it."""

    def emit(self, record: logging.LogRecord) -> None:
        assert is_one_line(one_line(record.getMessage())), record.getMessage()


logging.getLogger("fer_edge_device").addHandler(_Lines())
logging.getLogger("fer_edge_device").propagate = False


def device_readers() -> Iterator[Reader]:
    """Yield the readers."""
    change = b'{"margin": 0.2, "hold_s": 1}'
    saved = b'{"margin":{"value":0.2,"configured":0.1}}'
    texts = (example().replace("# ", "").encode(), b'node = "a"\n[camera]\nsource = "demo"\n')
    jpeg = b"\xff\xd8\xff\xe0image\xff\xd9"
    part = b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: 11\r\n\r\n" + jpeg + b"\r\n"
    yield Reader("config.toml", texts, load_config)
    yield Reader("check.toml", texts, _check_config)
    yield Reader("edit.toml", texts, _edit_config)
    yield Reader("change.json", (change,), lambda path: parse_change(path.read_bytes()))
    yield Reader("o.sqlite.settings.json", (saved,), _read_saved)
    yield Reader("mqtt", (b"ON", b"off", b"online", b"PRESS", change), _obey)
    yield Reader("stream.mjpeg", (part * 3 + b"--b--\r\n", jpeg * 3), _read_stream)
    yield Reader("o.sqlite", (_outbox(),), _read_outbox, cost=20)


def _check_config(path: Path) -> None:
    for line in file_problems(path):
        assert is_one_line(one_line(line)), line


def _edit_config(path: Path) -> None:
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        return
    if max(map(len, text.splitlines()), default=0) < 8192:  # as `read_text` refuses them
        edit_config(text, "x", model="edge", remove_password_file=True)


def _read_saved(path: Path) -> None:
    SavedSettings(path.with_name("o.sqlite")).apply(EventsSettings())


def _obey(path: Path) -> None:
    payload = path.read_bytes()
    topic = _MESSAGES.topic("settings/set")
    commands = Commands(
        _MESSAGES,
        on_switch=lambda command: command.on,
        others={topic: _change, _MESSAGES.topic("restart/set"): _restart},
        ha_status_topic="homeassistant/status",
        on_ha_start=lambda: None,
        remove=lambda _topic: None,
    )
    for each in (topic, _MESSAGES.topic("restart/set"), _MESSAGES.topic("enabled/set"), "homeassistant/status"):
        for retained in (False, True):
            commands.handle(Received(each, payload, retained))


def _change(payload: bytes) -> None:
    parse_change(payload)


def _restart(payload: bytes) -> None:
    if payload != b"PRESS":
        raise InputError("to restart the runner, send PRESS")


def _read_stream(path: Path) -> None:
    content = path.read_bytes()
    for bare in (False, True):
        reader = MultipartReader(bare=bare)
        try:
            for start in range(0, len(content), 100):
                reader.feed(content[start : start + 100])
                while reader.next_image():
                    pass
            reader.end()
            reader.next_image()
        except TooLargeError:
            pass


def _outbox() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "o.sqlite")
        outbox = Outbox(path, OutboxSettings())
        outbox.put([NewEvent("fer-edge/a/event", b"{}", 1.0 + n, f"t-{n}", 2.0 + n, is_end=False) for n in range(9)])
        outbox.close()
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        return path.read_bytes()


def _read_outbox(path: Path) -> None:
    for suffix in ("-wal", "-shm", ".damaged", ".damaged-wal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    outbox = Outbox(path, OutboxSettings())
    try:
        outbox.begin_run(goes_on=False)
        for event in (*outbox.fresh(0, 10), *outbox.backlog(0, 10)):
            outbox.seconds_fresh(event)
        outbox.delete([1, 2])
    finally:
        outbox.close()
