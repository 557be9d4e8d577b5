"""Fakes of the hardware that test machines lack: the camera modules of a Pi and a V4L2 camera."""

from __future__ import annotations

import atexit
import enum
import os
import threading
import time
from concurrent.futures import CancelledError, Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fer_edge import demo

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    import numpy.typing as npt


class AfModeEnum(enum.Enum):
    """As in libcamera.controls."""

    Manual = 0
    Auto = 1
    Continuous = 2


class AfTriggerEnum(enum.Enum):
    """As in libcamera.controls."""

    Start = 0
    Cancel = 1


libcamera = SimpleNamespace(controls=SimpleNamespace(AfModeEnum=AfModeEnum, AfTriggerEnum=AfTriggerEnum))

FOCUS = {"AfMode": (0, 2, 0), "AfTrigger": (0, 1, 0), "LensPosition": (0.0, 32.0, 1.0)}
FIXED = {
    "ExposureTime": (75, 11766829, 20000),
    "AnalogueGain": (1.0, 16.0, 1.0),
    "FrameDurationLimits": (33333, 120000, 33333),
}


class CompletedRequest:
    """A frame of picamera2; its memory belongs to the camera until it is released."""

    def __init__(self, camera: Picamera2, number: int) -> None:
        self._camera, self._number = camera, number
        self._config = camera.camera_configuration()
        self.released = False
        camera.requests_out += 1

    def make_buffer(self, name: str) -> npt.NDArray[np.uint8]:
        if self.released or self._config.get(name) is None:
            raise RuntimeError(f"Stream {name!r} is not defined")
        self._camera.copied += 1
        stream = self._config[name]
        width, height = stream["size"]
        # Rows are padded; the colour planes lie below the luma plane.
        planes = np.full((height * 3 // 2, stream["stride"]), 128, np.uint8)
        planes[:height, :width] = cv2.resize(demo.frame(self._number), (width, height))
        return planes.reshape(-1)

    def make_array(self, name: str) -> npt.NDArray[np.uint8]:
        return self.make_buffer(name).reshape(-1, self._config[name]["stride"])

    def release(self) -> None:
        if self.released:
            raise RuntimeError("CompletedRequest: lock now has negative ref_count")
        self.released = True
        self._camera.requests_out -= 1


class Job:
    """A function that picamera2's event loop calls at each frame until it is done."""

    def __init__(self, function: Callable[[], tuple[bool, Any]]) -> None:
        self._function = function
        self._future: Future[Any] = Future()

    def execute(self) -> bool:
        done, result = self._function()
        if done:
            self._future.set_result(result)
        return done

    def get_result(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - as picamera2's
        return self._future.result(timeout=timeout)

    def cancel(self) -> None:
        self._future.set_exception(CancelledError())


class Picamera2:
    """The part of picamera2's class that is used, with a camera that plays the demo at 50 frames per second.

    Like the real one, it processes calls in order in a thread of its own, so that a stop waits behind a capture that
    waits for a frame; it keeps the newest frame; and it closes itself at exit. The thread runs from `start` to
    `stop_preview`. A job for which no thread runs waits for ever.
    """

    instances: list[Picamera2] = []  # noqa: RUF012 - a record for the tests, emptied by their fixture
    modules: tuple[dict[str, Any], ...] = (
        {"Model": "imx708", "Location": 2, "Rotation": 180, "Id": "/base/soc/i2c0mux/i2c@1/imx708@1a", "Num": 0},
        {"Model": "HD Webcam", "Id": "/base/soc/usb@7e980000/usb1-1.2-1.2:1.0-046d:0825", "Num": 1},
    )
    controls_of_camera: dict[str, tuple[float, float, float]] = FIXED | FOCUS
    format = "YUV420"  # of the frames; the real one takes another without an error if the camera lacks the wanted one
    fails_to_configure = False
    in_use = False
    gives_frames = True
    breaks = False  # an exception ends the thread, as when a frame's memory cannot be read
    stop_hangs = False

    def __init__(self, camera_num: int = 0) -> None:
        if camera_num >= len(self.modules):
            raise RuntimeError(
                f'No camera number {camera_num} found - use "rpicam-hello --list-cameras" to check connected cameras'
            )
        self.module = self.modules[camera_num]
        self.closed: bool = False
        # libcamera does not let a camera be acquired twice.
        if self.in_use or any(other.module is self.module and not other.closed for other in self.instances):
            reason = RuntimeError("Failed to acquire camera: Device or resource busy")
            raise RuntimeError("Camera __init__ sequence did not complete.") from reason
        self.instances.append(self)
        self.requests_out: int = 0
        self.copied: int = 0
        self.controls_given: dict[str, Any] = {}
        self.starts = 0
        self._config: dict[str, Any] = {}
        self._jobs: list[Job] = []
        self._lock = threading.Lock()
        self._newest: CompletedRequest | None = None
        self._number = -1
        self._started = False
        self._preview: threading.Thread | None = None
        self._preview_ended = threading.Event()
        atexit.register(self.close)

    @classmethod
    def global_camera_info(cls) -> list[dict[str, Any]]:
        return list(cls.modules)

    @property
    def camera_controls(self) -> dict[str, tuple[float, float, float]]:
        return {} if self.closed else self.controls_of_camera

    @property
    def sensor_modes(self) -> list[dict[str, Any]]:
        return [
            {"format": "SRGGB10_CSI2P", "unpacked": "SRGGB10", "bit_depth": 10, "size": (1536, 864), "fps": 120.13},
            {"format": "SRGGB10_CSI2P", "unpacked": "SRGGB10", "bit_depth": 10, "size": (2304, 1296), "fps": 56.03},
        ]

    def create_video_configuration(
        self,
        main: dict[str, Any] | None = None,
        lores: dict[str, Any] | None = None,
        raw: dict[str, Any] | None = None,
        *,
        buffer_count: int = 6,
        controls: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        if self.closed:
            raise RuntimeError("Camera not opened")
        whole = self._stream({"format": "XBGR8888", "size": (1280, 720), "preserve_ar": True}, main or {})
        return {
            "use_case": "video",
            "transform": None,
            "colour_space": None,
            "buffer_count": buffer_count,
            "queue": True,
            "main": whole,
            "lores": None
            if lores is None
            else self._stream({"format": "YUV420", "size": whole["size"], "preserve_ar": False}, lores),
            "raw": raw,
            "controls": {"FrameDurationLimits": (33333, 33333)} | (controls or {}),
            "sensor": None,
            "display": "main",
            "encode": "main",
        }

    @staticmethod
    def _stream(defaults: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
        valid = ("format", "size", "stride", "preserve_ar")
        for key in wanted:
            if key not in valid:
                raise ValueError(f"Bad key {key!r}: valid stream configuration keys are {valid}")
        stream = defaults | wanted
        return {**stream, "size": tuple(n // 2 * 2 for n in stream["size"])}

    def configure(self, camera_config: dict[str, Any]) -> None:
        main, lores = camera_config["main"], camera_config["lores"]
        if self._started:
            raise RuntimeError("Camera must be stopped before configuring")
        if self.fails_to_configure:
            raise RuntimeError("Failed to configure camera: Invalid argument")
        if lores and (lores["size"][0] > main["size"][0] or lores["size"][1] > main["size"][1]):
            raise RuntimeError("lores stream dimensions may not exceed main stream")
        for stream in filter(None, (main, lores)):
            width, height = stream["size"]
            stride = -(-width // 64) * 64
            stream.update(format=self.format, stride=stride, framesize=stride * height * 3 // 2)
        self._config = camera_config
        self.controls_given = {}
        self.set_controls(camera_config["controls"])

    def camera_configuration(self) -> dict[str, Any]:
        return self._config

    def set_controls(self, controls: dict[str, Any]) -> None:
        for name, value in controls.items():
            if name not in self.camera_controls:
                raise RuntimeError(f"Control {name} is not advertised by libcamera")
            self.controls_given[name] = value

    def start(self) -> None:
        if self._started:
            return
        self.starts += 1
        self._started = True
        if self._preview is None:
            self._preview_ended.clear()
            self._preview = threading.Thread(target=self._run, name="picamera2", daemon=True)
            self._preview.start()

    def stop_preview(self) -> None:
        if self._preview is None:
            raise RuntimeError("No preview specified.")
        self._preview_ended.set()
        self._preview.join()
        self._preview = None

    def capture_request(self, wait: bool | float | None = None) -> Any:  # noqa: ANN401, FBT001 - as picamera2's
        return self._dispatch(self._take_newest, wait=wait)

    def wait(self, job: Job, timeout: float | None = None) -> Any:  # noqa: ANN401 - as picamera2's
        return job.get_result(timeout=timeout)

    def cancel_all_and_flush(self) -> None:
        with self._lock:
            for job in self._jobs:
                job.cancel()
            self._jobs = []

    def stop(self) -> None:
        if not self._started:
            return
        if self._preview:
            self._dispatch(self._stop, wait=True)
        else:
            self._stop()

    def close(self) -> None:
        atexit.unregister(self.close)
        if self._preview:
            self.stop_preview()
        if self.closed:
            return
        self.stop()
        self.closed = True
        self._config = {}

    def _dispatch(self, function: Callable[[], tuple[bool, Any]], *, wait: bool | float | None) -> Any:  # noqa: ANN401
        job = Job(function)
        with self._lock:
            self._jobs.append(job)
        if wait is False:
            return job
        return job.get_result(timeout=None if wait in {None, True} else wait)

    def _take_newest(self) -> tuple[bool, CompletedRequest | None]:
        newest, self._newest = self._newest, None
        return newest is not None, newest

    def _stop(self) -> tuple[bool, None]:
        while self.stop_hangs:
            time.sleep(0.01)
        self._started = False
        self._drop_newest()
        return True, None

    def _drop_newest(self) -> None:
        if self._newest:
            self._newest.release()
        self._newest = None

    def _run(self) -> None:
        while not self._preview_ended.wait(0.02):
            with self._lock:
                if self._started and self.breaks:
                    return
                if self._started and self.gives_frames:
                    self._drop_newest()
                    self._number += 1
                    self._newest = CompletedRequest(self, self._number)
                while self._jobs and self._jobs[0].execute():
                    self._jobs.pop(0)


class VideoCapture:
    """The part of cv2.VideoCapture that is used, with a USB camera that behaves as the class attributes say.

    Like the real one with V4L2, it decodes Motion JPEG and YUYV to BGR, or gives them as they are: Motion JPEG as one
    row of bytes, YUYV with two channels. A camera keeps its format if it lacks the one that is asked for.
    """

    formats: tuple[str, ...] = ("YUYV", "MJPG")  # the first is used unless another is asked for
    size = (640, 480)
    opens = True
    frames_then_fails: int | None = None
    flat = False
    damaged: Container[int] = ()  # numbers of frames that cannot be decoded
    hangs = False
    opening_hangs = False
    opening_takes = 0.0
    interval = 0.005
    dead_nodes: tuple[str, ...] = ()
    openings = 0
    instances: list[VideoCapture] = []  # noqa: RUF012 - a record for the tests, emptied by their fixture

    def __init__(self, source: int | str, api: int = 0, params: list[int] | None = None) -> None:
        self._descriptor: int | None = None
        self.instances.append(self)
        type(self).openings += 1
        while self.opening_hangs:
            time.sleep(0.01)
        self.source, self.api, self.params = source, api, params
        self.settings: dict[int, float] = {}
        self.retrieved = 0
        self._number = -1
        self._format = "RGB3" if self.flat else self.formats[0]
        time.sleep(self.opening_takes)
        if self.opens:
            self._descriptor = os.open(os.devnull, os.O_RDONLY)

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self._descriptor is not None

    def set(self, key: int, value: float) -> bool:
        if key == cv2.CAP_PROP_FOURCC:
            wanted = int(value).to_bytes(4, "little").decode()
            found = wanted in self.formats and not self.flat
            self._format = wanted if found else self._format
            return found
        self.settings[key] = value
        return True

    def get(self, key: int) -> float:
        if key == cv2.CAP_PROP_FOURCC:
            return float(int.from_bytes(self._format.encode(), "little"))
        return float(self.size[key == cv2.CAP_PROP_FRAME_HEIGHT])

    def grab(self) -> bool:
        while self.hangs:
            time.sleep(0.01)
        time.sleep(self.interval)
        if self._descriptor is None or self.source in self.dead_nodes:
            return False
        self._number += 1
        return self.frames_then_fails is None or self._number < self.frames_then_fails

    def retrieve(self, image: cv2.typing.MatLike | None = None) -> tuple[bool, cv2.typing.MatLike | None]:
        self.retrieved += 1
        if self._number in self.damaged:
            return False, None
        if self.flat:
            return True, np.zeros((1, 691200), np.uint8)
        gray = demo.frame(self._number)
        if self.size != (640, 480):
            gray = np.asarray(cv2.resize(gray, self.size), np.uint8)
        colour = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR, dst=image)
        raw = self.settings.get(cv2.CAP_PROP_CONVERT_RGB) == 0
        if not raw or self._format not in {"MJPG", "YUYV"}:
            return True, colour
        return True, self.as_sent(colour)

    def as_sent(self, colour: cv2.typing.MatLike) -> cv2.typing.MatLike:
        """Return a frame as the camera sends it."""
        if self._format == "MJPG":
            return cv2.imencode(".jpg", colour)[1].reshape(1, -1)
        return cv2.cvtColor(colour, cv2.COLOR_BGR2YUV_YUYV)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
