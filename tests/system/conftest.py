"""Files for the containers, built once per test session."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest

from fer_edge import demo
from tests.locks import locked
from tests.system.containers import require_containers

ROOT = Path(__file__).parents[2]
FRAMES = 6000  # ten minutes: longer than a test


@dataclass(frozen=True)
class ContainerFiles:
    """The files that a container gets.

    Attributes:
        wheel: the wheel of fer-edge.
        broken: a wheel of a fer-edge that exits before its first frame.
        wheels: a folder with the wheels of its dependencies.
        video: a folder of frames.
    """

    wheel: Path
    broken: Path
    wheels: Path
    video: Path

    @property
    def mounts(self) -> dict[str, Path]:
        """Return the folders to mount, by their paths in the container."""
        return {"/srv/wheels": self.wheels, "/srv/video": self.video}


PIP = (sys.executable, "-m", "pip", "-q")


@pytest.fixture(scope="session")
def wheel(shared_folder: Path) -> Path:
    """Return the wheel of fer-edge, which the first worker that needs it builds."""
    folder = shared_folder / "wheel"
    with locked(shared_folder / "wheel.lock"):
        if not folder.exists():
            subprocess.run([*PIP, "wheel", "--no-deps", "-w", folder, ROOT], check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("video") / "frames"  # readable for the service, as a folder of pytest is not
    _write_video(folder)
    return folder


@pytest.fixture(scope="session")
def container_files(wheel: Path, video: Path, tmp_path_factory: pytest.TempPathFactory) -> ContainerFiles:
    require_containers()
    wheels = tmp_path_factory.mktemp("container") / "wheels"
    download: list[str | Path] = [*PIP, "download", "--only-binary=:all:", "-d", wheels, f"{wheel}[device]"]
    subprocess.run(download, check=True, capture_output=True)
    own = tmp_path_factory.mktemp("own") / wheel.name
    shutil.copy(wheel, own)
    broken = own.parent / "broken" / own.name
    _break(own, broken)
    return ContainerFiles(own, broken, wheels, video)


def _break(wheel: Path, broken: Path) -> None:
    broken.parent.mkdir()
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(broken, "w") as target:
        for name in source.namelist():
            target.writestr(name, b"raise SystemExit(1)" if name == "fer_edge_device/app.py" else source.read(name))


def _write_video(folder: Path) -> None:
    """Repeat the demo at half its width and height, for longer than a test lasts."""
    folder.mkdir()
    for number in range(FRAMES):
        path = folder / f"{number:05d}.jpg"
        if number < demo.FRAMES:
            cv2.imwrite(str(path), cv2.resize(demo.frame(number), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        else:
            os.link(folder / f"{number % demo.FRAMES:05d}.jpg", path)
