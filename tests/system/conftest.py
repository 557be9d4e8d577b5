"""What containers are given: made once, for all that boot one."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest

from fer_edge import demo
from tests.system.containers import require_containers

ROOT = Path(__file__).parents[2]
FRAMES = 6000  # ten minutes: longer than a test


@dataclass(frozen=True)
class Goods:
    """What a container is given.

    Attributes:
        wheel: of fer-edge.
        broken: the same program, but it ends before its first frame.
        wheels: the folder of all that it needs.
        video: a folder of frames.
    """

    wheel: Path
    broken: Path
    wheels: Path
    video: Path

    @property
    def shown(self) -> dict[str, Path]:
        return {"/srv/wheels": self.wheels, "/srv/video": self.video}


PIP = (sys.executable, "-m", "pip", "-q")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    subprocess.run([*PIP, "wheel", "--no-deps", "-w", folder, ROOT], check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def goods(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Goods:
    require_containers()
    folder = tmp_path_factory.mktemp("goods")
    wheels, video = folder / "wheels", folder / "video"
    download: list[str | Path] = [*PIP, "download", "--only-binary=:all:", "-d", wheels, f"{wheel}[device]"]
    subprocess.run(download, check=True, capture_output=True)
    broken = wheel.parent / "broken" / wheel.name
    _break(wheel, broken)
    _write_video(video)
    return Goods(wheel, broken, wheels, video)


def _break(wheel: Path, broken: Path) -> None:
    broken.parent.mkdir()
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(broken, "w") as other:
        for name in whole.namelist():
            other.writestr(name, b"raise SystemExit(1)" if name == "fer_edge_device/app.py" else whole.read(name))


def _write_video(folder: Path) -> None:
    """The demo over and over, a quarter of its pixels: the service watches it as long as a test lasts."""
    folder.mkdir()
    for number in range(FRAMES):
        path = folder / f"{number:05d}.jpg"
        if number < demo.FRAMES:
            cv2.imwrite(str(path), cv2.resize(demo.frame(number), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        else:
            os.link(folder / f"{number % demo.FRAMES:05d}.jpg", path)
