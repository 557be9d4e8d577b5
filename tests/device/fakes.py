"""Fakes of the hardware that test machines lack: the camera modules of a Pi and a V4L2 camera.

They work in the camera's process. A test says through a `Hardware` how they behave from now on, and sees there what was
done with them. Like libcamera's Python binding, what hangs holds Python's lock while it does.
"""

from __future__ import annotations

import atexit
import ctypes
import enum
import json
import os
import threading
import time
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import cv2
import msgspec
import numpy as np

from fer_edge import demo
from fer_edge_device.capture import v4l2
from fer_edge_device.capture.v4l2 import VideoNode

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    import numpy.typing as npt

FOLDER: Final = "FAKE_HARDWARE"  # variable with the folder that a test's process and the camera's share
_FOCUS: Final = {"AfMode": (0, 2, 0), "AfTrigger": (0, 1, 0), "LensPosition": (0.0, 32.0, 1.0)}
FIXED: Final = {
    "ExposureTime": (75, 11766829, 20000),
    "AnalogueGain": (1.0, 16.0, 1.0),
    "FrameDurationLimits": (33333, 120000, 33333),
}
MODULES: Final = (
    {"Model": "imx708", "Location": 2, "Rotation": 180, "Id": "/base/soc/i2c0mux/i2c@1/imx708@1a", "Num": 0},
    {"Model": "HD Webcam", "Id": "/base/soc/usb@7e980000/usb1-1.2-1.2:1.0-046d:0825", "Num": 1},
)
_BEHAVIOUR: Final[dict[str, Any]] = {
    # of camera modules
    "modules": MODULES,
    "controls_of_camera": FIXED | _FOCUS,
    "fails_to_configure": False,
    "in_use": False,
    "gives_frames": True,
    "loop_breaks": False,  # the thread of the event loop ends, as with an exception
    "stop_hangs": False,
    "enumeration_hangs": False,
    "frame_hangs": False,
    "is_too_old": False,
    "frame_format": "YUV420",
    # of a USB camera
    "formats": ("YUYV", "MJPG"),  # the first is used unless another is asked for
    "size": (640, 480),
    "opens": True,
    "frames_then_fails": None,
    "flat": False,  # as OpenCV 4.11, it gives what is not converted as a single row of bytes
    "damaged": (),  # numbers of frames that cannot be decoded
    "all_damaged": False,
    "hangs": False,
    "opening_hangs": False,
    "opening_takes": 0.0,
    "crashes": False,
    "interval": 0.005,
    "dead_nodes": (),
    "leaks": False,  # each opening that fails leaves a descriptor open
    "nodes": (),  # video nodes that the machine has, as `VideoNode`; the driver of a card named ``hangs`` does
}


class Hardware:
    """The hardware as a test sees it: setting an attribute changes how the fakes behave; see ``_BEHAVIOUR``."""

    _folder: Path

    def __init__(self, folder: Path) -> None:
        object.__setattr__(self, "_folder", folder)

    def __setattr__(self, name: str, value: object) -> None:
        assert name in _BEHAVIOUR
        path = self._folder / "behaviour.json"
        behaviour = json.loads(path.read_text()) if path.exists() else {}
        part = path.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(behaviour | {name: value}))
        part.replace(path)

    @property
    def instances(self) -> list[SimpleNamespace]:
        """What became of each object that was made, in their order; `is_open` is false after the end of its process."""
        found = []
        for path in sorted(self._folder.glob("*.object")):
            instance = SimpleNamespace(**json.loads(path.read_text()))
            instance.is_open = instance.is_open and Path("/proc", str(instance.process)).exists()
            found.append(instance)
        return found

    @property
    def openings(self) -> int:
        """How many objects were made."""
        return len(list(self._folder.glob("*.object")))


def install() -> None:
    """Let this process use the fakes; called in the camera's."""
    cv2.VideoCapture = VideoCapture  # type: ignore[assignment, misc]
    v4l2.list_nodes = _list_nodes
    v4l2.query_node = _query_node


def _query_node(path: Path, stable_path: str | None = None) -> VideoNode:
    known = {node.path: node for node in msgspec.convert(_behaviour().nodes, list[VideoNode])}
    return known.get(str(path), VideoNode(str(path), stable_path=stable_path, problem="No such file or directory"))


