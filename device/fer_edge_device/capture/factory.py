"""Opening a source by its name: a camera, a stream, a video, a folder of images or the demo.

A live source (`fer_edge_device.capture.supervisor`) always gives its newest frame, with the time of the machine's
clock. Any other source (`fer_edge_device.capture.video_file`) gives every frame, with the time within the video.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import SourceError
from fer_edge_device.capture import v4l2
from fer_edge_device.capture.camera import Camera, Opening
from fer_edge_device.capture.http_stream import HttpStream, tls_context
from fer_edge_device.capture.opencv import NetworkStream, V4l2Camera, display_name
from fer_edge_device.capture.picamera2 import PiCamera, module_number, require_module
from fer_edge_device.capture.supervisor import LiveSource, Timeouts
from fer_edge_device.capture.video_file import DemoVideo, ImageFolder, RealtimePlayback, VideoFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from fer_edge_device.capture.base import FrameSource, SwitchableSource
    from fer_edge_device.capture.supervisor import CaptureDevice
    from fer_edge_device.config.settings import CameraSettings

# All in seconds.
_FIRST_FRAME_TIMEOUT: Final = 15.0  # for a camera module, or a source that was given by name
_TRIAL_TIMEOUT: Final = 3.0  # for the first frame of a video node that "auto" tries: many nodes are not cameras
_LIBCAMERA_TIMEOUT: Final = 45.0  # for the start of picamera2 and libcamera: half of the unit's TimeoutStartSec
_POLL_INTERVAL: Final = 0.1  # between checks whether a camera is still wanted
_MIN_HANG_TIMEOUT: Final = 15.0  # for one call of a driver; see `Timeouts`


def make_source(
    settings: CameraSettings, *, realtime: bool | None = None, may_shrink: bool = False, wait: bool = False
) -> SwitchableSource:
    """Make a source that can be closed and opened again. A live source is not opened yet.

    Args:
        settings: as for `open_source`.
        realtime: as for `open_source`.
        may_shrink: as for `open_source`.
        wait: whether ``open`` of a live source waits for its first frame, and fails without it. Otherwise it is tried
            again until ``exit_after_s`` has passed.

    Raises:
        InputError: ``camera.ca_file`` cannot be used.
        SourceError: there is no such source, or a video or folder cannot be opened.
    """
    source = settings.source
    if not (source == "auto" or module_number(source) is not None or _device_maker(source, settings)):
        return _open_recording(source, realtime=realtime)

    return Camera(
        display_name(source),
        functools.partial(_open_camera, settings, may_shrink=may_shrink),
        give_up=settings.exit_after_s,
        hang=_hang_timeout(settings),
        wait=wait,
    )


def open_source(settings: CameraSettings, *, realtime: bool | None = None, may_shrink: bool = False) -> FrameSource:
    """Open a source. A live source has given its first frame when this returns.

    Args:
        settings: ``source`` is ``auto``, ``picamera2``, ``picamera2:N``, ``demo``, the number or path of a camera, the
            address of a stream, a video or a folder.
        realtime: whether a video plays no faster than it was recorded; None: only the demo does.
        may_shrink: as for `V4l2Camera`.

    Raises:
        SourceError: the source does not exist, cannot be opened, or gives no frame.
    """
    source = settings.source
    if source == "auto" or module_number(source) is not None or _device_maker(source, settings):
        return _open_camera(settings, Opening(), may_shrink=may_shrink)
    return _open_recording(source, realtime=realtime)


def _open_camera(settings: CameraSettings, opening: Opening, *, may_shrink: bool) -> LiveSource:
    source = settings.source
    if (number := module_number(source)) is not None:
        return _open_module(source, number, settings, opening)
    if (make_device := _device_maker(source, settings, may_shrink=may_shrink)) is not None:
        return _open_live(source, make_device, settings, _first_frame_timeout(settings), opening)
    return _open_any_camera(settings, opening, may_shrink=may_shrink)


def _open_recording(source: str, *, realtime: bool | None) -> SwitchableSource:
    video = _open_video(source)
    return RealtimePlayback(video) if (source == "demo" if realtime is None else realtime) else video


def _open_video(source: str) -> SwitchableSource:
    if source == "demo":
        return DemoVideo()
    path = Path(source)
    # An empty path would be the current folder.
    if source and path.is_dir():
        return ImageFolder(path)
    if source and path.is_file():
        return VideoFile(path)
    raise SourceError(
        f"no source {display_name(source)!r}: use auto, picamera2, demo, a camera's number or /dev/video path,"
        " rtsp://... or http://..., a video or a folder of images"
    )


def _open_any_camera(settings: CameraSettings, opening: Opening, *, may_shrink: bool) -> LiveSource:
    """Open the first camera that gives a frame: the first camera module, then video nodes."""
    failures = []
    try:
        return _open_module("picamera2", 0, settings, opening)
    except SourceError as error:
        failures.append(str(error))
    nodes = v4l2.camera_candidates()
    for source in (node.stable_path or node.path for node in nodes):
        if opening.ended.is_set():
            break
        try:
            make_device = _v4l2_maker(source, settings, may_shrink=may_shrink)
            return _open_live(source, make_device, settings, _TRIAL_TIMEOUT, opening)
        except SourceError as error:
            failures.append(str(error))
    if not nodes:
        failures.append("there is no /dev/video*")
    raise SourceError(f"no camera found ({'; '.join(failures)}); connect one, or try the source demo")


def _open_module(source: str, number: int, settings: CameraSettings, opening: Opening) -> LiveSource:
    _find_module(number, opening)  # before the time for the first frame starts to run
    make_device = functools.partial(PiCamera, number, settings)
    return _open_live(source, make_device, settings, _first_frame_timeout(settings), opening)


def _find_module(number: int, opening: Opening) -> None:
    """Check that a camera module is there, in a thread that is abandoned if libcamera hangs; see `require_module`."""
    result: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def find() -> None:
        try:
            require_module(number)
        except Exception as error:  # noqa: BLE001 - raised below
            result.put(error)
        else:
            result.put(None)

    threading.Thread(target=find, name="camera", daemon=True).start()
    deadline = time.monotonic() + _LIBCAMERA_TIMEOUT
    while time.monotonic() < deadline and not opening.ended.is_set():
        with contextlib.suppress(queue.Empty):
            if error := result.get(timeout=_POLL_INTERVAL):
                raise error
            return
    raise SourceError(
        f"picamera2: no answer within {_LIBCAMERA_TIMEOUT:g} s when looking for camera modules; check the cable"
    )


def _device_maker(
    source: str, settings: CameraSettings, *, may_shrink: bool = False
) -> Callable[[], CaptureDevice] | None:
    """Return what makes the device of a stream or a video node; None for any other source."""
    if "://" in source:
        if source.lower().startswith(("http://", "https://")):
            return functools.partial(HttpStream, source, settings.stall_timeout_s, tls_context(settings))
        return functools.partial(NetworkStream, source, settings.stall_timeout_s)
    if _is_number(source) or source.startswith("/dev/"):
        return _v4l2_maker(int(source) if _is_number(source) else source, settings, may_shrink=may_shrink)
    return None


def _v4l2_maker(
    number_or_path: int | str, settings: CameraSettings, *, may_shrink: bool
) -> Callable[[], CaptureDevice]:
    return functools.partial(
        V4l2Camera,
        number_or_path,
        settings.width,
        settings.height,
        settings.stall_timeout_s,
        may_shrink=may_shrink,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 4


def _first_frame_timeout(settings: CameraSettings) -> float:
    return max(_FIRST_FRAME_TIMEOUT, 2 * settings.stall_timeout_s)


def _hang_timeout(settings: CameraSettings) -> float:
    return max(_MIN_HANG_TIMEOUT, 3 * settings.stall_timeout_s)


def _open_live(
    source: str,
    make_device: Callable[[], CaptureDevice],
    settings: CameraSettings,
    first_frame_timeout: float,
    opening: Opening,
) -> LiveSource:
    timeouts = Timeouts(settings.stall_timeout_s, settings.exit_after_s, hang=_hang_timeout(settings))
    live = LiveSource(display_name(source), make_device, timeouts)
    opening.add(live)
    try:
        live.wait_for_frame(first_frame_timeout)
    except BaseException:  # also Ctrl-C
        live.close()
        raise
    return live
