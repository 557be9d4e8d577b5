"""The chroot with this version of fer-edge, and a virtual camera of its own for each test."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import pytest

from tests.system.containers import wait_for
from tests.system.picamera2.chroot import chroot_command, require_chroot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROOT: Final = Path(__file__).parents[3]
LONG: Final = 120.0  # seconds; far longer than anything takes, even on a loaded machine


class VirtualCamera:
    """The virtual camera of the chroot, and programs that use it.

    Attributes:
        files: a folder that is /srv/test in the chroot. A file of the name of one of the driver's faults there lets
            the fault last.
    """

    def __init__(self, root: Path, mounts: dict[str, Path], files: Path) -> None:
        self.files = files
        self._root, self._mounts = root, {**mounts, "/srv/test": files}
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a Python module or script, with its arguments, in the chroot."""
        environment = ("LD_PRELOAD=/srv/driver.so", "CAMERA_FAULTS=/srv/test", "PYTHONPATH=/srv/site")
        words = ("env", *environment, "/venv/bin/python", "-B", *command)
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            chroot_command(self._root, self._mounts, *words),
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        self._started.append(process)
        return process

    def fer_edge(self, *args: str, status: int = 0) -> str:
        """Run a command in the chroot until its end, and return what it printed."""
        process = self.start("-m", "fer_edge.cli", *args)
        output, errors = process.communicate(timeout=LONG)
        assert process.returncode == status, f"{args}: {process.returncode}\n{output}\n{errors}"
        assert "Traceback" not in errors
        return output + errors

    def write_config(self, **camera: object) -> str:
        """Write a configuration for this camera, and return its path in the chroot."""
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in {"source": "picamera2", **camera}.items())
        (self.files / "config.toml").write_text(f'node = "one"\n[camera]\n{lines}')
        return "/srv/test/config.toml"

    def begin(self, fault: str) -> None:
        """Let a fault of the driver begin."""
        (self.files / fault).touch()

    def wait_for_hang(self, fault: str) -> None:
        """Wait until the driver hangs."""
        wait_for((self.files / f"{fault}.reached").exists)

    def end(self, fault: str) -> None:
        """Let it end."""
        (self.files / fault).unlink()

    def close(self) -> None:
        """End everything that was started."""
        for process in self._started:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()


class Node:
    """A ``fer-edge run`` that watches the virtual camera."""

    def __init__(self, camera: VirtualCamera, *, broker: int | None = None, **settings: object) -> None:
        """Start it.

        Args:
            camera: the camera.
            broker: port of a broker; with one, the node does not wait for its camera.
            settings: settings of the camera.
        """
        path = camera.write_config(**settings)
        if broker:
            with (camera.files / "config.toml").open("a") as file:
                file.write(f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker}"\n')
        self.process = camera.start("-m", "fer_edge.cli", "run", "--config", path)
        self.log: list[str] = []
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._readers = [threading.Thread(target=read) for read in (self._read_messages, self._read_log)]
        for reader in self._readers:
            reader.start()

    def _read_messages(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._messages.put(json.loads(line))

    def _read_log(self) -> None:
        assert self.process.stderr
        self.log.extend(iter(self.process.stderr.readline, ""))

    def next_message(self, topic: str, wanted: Callable[[Any], bool] = bool) -> dict[str, Any]:
        """Return the next message of a topic whose payload is wanted."""
        deadline = time.monotonic() + LONG
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = self._messages.get(timeout=left)
            except queue.Empty:
                break
            if message["topic"] == f"fer-edge/one/{topic}" and wanted(message["payload"]):
                return message
        raise AssertionError(f"no {topic} came: {''.join(self.log[-20:])}")

    def wait_for_status(self, status: str) -> None:
        """Wait until the node says this of its camera."""
        self.next_message("camera", lambda payload: payload == status)

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal, and return the exit status and how many seconds the end took."""
        start = time.monotonic()
        self.process.send_signal(number)
        return self.wait(), time.monotonic() - start

    def wait(self) -> int:
        """Wait for the end, and return the exit status."""
        status = self.process.wait(LONG)
        for reader in self._readers:
            reader.join(LONG)
        return status


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the root folder of the chroot."""
    return require_chroot()


@pytest.fixture(scope="session")
def chroot(root: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """Return the root folder of the chroot, and the folders that each program in it needs."""
    site, images = (tmp_path_factory.mktemp(name) for name in ("site", "images"))
    pip = (sys.executable, "-m", "pip", "-q", "install", "--no-deps", "--no-compile", "--target")
    subprocess.run([*pip, site, wheel], check=True, capture_output=True)
    cv2.imwrite(str(images / "0.jpg"), cv2.imread(str(_ROOT / "docs/frame.png")))
    return root, {"/srv/site": site, "/srv/virtual-camera": images}


@pytest.fixture
def camera(chroot: tuple[Path, dict[str, Path]], tmp_path: Path) -> Iterator[VirtualCamera]:
    camera = VirtualCamera(*chroot, tmp_path)
    yield camera
    camera.close()
