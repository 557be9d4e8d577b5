"""The Debian packages of this clone, of a later version, and of one that does not become ready."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

import cv2

from fer_edge import demo
from tests.system.arm64.wheels import BROKEN, LATER, ROOT, build_wheel
from tests.system.debian_package.steps import VIDEO

if TYPE_CHECKING:
    from pathlib import Path

# What Debian calls the processors that Python names.
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def build_packages(release: int, architecture: str, folder: Path) -> list[str]:
    """Build what `PackageSteps` installs, and the video beside it; return the packages' names, by ascending version.

    Args:
        release: the release of Debian, 12 or 13.
        architecture: the processor, amd64 or arm64.
        folder: where everything is written; the service's user must be able to read it.
    """
    write_video(folder / VIDEO)
    script = str(ROOT / "distribution/debian/build.py")
    build = (sys.executable, script, f"--debian={release}", f"--arch={architecture}", f"--out={folder}")
    names = []
    for version in (None, LATER, BROKEN):
        wheel = build_wheel(folder, version, broken=version == BROKEN)
        names.append(subprocess.check_output([*build, f"--wheel={wheel}"], text=True).strip().rpartition("/")[2])
        wheel.unlink()
    return names


def write_video(path: Path) -> None:
    """Write the demo as a video of twelve seconds, which FFmpeg decodes."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), demo.FPS, (demo.WIDTH, demo.HEIGHT))
    for number in range(demo.FRAMES):
        writer.write(cv2.cvtColor(demo.frame(number), cv2.COLOR_GRAY2BGR))
    writer.release()
