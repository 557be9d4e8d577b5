"""A real runner that collects faces."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from fer_edge import demo
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.classification.crop import crop_whole_image
from fer_edge.utils.image_io import decode_gray
from tests.device.brokers import Mosquitto, subscribing, wait_for
from tests.device.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Cli
    from tests.device.collect.conftest import Collecting

EVERY_FACE: dict[str, Any] = {"margin": 1.0, "interval_s": 0.1, "max_per_hour": 3600}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Return a folder of images with one face that stays for minutes."""
    folder = tmp_path / "video"
    folder.mkdir()
    assert cv2.imwrite(str(folder / "0000.png"), demo.frame(10))
    for number in range(1, 3000):
        (folder / f"{number:04}.png").hardlink_to(folder / "0000.png")
    return folder


@contextlib.contextmanager
def running(config: Path) -> Iterator[Running]:
    run = Running(config)
    with run.process:
        yield run
        run.process.kill()


def test_keeps_what_the_classifier_saw_encrypted(cli: Cli, collecting: Collecting) -> None:
    before = time.time()
    result = cli("run", "--config", collecting.configure(**EVERY_FACE), "--full-speed")
    files, faces = collecting.files(), collecting.faces()
    assert len(faces) > 10
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(collecting.folder.stat().st_mode) == 0o700
    assert all(path.read_bytes().startswith(b"age-encryption.org/v1\n-> X25519 ") for path in files)
    messages = [json.loads(line) for line in result.stdout.splitlines()]
    (info,) = [message["payload"] for message in messages if message["topic"].endswith("/info")]
    assert info["collects_faces"] is True
    events = [message["payload"] for message in messages if message["topic"].endswith("/event")]
    assert {face.group for face in faces} <= {event["id"] for event in events}
    assert {face.model for face in faces} == {events[0]["model"]}
    assert {face.node for face in faces} == {"test"}
    classifier, sides = TFLiteClassifier(), set()
    for face in faces:
        crop = decode_gray(face.png, "face")
        sides.add(crop.shape)
        assert face.time
        assert before <= face.time <= time.time()
        scores = classifier.classify(crop_whole_image(crop, 48, 48)[None])[0]
        expected = np.array([face.scores[label] for label in classifier.card.labels])
        assert np.abs(scores - expected).max() < 0.15, "the crop is what the classifier saw, but for rounding"
        assert face.emotion == max(face.scores, key=face.scores.__getitem__)
    assert sides <= {(48, 48), (96, 96), (144, 144)}
    printed = result.stdout + result.stderr
    assert "crops of some faces are kept, encrypted, in" in printed
    assert collecting.public_key not in printed
    assert "AGE-SECRET-KEY" not in printed


