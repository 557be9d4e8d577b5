"""Opening a source by its name: a camera, a stream, a video, a folder of images or the demo.

A camera or stream (`fer_edge_device.capture.camera`) always gives its newest frame, with the time of the machine's
clock; a process of its own reads it. Any other source (`fer_edge_device.capture.video_file`) gives every frame, with
the time within the video. It is read in this process: a file has no driver that hangs, every frame is wanted in turn,
and there is nothing to switch off.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import SourceError
from fer_edge_device.capture.camera import Camera
from fer_edge_device.capture.channel import Timeouts
from fer_edge_device.capture.http_stream import tls_context
from fer_edge_device.capture.source_name import display_name, is_camera
from fer_edge_device.capture.video_file import DemoVideo, ImageFolder, LoopedVideo, RealtimePlayback, VideoFile

if TYPE_CHECKING:
    from fer_edge_device.capture.base import FrameSource, SwitchableSource
    from fer_edge_device.config.settings import CameraSettings

_MIN_HANG_TIMEOUT: Final = 15.0  # seconds for one call of a driver; see `Timeouts`


def make_source(
    settings: CameraSettings,
    *,
    realtime: bool | None = None,
    loop: bool = False,
    may_shrink: bool = False,
    wait: bool = False,
) -> SwitchableSource:
    """Make a source that can be closed and opened again. A live source is not opened yet.

    Args:
        settings: as for `open_source`.
        realtime: as for `open_source`.
        loop: whether a video starts again when it ends.
        may_shrink: as for `open_source`.
        wait: whether ``open`` of a live source waits for its first frame, and fails without it. Otherwise it is tried
            again until ``exit_after_s`` has passed.

    Raises:
        InputError: ``camera.ca_file`` cannot be used.
        SourceError: there is no such source, or a video or folder cannot be opened.
    """
    source = settings.source
    if not is_camera(source):
        return _open_recording(source, realtime=realtime, loop=loop)
    if source.lower().startswith("https://"):
        tls_context(settings)
    return Camera(settings, make_timeouts(settings), may_shrink=may_shrink, wait=wait)


def open_source(settings: CameraSettings, *, realtime: bool | None = None, may_shrink: bool = False) -> FrameSource:
    """Open a source. A live source has given its first frame when this returns.

    Args:
        settings: ``source`` is ``auto``, ``picamera2``, ``picamera2:N``, ``demo``, the number or path of a camera, the
            address of a stream, a video or a folder.
        realtime: whether a video plays no faster than it was recorded; None: only the demo does.
        may_shrink: as for `fer_edge_device.capture.opencv.V4l2Camera`.

    Raises:
        SourceError: the source does not exist, cannot be opened, or gives no frame.
    """
    source = make_source(settings, realtime=realtime, may_shrink=may_shrink, wait=True)
    source.open()
    return source


def make_timeouts(settings: CameraSettings) -> Timeouts:
    """Return how long a camera is waited for."""
    return Timeouts(
        stall=settings.stall_timeout_s,
        give_up=settings.exit_after_s,
        hang=max(_MIN_HANG_TIMEOUT, 3 * settings.stall_timeout_s),
    )


def _open_recording(source: str, *, realtime: bool | None, loop: bool) -> SwitchableSource:
    video: SwitchableSource = LoopedVideo(partial(_open_video, source)) if loop else _open_video(source)
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