def _list_nodes(skipped: Container[str] = (), on_node: Callable[[str], None] = lambda _: None) -> list[VideoNode]:
    found = []
    for node in msgspec.convert(_behaviour().nodes, list[VideoNode]):
        if node.path not in skipped:
            on_node(node.path)
            if node.card == "hangs":
                hang()
            found.append(node)
    return found


def hang() -> None:
    """Never return, and never let another thread run."""
    ctypes.PyDLL(None).sleep(100_000)


def _folder() -> Path:
    return Path(os.environ[FOLDER])


def _behaviour() -> SimpleNamespace:
    path = _folder() / "behaviour.json"
    return SimpleNamespace(**_BEHAVIOUR | (json.loads(path.read_text()) if path.exists() else {}))


class _Recorded:
    """Keeps a record of what is done with an object, for `Hardware.instances`."""

    def __init__(self) -> None:
        self._path = _folder() / f"{time.time_ns():020d}.object"
        self._record: dict[str, Any] = {"is_open": False, "process": os.getpid()}
        self._recording = threading.Lock()

    def record(self, **values: object) -> None:
        with self._recording:
            self._record |= values
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps(self._record))
            part.replace(self._path)


class AfModeEnum(enum.IntEnum):
    """As in libcamera.controls."""

    Manual = 0
    Auto = 1
    Continuous = 2


class AfTriggerEnum(enum.IntEnum):
    """As in libcamera.controls."""

    Start = 0
    Cancel = 1


controls = SimpleNamespace(AfModeEnum=AfModeEnum, AfTriggerEnum=AfTriggerEnum)