def test_writes_nothing_while_it_is_off(
    collecting: Collecting, record_writes: Callable[[], set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(home))
    command = [sys.executable, "-m", "fer_edge.cli", "run", "--full-speed", "--config"]

    def run(config: Path) -> set[str]:
        subprocess.run([*command, config], check=True, capture_output=True, cwd=home)
        return record_writes()

    assert run(collecting.configure(enabled=False)) == set()
    assert run(collecting.configure(enabled=False, path="")) == set()
    assert list(home.iterdir()) == []
    assert not collecting.folder.parent.exists()
    written = run(collecting.configure(**EVERY_FACE))
    assert str(collecting.folder) in written, "the recorder sees what is written"
    beside = {path for path in written if not path.startswith(str(collecting.folder.parent))}
    assert beside == set()
    assert list(home.iterdir()) == []


def test_privacy_switch_stops_it_at_once(collecting: Collecting, video: Path, tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, subscribing(broker.port) as subscriber:
        rest = (
            f'[mqtt]\nurl = "mqtt://localhost:{broker.port}"\n[outbox]\npath = "{tmp_path}/outbox.sqlite"\n'
            "[events]\nstats_interval_s = 0.2\n[faces]\nclassify_interval_s = 0\n"
        )
        with running(collecting.configure(video, rest=rest, **EVERY_FACE)) as run:
            wait_for(lambda: len(collecting.files()) >= 3, "faces are collected")
            subscriber.publish("fer-edge/test/enabled/set", "OFF")
            wait_for(lambda: b"OFF" in subscriber.payloads("fer-edge/test/enabled/state"), "it is switched off")
            at_that_moment = {path.name for path in collecting.files()}
            seen = len(subscriber.payloads("fer-edge/test/stats"))
            wait_for(lambda: len(subscriber.payloads("fer-edge/test/stats")) >= seen + 5, "a second passes")
            assert {path.name for path in collecting.files()} == at_that_moment
            subscriber.publish("fer-edge/test/enabled/set", "ON")
            wait_for(lambda: len(collecting.files()) > len(at_that_moment), "it goes on when it is switched on")
            run.process.send_signal(signal.SIGTERM)
            assert run.process.wait(60) == 0
        assert json.loads(subscriber.payloads("fer-edge/test/info")[0])["collects_faces"] is True
        published = b"".join(message.payload for message in subscriber.received)
        assert collecting.public_key.encode() not in published


def test_sighup_turns_it_off_and_on(collecting: Collecting, video: Path) -> None:
    rest = "[faces]\nclassify_interval_s = 0\n"
    with running(collecting.configure(video, rest=rest, **EVERY_FACE)) as run:
        wait_for(lambda: len(collecting.files()) >= 2, "faces are collected")
        run.change(collecting.configure(video, rest=rest, enabled=False).read_text())
        run.until("/info", collects_faces=False)
        count = len(collecting.files())
        run.change(collecting.configure(video, rest=rest, **EVERY_FACE).read_text())
        run.until("/info", collects_faces=True)
        wait_for(lambda: len(collecting.files()) > count, "faces are collected again")
        run.change(collecting.configure(video, public_key=collecting.public_key[:-1] + "q").read_text())
        lines = iter(run.log_line, "")
        assert any("nothing has changed: collect.public_key: mistyped" in line for line in lines)


def test_bounds_hold_over_restarts(cli: Cli, collecting: Collecting) -> None:
    limits = EVERY_FACE | {"max_per_hour": 4}
    for _ in range(2):
        cli("run", "--config", collecting.configure(**limits), "--full-speed")
        assert len(collecting.files()) == 4
    for _ in range(2):
        cli("run", "--config", collecting.configure(**EVERY_FACE, max_faces=7), "--full-speed")
        assert len(collecting.files()) == 7


@pytest.mark.parametrize("enabled", [True, False])
def test_expired_faces_are_deleted_also_while_it_is_off(cli: Cli, collecting: Collecting, *, enabled: bool) -> None:
    collecting.folder.mkdir(parents=True)
    day = 86_400_000
    now = time.time_ns() // 1_000_000
    old, young, other = (
        collecting.folder / name
        for name in (f"{now - 8 * day}-0a1b2c3d.age", f"{now - 6 * day}-0a1b2c3d.age", "notes.txt")
    )
    for path in (old, young, other):
        path.write_text("x")
    with running(collecting.configure(rest="", enabled=enabled, max_days=7)) as run:
        wait_for(lambda: not old.exists(), "the expired face is deleted")
        run.until("/availability")  # from now on, it handles signals
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(60) == 0
    assert young.exists()
    assert other.exists()
    cli("collect", "delete", "--config", collecting.config)
    assert [path.name for path in collecting.files()] == ["notes.txt"], "only what belongs to fer-edge is deleted"


def test_deletion_is_complete(cli: Cli, collecting: Collecting) -> None:
    cli("run", "--config", collecting.configure(**EVERY_FACE), "--full-speed")
    cli("run", "--config", collecting.config, "--source", "demo", "--full-speed")  # a trial
    trial = collecting.folder.parent / "trials" / "collected"
    count = len([*collecting.files(), *trial.iterdir()])
    (collecting.folder / ".1700000000000-0a1b2c3d-0a1b2c3d.age").write_text("a face that a power cut interrupted")
    assert str(collecting.folder) in cli("collect", "--config", collecting.config).stdout
    assert f"deleted {count} crops" in cli("collect", "delete", "--config", collecting.config).stdout
    left = [path for path in collecting.folder.parent.rglob("*") if path.is_file()]
    assert left == []
    assert not collecting.folder.exists()
    assert "deleted 0 crops" in cli("collect", "delete", "--config", collecting.config).stdout


def test_full_disk_is_one_line_and_holds_up_nothing(collecting: Collecting) -> None:
    config = collecting.configure(rest='[log]\nlevel = "info"\n', **EVERY_FACE)
    command: list[str | Path] = [sys.executable, "-m", "fer_edge.cli", "run", "--full-speed", "--config", config]

    def no_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    result = subprocess.run(command, check=True, capture_output=True, text=True, preexec_fn=no_files)
    about = [line for line in result.stderr.splitlines() if "crops of faces cannot be kept" in line]
    assert len(about) == 1
    assert os.strerror(27) in about[0]
    assert "Traceback" not in result.stderr
    assert collecting.files() == []
    assert '"event_type":"end"' in result.stdout


def test_small_and_unreported_faces_are_not_kept(cli: Cli, collecting: Collecting, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    for number in range(20):  # faces of 16 to 20 pixels
        assert cv2.imwrite(str(folder / f"{number:02}.png"), cv2.resize(demo.frame(10), (96, 72)))
    rest = "[faces]\nmin_face = 12\nclassify_interval_s = 0\n"
    config = collecting.configure(folder, rest=rest, **EVERY_FACE)
    assert '"reliable":false' in cli("run", "--config", config, "--full-speed").stdout
    assert collecting.files() == []
    config = collecting.configure(rest="[events]\nmin_hits = 1000\n", **EVERY_FACE)
    cli("run", "--config", config, "--full-speed")
    assert collecting.files() == []
