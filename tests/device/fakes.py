"""The hardware that test machines lack, shaped like the real APIs: a Pi camera and a V4L2 camera."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fer_edge import demo

if TYPE_CHECKING:
    import numpy.typing as npt


class Picamera2:
    """The part of picamera2's class that is used, for a camera that plays the demo at 50 frames a second."""

    opened = 0
    closed = 0
    fails_to_configure = False

    def __init__(self, camera_num: int = 0) -> None:
        del camera_num
        Picamera2.opened += 1
        self._started = False
        self._lores: dict[str, Any] = {}
        self._number = -1

    def create_video_configuration(
        self, main: dict[str, Any] | None = None, lores: dict[str, Any] | None = None, buffer_count: int = 6
    ) -> dict[str, Any]:
        return {
            "main": main or {"size": (1280, 720), "format": "XBGR8888"},
            "lores": lores,
            "buffer_count": buffer_count,
        }

    def configure(self, config: dict[str, Any]) -> None:
        main, lores = config["main"], config["lores"]
        assert lores["format"] == "YUV420"
        if self.fails_to_configure:
            raise RuntimeError("Failed to configure camera: Invalid argument")
        if lores["size"][0] > main["size"][0] or lores["size"][1] > main["size"][1]:
            raise RuntimeError("lores stream dimensions may not exceed main stream")
        # Sizes are made even.
        self._config = {"main": main, "lores": {**lores, "size": tuple(n // 2 * 2 for n in lores["size"])}}
        self._lores = self._config["lores"]

    def camera_configuration(self) -> dict[str, Any]:
        return self._config

    def start(self) -> None:
        self._started = True

    def capture_array(self, name: str = "main") -> npt.NDArray[np.uint8]:
        assert name == "lores"
        assert self._started
        time.sleep(0.02)
        self._number += 1
        width, height = self._lores["size"]
        gray = cv2.resize(demo.frame(self._number), (width, height))
        # Rows are padded to a multiple of 64 bytes; the colour planes lie below the luma plane.
        stride = -(-width // 64) * 64
        planes = np.full((height * 3 // 2, stride), 128, np.uint8)
        planes[:height, :width] = gray
        return planes

    def stop(self) -> None:
        self._started = False

    def close(self) -> None:
        Picamera2.closed += 1


class NoPicamera2:
    """picamera2 on a Pi without a camera."""

    def __init__(self, camera_num: int = 0) -> None:
        del camera_num
        raise IndexError("list index out of range")


class VideoCapture:
    """The part of cv2.VideoCapture that is used, for a USB camera that behaves as the class attributes say."""

    opens = True
    frames_then_fails: int | None = None
    flat = False
    hangs = False
    dead_nodes: tuple[str, ...] = ()
    settings: dict[int, float]

    def __init__(self, source: int | str, api: int = 0) -> None:
        self.source, self.api = source, api
        self.settings = {}
        self._number = -1

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.opens

    def set(self, key: int, value: float) -> bool:
        self.settings[key] = value
        return True

    def read(self) -> tuple[bool, npt.NDArray[np.uint8] | None]:
        while self.hangs:
            time.sleep(0.05)
        time.sleep(0.005)
        if self.source in self.dead_nodes:
            return False, None
        self._number += 1
        if self.frames_then_fails is not None and self._number >= self.frames_then_fails:
            return False, None
        if self.flat:
            return True, np.zeros((1, 691200), np.uint8)
        colour = cv2.cvtColor(demo.frame(self._number), cv2.COLOR_GRAY2BGR)
        return True, np.asarray(colour, np.uint8)

    def release(self) -> None:
        pass
