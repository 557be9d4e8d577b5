from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING

from fer_edge_device.doctor import picamera2
from fer_edge_device.doctor.picamera2 import check_picamera2, explain_import_error
from tests.device.doctor.helpers import with_source

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_names_the_missing_package(tmp_path: Path) -> None:
    missing = ModuleNotFoundError("No module named 'libcamera._libcamera'", name="libcamera._libcamera")
    assert "sudo apt install python3-libcamera " in explain_import_error(missing, tmp_path, "/usr")[1]
    pykms = ModuleNotFoundError("No module named 'pykms'", name="pykms")
    assert "python3-kms++" in explain_import_error(pykms, tmp_path, "/usr")[1]
    (tmp_path / "libcamera").mkdir()
    assert "pyvenv.cfg" in explain_import_error(missing, tmp_path, "/usr")[1]
    assert "/usr/bin/python3 -m venv" in explain_import_error(missing, tmp_path, "/opt/python")[1]
    binary = ValueError("numpy.dtype size changed, may indicate binary incompatibility")
    assert '"numpy<2"' in explain_import_error(binary, tmp_path, "/usr")[1]


def test_requires_picamera2_only_where_the_source_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)  # cannot be imported
    assert check_picamera2(with_source("picamera2")).level == "failure"
    assert check_picamera2(with_source("rtsp://camera/1")).level == "ok"
    monkeypatch.setattr(picamera2, "machine_name", lambda: "Raspberry Pi 4 Model B Rev 1.4")
    assert check_picamera2(with_source("auto")).level == "warning"
    monkeypatch.setattr(picamera2, "machine_name", lambda: "A processor")
    assert check_picamera2(with_source("auto")).level == "ok"
    monkeypatch.setitem(sys.modules, "picamera2", types.ModuleType("picamera2"))
    assert check_picamera2(with_source("picamera2")).level == "ok"
