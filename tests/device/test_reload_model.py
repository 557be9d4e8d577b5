"""A model that crashes the runtime must not end a run that reloads it."""

from __future__ import annotations

import hashlib
import logging
import socket
from typing import TYPE_CHECKING

import msgspec

from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes, with_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge.tflite import trial
from fer_edge_device.app import App
from fer_edge_device.config.settings import CameraSettings, Config

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def write_model(path: Path, padding: bytes = b"") -> None:
    """Write the shipped model, with a hash of its own if there is padding."""
    model = model_bytes(DEFAULT_MODEL) + padding
    digest = hashlib.sha256(model).hexdigest()
    card = msgspec.structs.replace(read_card(DEFAULT_MODEL, ClassifierCard), flatbuffer_sha256=digest)
    path.write_bytes(with_card(model, card))


def test_goes_on_with_the_old_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m.tflite"
    write_model(path)
    config = Config(model=str(path), camera=CameraSettings(source="demo"))
    app = App(config, version="1", realtime=False, read_config=lambda: config)
    before = app._runner.identity
    write_model(path, bytes(8))
    command = trial._COMMAND
    monkeypatch.setattr(trial, "_COMMAND", "import os; os.abort()")
    caplog.set_level(logging.INFO)
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    app._reload()
    notices = [systemd.recv(4096).decode() for _ in range(3)]
    assert notices[1].startswith("STATUS=configuration not reloaded at ")
    assert "m.tflite: crashes the runtime" in notices[1]
    assert "m.tflite: crashes the runtime (SIGABRT in a process of its own)" in caplog.text
    assert app._runner.identity == before
    monkeypatch.setattr(trial, "_COMMAND", command)
    app._reload()
    assert "configuration reloaded" in caplog.text
    assert app._runner.identity != before
    # The installer waits for this.
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    assert [systemd.recv(4096).decode() for _ in range(3)][1:] == [f"STATUS=model edge-{digits}", "READY=1"]
    systemd.close()
    app._close_source()
