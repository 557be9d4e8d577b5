"""The example scripts do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest

from fer_edge import demo
from tests.device.brokers import Mosquitto

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def command(name: str, *args: str | Path) -> Sequence[str]:
    return [sys.executable, str(EXAMPLES / name), *map(str, args)]


def run(name: str, *args: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(command(name, *args), capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    return result


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), demo.frame(60))
    return path


def test_photo_prints_each_face_and_saves_a_copy(photo: Path, tmp_path: Path) -> None:
    saved = tmp_path / "annotated.png"
    out = run("photo.py", photo, "--save", saved).stdout
    assert f"{photo}: 3 faces" in out
    assert {line.split()[0] for line in out.splitlines() if " pixels" in line} == {"angry", "sad", "surprise"}
    assert cv2.imread(str(saved)) is not None
    assert "photo.py: none.png: cannot be read" in run("photo.py", "none.png", status=1).stderr


def test_webcam_prints_events() -> None:
    lines = run("webcam.py", "--source", "demo").stdout.splitlines()
    for part in ("face 1 appears: happy", "face 1 changes from happy to surprise", "face 1 leaves after"):
        assert any(part in line for line in lines)
    assert run("webcam.py", "--source", "demo", "--events", "3").stdout.splitlines() == lines[:3]
    assert "webcam.py: no source 'none.mp4'" in run("webcam.py", "--source", "none.mp4", status=1).stderr


def test_listener_prints_published_events(tmp_path: Path) -> None:
    output = tmp_path / "heard.txt"
    with Mosquitto(tmp_path / "broker") as broker, output.open("w") as file:
        arguments = ("--host", "127.0.0.1", "--port", str(broker.port), "--events", "4")
        listener = subprocess.Popen(command("mqtt_listener.py", *arguments), stdout=file)
        try:
            while listener.poll() is None:  # it may miss one run but receives the next
                publish(broker.port, tmp_path)
        finally:
            listener.kill()
            listener.wait()
    assert listener.returncode == 0
    lines = output.read_text().splitlines()
    assert any(line.startswith("kitchen: new    happy ") for line in lines)
    assert sum(": new" in line or ": update" in line for line in lines) == 4


def publish(port: int, folder: Path) -> None:
    arguments = ("--source", "demo", "--full-speed", "--node", "kitchen", "--mqtt", f"mqtt://127.0.0.1:{port}")
    subprocess.run(
        [sys.executable, "-m", "fer_edge.cli", "run", *arguments],
        env={**os.environ, "FER_EDGE_OUTBOX_PATH": str(folder / "outbox.sqlite")},
        capture_output=True,
        check=True,
        timeout=120,
    )


def test_tag_folder_counts_emotions_and_writes_a_table(photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    photo.rename(folder / "photo.png")
    (folder / "text.jpg").write_text("not an image")
    result = run("tag_folder.py", folder, "--csv", tmp_path / "faces.csv")
    assert result.stdout.startswith("2 files, 3 faces\n")
    assert {line.split()[0] for line in result.stdout.splitlines()[1:]} == {"angry", "sad", "surprise"}
    assert "skipped: " in result.stderr
    assert (tmp_path / "faces.csv").read_text().count("photo.png") == 3
    assert "tag_folder.py: " in run("tag_folder.py", tmp_path / "none", status=1).stderr


def test_listener_reports_a_missing_broker() -> None:
    result = run("mqtt_listener.py", "--host", "127.0.0.1", "--port", "9", status=1)
    assert "mqtt_listener.py: " in result.stderr
