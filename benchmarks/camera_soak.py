"""Send frames through the camera's process as fast as they go, and watch memory, descriptors and threads of both.

    python -m benchmarks.camera_soak [--frames 1000000]

A device that makes frames of 640x480 out of nothing takes the place of the camera. Every tenth of the way, the script
prints what both processes hold, and at the end how many frames per second went through.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_edge_device.capture import child, process, search
from fer_edge_device.capture.base import NoFrameYet
from fer_edge_device.capture.camera import Camera
from fer_edge_device.capture.factory import make_timeouts
from fer_edge_device.config.settings import CameraSettings

if TYPE_CHECKING:
    import numpy.typing as npt


class TirelessDevice:
    """A camera that always has a frame, all of whose pixels are its number modulo 256."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._image = np.zeros((480, 640), np.uint8)
        self._number = 0

    def open(self) -> None:
        """Do nothing."""

    def grab(self) -> bool:
        """Count, and give way: on a machine that is busy, both processes may have one core."""
        time.sleep(1e-4)
        self._number += 1
        return True

    def retrieve(self) -> npt.NDArray[np.uint8]:
        """Return an image."""
        self._image[:] = self._number & 255
        return self._image

    def stop(self) -> None:
        """Do nothing."""

    close = stop


def child_main() -> None:
    """Read the tireless camera, in the camera's process."""
    search._Search._make_device = lambda *_: TirelessDevice()  # type: ignore[method-assign] # noqa: SLF001
    child.main()


def describe(number: int) -> str:
    """Return what a process holds."""
    folder = Path("/proc", str(number))
    pages = int((folder / "statm").read_text().split()[1])
    descriptors, threads = (len(list((folder / name).iterdir())) for name in ("fd", "task"))
    return f"{pages * os.sysconf('SC_PAGE_SIZE') / 1e6:.1f} MB, {descriptors} descriptors, {threads} threads"


def main() -> None:
    """Send the frames and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=1_000_000)
    frames = parser.parse_args().frames
    vars(process)["_PROGRAM"] = vars(process)["_PROGRAM"].replace(
        "from fer_edge_device.capture.child import main;main()",
        "from benchmarks.camera_soak import child_main;child_main()",
    )
    # Long enough for a machine that is busy with other things.
    settings = CameraSettings(source="0", stall_timeout_s=100, exit_after_s=3600)
    camera = Camera(settings, make_timeouts(settings), wait=True)
    camera.open()
    start, count = time.monotonic(), 0
    while count < frames:
        with suppress(NoFrameYet):
            gray = camera.read().gray
            if gray[0, 0] != gray[-1, -1]:
                raise SystemExit("parts of two frames in one")
            count += 1
            if count % max(frames // 10, 1) == 0:
                number = camera._process.number if camera._process else 0  # noqa: SLF001
                print(f"{count} frames: here {describe(os.getpid())}; there {describe(number)}", flush=True)
    print(f"{count / (time.monotonic() - start):.0f} frames per second")
    camera.close()


if __name__ == "__main__":
    main()
