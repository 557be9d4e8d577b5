from __future__ import annotations

import time
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge import demo
from fer_edge_device.capture.factory import open_source
from fer_edge_device.config.settings import CameraSettings

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_device.capture.base import Frame, FrameSource


def opened(source: Path | str, *, realtime: bool | None = None) -> FrameSource:
    return open_source(CameraSettings(source=str(source)), realtime=realtime)


def all_frames(camera: FrameSource) -> list[Frame]:
    frames = []
    while (frame := camera.read()) is not None:
        frames.append(frame)
    camera.close()
    return frames


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two seconds of the demo as an MP4 file with 20 frames per second."""
    path = tmp_path_factory.mktemp("video") / "demo.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20, (demo.WIDTH, demo.HEIGHT))
    assert writer.isOpened()
    for number in range(40):
        writer.write(cv2.cvtColor(demo.frame(number), cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def test_video_gives_every_frame_with_its_time(video: Path) -> None:
    frames = all_frames(opened(video))
    assert [frame.number for frame in frames] == list(range(40))
    assert [frame.time for frame in frames] == pytest.approx([n / 20 for n in range(40)], abs=0.002)
    assert np.abs(frames[10].gray.astype(int) - demo.frame(10)).mean() < 4


def test_video_without_times_uses_nominal_rate(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_capture = cv2.VideoCapture

    class Timeless:
        """A real video reader without frame times. It is no subclass, which would crash OpenCV 4.9."""

        def __init__(self, path: str, api: int) -> None:
            self._capture = real_capture(path, api)

        def get(self, key: int) -> float:
            return 0.0 if key == cv2.CAP_PROP_POS_MSEC else self._capture.get(key)

        def __getattr__(self, name: str) -> object:
            return getattr(self._capture, name)

    monkeypatch.setattr(cv2, "VideoCapture", Timeless)
    frames = all_frames(opened(video))
    assert [frame.time for frame in frames] == pytest.approx([n / 20 for n in range(40)], abs=0.002)


def test_realtime_playback_takes_as_long_as_the_video(video: Path) -> None:
    start = time.monotonic()
    all_frames(opened(video, realtime=True))
    assert time.monotonic() - start >= 39 / 20


def test_demo_has_120_frames_at_ten_per_second() -> None:
    frames = all_frames(opened("demo", realtime=False))
    assert len(frames) == demo.FRAMES
    assert frames[25].time == 2.5


def test_folder_gives_its_images_in_order_of_name(tmp_path: Path) -> None:
    for name, value in (("b.png", 20), ("a.jpg", 10), ("d.png", 40)):
        cv2.imwrite(str(tmp_path / name), np.full((60, 80), value, np.uint8))
    (tmp_path / "c.png").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("not an image")
    frames = all_frames(opened(tmp_path))
    assert [(int(frame.gray.mean()), frame.time) for frame in frames] == [(10, 0.0), (20, 0.1), (40, 0.3)]


def test_warns_of_truncated_video(video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    all_frames(opened(video))
    assert not caplog.records
    # The index stays intact and announces 40 frames; the second half of the image data is overwritten.
    data = bytearray(video.read_bytes())
    start, length = data.index(b"mdat") + 4, int.from_bytes(data[data.index(b"mdat") - 4 : data.index(b"mdat")], "big")
    data[start + length // 2 : start + length - 8] = bytes(length - 8 - length // 2)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    frames = all_frames(opened(damaged))
    assert 10 < len(frames) < 38
    [record] = caplog.records
    assert record.getMessage() == (
        f"{damaged}: ended after {len(frames)} of about 40 frames; the video is damaged or truncated"
    )


def test_does_not_warn_if_frame_count_is_missing_or_absurd(
    video: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real_capture = cv2.VideoCapture
    for announced in (0.0, -1.9e14, 41.0):

        class Guessing:
            """A real video reader with a wrong number of frames."""

            def __init__(self, path: str, api: int) -> None:
                self._capture = real_capture(path, api)

            def get(self, key: int, announced: float = announced) -> float:
                return announced if key == cv2.CAP_PROP_FRAME_COUNT else self._capture.get(key)

            def __getattr__(self, name: str) -> object:
                return getattr(self._capture, name)

        monkeypatch.setattr(cv2, "VideoCapture", Guessing)
        assert len(all_frames(opened(video))) == 40
    assert not caplog.records