class CompletedRequest:
    """A frame of picamera2; its memory belongs to the camera until it is released."""

    def __init__(self, camera: Picamera2, number: int) -> None:
        self._camera, self._number = camera, number
        self._config = camera.camera_configuration()
        self.released = False
        camera.requests_out += 1

    def make_buffer(self, name: str) -> npt.NDArray[np.uint8]:
        lores = self._config.get(name)
        if self.released or lores is None:
            raise RuntimeError(f"Stream {name!r} is not defined")
        self._camera.copied += 1
        (width, height), stride = lores["size"], lores["stride"]
        # The colour planes lie below the luma plane.
        planes = np.full((height * 3 // 2, stride), 128, np.uint8)
        planes[:height, :width] = cv2.resize(demo.frame(self._number), (width, height))
        return planes.reshape(-1)

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


class Picamera2(_Recorded):
    """The part of picamera2's class that is used, with a camera that plays the demo at 50 frames per second.

    Like the real one, it processes calls in order in a thread of its own, so that a stop waits behind a capture that
    waits for a frame; it keeps the newest frame; it closes itself at exit; and when it cannot be made, it leaves a
    descriptor open. The thread runs from `start` to `stop_preview`. A job for which no thread runs waits for ever.
    `tests/system/picamera2` compares it with the real one.
    """

    opened: list[Picamera2] = []  # noqa: RUF012 - those of this process

    def __init__(self, camera_num: int = 0) -> None:
        super().__init__()
        behaviour = _behaviour()
        if camera_num >= len(behaviour.modules):
            raise RuntimeError(
                f'No camera number {camera_num} found - use "rpicam-hello --list-cameras" to check connected cameras'
            )
        self.module = behaviour.modules[camera_num]
        self.is_open = False
        self._pipe = os.pipe()
        # libcamera does not let a camera be acquired twice.
        if behaviour.in_use or any(other.module == self.module and other.is_open for other in self.opened):
            os.close(self._pipe[0])
            self.record(module=self.module)
            reason = RuntimeError("Failed to acquire camera: Device or resource busy")
            raise RuntimeError("Camera __init__ sequence did not complete.") from reason
        self.is_open = True
        self.opened.append(self)
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
        self._loop: threading.Thread | None = None
        self._loop_must_end = False
        self._note()
        atexit.register(self.close)

    def _note(self) -> None:
        self.record(
            module=self.module,
            is_open=self.is_open,
            requests_out=self.requests_out,
            copied=self.copied,
            controls_given=self.controls_given,
            starts=self.starts,
            config=self._config,
        )

    def __getattribute__(self, name: str) -> Any:  # noqa: ANN401
        if name == "cancel_all_and_flush" and _behaviour().is_too_old:
            raise AttributeError(name)
        return super().__getattribute__(name)

    @classmethod
    def global_camera_info(cls) -> list[dict[str, Any]]:
        behaviour = _behaviour()
        if behaviour.enumeration_hangs:
            hang()
        return list(behaviour.modules)

    @property
    def camera_controls(self) -> dict[str, tuple[float, float, float]]:
        found: dict[str, tuple[float, float, float]] = _behaviour().controls_of_camera
        return found if self.is_open else {}

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
        if not self.is_open:
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
        behaviour = _behaviour()
        if self._started:
            raise RuntimeError("Camera must be stopped before configuring")
        if behaviour.fails_to_configure:
            raise RuntimeError("Failed to configure camera: Invalid argument")
        if lores and (lores["size"][0] > main["size"][0] or lores["size"][1] > main["size"][1]):
            raise RuntimeError("lores stream dimensions may not exceed main stream")
        for stream in filter(None, (main, lores)):
            width, height = stream["size"]
            stride = -(-width // 64) * 64
            # The real one takes another format without an error if the camera lacks the wanted one.
            stream.update(format=behaviour.frame_format, stride=stride, framesize=stride * height * 3 // 2)
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
        self._note()

    def start(self) -> None:
        if self._started:
            return
        if self._loop is None:
            self._loop_must_end = False
            self._loop = threading.Thread(target=self._run, name="picamera2", daemon=True)
            self._loop.start()
        self.starts += 1
        self._started = True
        self._note()

    def capture_request(self, wait: bool | float | None = None) -> Any:  # noqa: ANN401, FBT001 - as picamera2's
        return self._dispatch(self._take_newest, wait=wait)

    def wait(self, job: Job, timeout: float | None = None) -> Any:  # noqa: ANN401 - as picamera2's
        if _behaviour().frame_hangs:
            hang()
        return job.get_result(timeout=timeout)

    def cancel_all_and_flush(self) -> None:
        with self._lock:
            for job in self._jobs:
                job.cancel()
            self._jobs = []

    def stop_preview(self) -> None:
        if self._loop is None:
            raise RuntimeError("No preview specified.")
        self._loop_must_end = True
        self._loop.join()
        self._loop = None

    def stop(self) -> None:
        if self._started and self._loop is not None:
            self._dispatch(self._stop, wait=True)
        elif self._started:
            self._stop()

    def close(self) -> None:
        atexit.unregister(self.close)
        if not self.is_open:
            return
        if self._loop is not None:
            self.stop_preview()
        self.stop()
        self.is_open = False
        self._config = {}
        for descriptor in self._pipe:
            os.close(descriptor)
        self._note()

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
        if _behaviour().stop_hangs:
            hang()
        self._started = False
        self._drop_newest()
        return True, None

    def _drop_newest(self) -> None:
        if self._newest:
            self._newest.release()
        self._newest = None

    def _run(self) -> None:
        while not self._loop_must_end:
            time.sleep(0.02)
            behaviour = _behaviour()
            if behaviour.loop_breaks:
                return
            with self._lock:
                if self._started and behaviour.gives_frames:
                    self._drop_newest()
                    self._number += 1
                    self._newest = CompletedRequest(self, self._number)
                while self._jobs and self._jobs[0].execute():
                    self._jobs.pop(0)
            self._note()


CONVERTED: Final = {"YUYV", "MJPG", "GBRG"}  # formats that also OpenCV 4.11 converts to BGR of the right shape


def as_sent(colour: cv2.typing.MatLike, pixel_format: str) -> cv2.typing.MatLike:
    """Return a BGR image as a camera sends it in a format, in the shape that OpenCV 4.12 and later give it."""
    gray = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
    conversions = {
        "YUYV": cv2.COLOR_BGR2YUV_YUYV,
        "UYVY": cv2.COLOR_BGR2YUV_UYVY,
        "YU12": cv2.COLOR_BGR2YUV_I420,
        "YV12": cv2.COLOR_BGR2YUV_YV12,
        "RGB3": cv2.COLOR_BGR2RGB,
        "AR24": cv2.COLOR_BGR2BGRA,
        "XR24": cv2.COLOR_BGR2BGRA,
        "GREY": cv2.COLOR_BGR2GRAY,
    }
    shifts = {"Y10": 2, "Y12": 4, "Y16": 8}
    match pixel_format:
        case "MJPG":
            return cv2.imencode(".jpg", colour)[1].reshape(1, -1)
        case "BGR3":
            return colour
        case "NV12" | "NV21":  # the bytes of U and V take turns
            planes = cv2.cvtColor(colour, cv2.COLOR_BGR2YUV_I420)
            rows, u_and_v = len(colour), planes[len(colour) :].reshape(2, -1)
            planes[rows:] = u_and_v[:: 1 if pixel_format == "NV12" else -1].T.reshape(planes[rows:].shape)
            return planes
        case "Y10" | "Y12" | "Y16":  # the lowest bits are noise
            return (gray.astype(np.uint16) << shifts[pixel_format]) | 3
        case "Y16\xa0":  # big-endian
            return as_sent(colour, "Y16").astype(">u2").view(np.uint16)
    return cv2.cvtColor(colour, conversions[pixel_format])


class VideoCapture(_Recorded):
    """The part of cv2.VideoCapture that is used, with a USB camera.

    Like the real one with V4L2, it decodes frames to BGR, or gives them as they are: Motion JPEG as one row of bytes,
    and others with their rows, columns and channels. OpenCV 4.11 gives those as one row, too (``flat``), and also BGR
    that it should convert. A camera keeps its format if it lacks the one that is asked for.
    """

    def __init__(self, source: int | str, api: int = 0, params: list[int] | None = None) -> None:
        super().__init__()
        behaviour = _behaviour()
        self._descriptor: int | None = None
        self.source, self.api, self.params = source, api, params
        self.settings: dict[int, float] = {}
        self.retrieved = 0
        self._number = -1
        self._format = behaviour.formats[0]
        self._note()
        if behaviour.opening_hangs:
            hang()
        time.sleep(behaviour.opening_takes)
        if behaviour.opens:
            self._descriptor = os.open(os.devnull, os.O_RDONLY)
        elif behaviour.leaks:
            os.open(os.devnull, os.O_RDONLY)
        self._note()

    def _note(self) -> None:
        self.record(
            is_open=self.isOpened(),
            source=self.source,
            api=self.api,
            params=self.params,
            settings=self.settings,
            retrieved=self.retrieved,
            number=self._number,
            format=self._format,
        )

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self._descriptor is not None

    def set(self, key: int, value: float) -> bool:
        behaviour = _behaviour()
        if key == cv2.CAP_PROP_FOURCC:
            wanted = int(value).to_bytes(4, "little").decode()
            found = wanted in behaviour.formats
            self._format = wanted if found else self._format
            return found
        self.settings[key] = value
        return True

    def get(self, key: int) -> float:
        if key == cv2.CAP_PROP_FOURCC:
            return float(int.from_bytes(self._format.ljust(4).encode("latin-1"), "little"))
        return float(_behaviour().size[key == cv2.CAP_PROP_FRAME_HEIGHT])

    def grab(self) -> bool:
        behaviour = _behaviour()
        if behaviour.hangs:
            hang()
        if behaviour.crashes:
            os.abort()
        time.sleep(behaviour.interval)
        if self._descriptor is None or self.source in behaviour.dead_nodes:
            return False
        self._number += 1
        self._note()
        return behaviour.frames_then_fails is None or self._number < behaviour.frames_then_fails

    def retrieve(self, image: cv2.typing.MatLike | None = None) -> tuple[bool, cv2.typing.MatLike | None]:
        behaviour = _behaviour()
        self.retrieved += 1
        self._note()
        if behaviour.all_damaged or self._number in behaviour.damaged:
            return False, None
        gray = demo.frame(self._number)
        if tuple(behaviour.size) != (640, 480):
            gray = np.asarray(cv2.resize(gray, behaviour.size), np.uint8)
        colour = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR, dst=image)
        if self.settings.get(cv2.CAP_PROP_CONVERT_RGB) == 0:
            return True, self.as_sent(colour)
        is_flat = behaviour.flat and self._format not in CONVERTED
        return True, colour.reshape(1, -1) if is_flat else colour

    def as_sent(self, colour: cv2.typing.MatLike) -> cv2.typing.MatLike:
        """Return a frame as the camera sends it."""
        sent = as_sent(colour, self._format)
        return np.ascontiguousarray(sent).view(np.uint8).reshape(1, -1) if _behaviour().flat else sent

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._note()
