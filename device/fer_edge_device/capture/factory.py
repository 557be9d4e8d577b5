"""Opening where frames come from: a camera, a stream, a video, a folder of images, the demo.

Every source gives grey frames.  A live source (`fer_edge_device.capture.supervisor`) gives the time of the clock
and always its newest frame; any other (`fer_edge_device.capture.video_file`) gives the time within the video and
every frame.
"""

from __future__ import annotations

import functools
import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import SourceError
from fer_edge_device.capture import v4l2
from fer_edge_device.capture.opencv import NetworkStream, V4l2Camera, shown
from fer_edge_device.capture.picamera2 import PiCamera, module_number, need_module
from fer_edge_device.capture.supervisor import LiveSource, Timeouts
from fer_edge_device.capture.video_file import DemoVideo, ImageFolder, RealtimePlayback, VideoFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from fer_edge_device.capture.base import FrameSource
    from fer_edge_device.capture.supervisor import CaptureDevice
    from fer_edge_device.config.settings import CameraSettings

_FIRST_FRAME: Final = 15.0  # seconds a camera module, or a source that was asked for by name, has for its first frame
_START: Final = 45.0  # seconds that picamera2 and libcamera may take to start: half of what the unit may
_HANG: Final = 15.0  # seconds that a call of a driver may take; see `Timeouts`
_TRIAL: Final = 3.0  # seconds a video node has that was not: many are no cameras


def open_source(settings: CameraSettings, *, realtime: bool | None = None) -> FrameSource:
    """Open a source by its name in the configuration or on the command line.

    A live source has given its first frame when this returns.

    Args:
        settings: its ``source`` is ``auto``, ``picamera2``, ``picamera2:N``, ``demo``, a camera's number or path,
            a stream's address, a video or a folder.
        realtime: whether a video plays no faster than it was taken; by default only the demo does.

    Raises:
        SourceError: there is no such source, it cannot be opened, or it gives no frame.
    """
    source = settings.source
    if source == "auto":
        return _open_any(settings)
    if (number := module_number(source)) is not None:
        return _open_module(source, number, settings)
    if (device := _device(source, settings)) is not None:
        return _open_live(source, device, settings, _patience_for_first(settings))
    video: FrameSource
    path = Path(source) if source else Path("/nonexistent")  # the empty path would be the current folder
    if source == "demo":
        video = DemoVideo()
    elif path.is_dir():
        video = ImageFolder(path)
    elif path.is_file():
        video = VideoFile(path)
    else:
        raise SourceError(
            f"no source {shown(source)!r}: give auto, picamera2, demo, a camera's number or /dev/video path,"
            " rtsp://..., a video or a folder of images"
        )
    return RealtimePlayback(video) if (source == "demo" if realtime is None else realtime) else video


def _device(source: str, settings: CameraSettings) -> Callable[[], CaptureDevice] | None:
    """What makes the device of a stream or a video node; None for any other source."""
    if "://" in source:
        return functools.partial(NetworkStream, source, settings.stall_timeout_s)
    if _is_number(source) or source.startswith("/dev/"):
        return _v4l2(int(source) if _is_number(source) else source, settings)
    return None


def _v4l2(which: int | str, settings: CameraSettings) -> Callable[[], CaptureDevice]:
    return functools.partial(V4l2Camera, which, settings.width, settings.height, settings.stall_timeout_s)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 4


def _open_module(source: str, number: int, settings: CameraSettings) -> LiveSource:
    _find_module(number)  # here, where the first frame's clock does not run yet
    make_device = functools.partial(PiCamera, number, settings)
    return _open_live(source, make_device, settings, _patience_for_first(settings))


def _find_module(number: int) -> None:
    """Look for a camera module, and leave libcamera behind if it hangs; see `need_module`."""
    looked: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def look() -> None:
        try:
            need_module(number)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            looked.put(error)
        else:
            looked.put(None)

    threading.Thread(target=look, name="camera", daemon=True).start()
    try:
        error = looked.get(timeout=_START)
    except queue.Empty:
        error = SourceError(
            f"picamera2: looking for camera modules takes more than {_START:g} s; is its cable in order?"
        )
    if error:
        raise error


def _patience_for_first(settings: CameraSettings) -> float:
    return max(_FIRST_FRAME, 2 * settings.stall_timeout_s)


def _open_live(
    source: str, make_device: Callable[[], CaptureDevice], settings: CameraSettings, seconds: float
) -> LiveSource:
    patience = Timeouts(settings.stall_timeout_s, settings.exit_after_s, hang=max(_HANG, 3 * settings.stall_timeout_s))
    camera = LiveSource(shown(source), make_device, patience)
    try:
        camera.wait(seconds)
    except BaseException:  # Ctrl-C, too
        camera.close()
        raise
    return camera


def _open_any(settings: CameraSettings) -> FrameSource:
    tried = []
    try:
        return _open_module("picamera2", 0, settings)
    except SourceError as error:
        tried.append(str(error))
    nodes = v4l2.candidates()
    for source in (node.lasting_path or node.path for node in nodes):
        try:
            return _open_live(source, _v4l2(source, settings), settings, _TRIAL)
        except SourceError as error:
            tried.append(str(error))
    if not nodes:
        tried.append("there is no /dev/video*")
    raise SourceError(f"no camera found ({'; '.join(tried)}); connect one, or try --source demo")
