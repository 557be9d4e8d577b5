from __future__ import annotations

import time
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge import demo
from fer_edge.errors import SourceError
from fer_edge_device.capture.factory import make_source, open_source
from fer_edge_device.config.settings import CameraSettings
from tests.videos import QUARTER_RIGHT, make_video, turn_video

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_device.capture.base import Frame, FrameSource


def looped(source: Path | str) -> FrameSource:
    return make_source(CameraSettings(source=str(source)), realtime=False, loop=True)


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


@pytest.mark.parametrize("name", ["demo", "video"])
def test_loop_plays_again_and_its_times_go_on(name: str, video: Path) -> None:
    frames, interval = (40, 0.05) if name == "video" else (demo.FRAMES, 0.1)
    camera = looped(video if name == "video" else "demo")
    played = [camera.read() for _ in range(2 * frames + 5)]
    camera.close()
    assert [frame.number for frame in played if frame] == list(range(2 * frames + 5))
    assert [frame.time for frame in played if frame] == pytest.approx(
        [interval * number for number in range(2 * frames + 5)], abs=0.01
    )
    first, again = played[3], played[frames + 3]
    assert first
    assert again
    assert np.array_equal(first.gray, again.gray)


def test_loop_of_a_video_that_is_gone_is_an_error(video: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(video.read_bytes())
    camera = looped(copy)
    copy.unlink()
    for _ in range(40):
        camera.read()
    with pytest.raises(SourceError, match=r"copy\.mp4"):
        camera.read()
    camera.close()


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


def test_warns_of_damaged_video(video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    all_frames(opened(video))
    assert not caplog.records
    data = bytearray(video.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[(start + end) // 2 : end - 8] = bytes(end - 8 - (start + end) // 2)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    camera = opened(damaged)
    frames = all_frames(camera)
    assert 10 < len(frames) < 38
    assert camera.read() is None
    [record] = caplog.records
    assert record.getMessage().startswith(f"{damaged}: ")
    assert record.getMessage().endswith("cannot be decoded; it is damaged")


def test_plays_a_turned_video_with_repeated_times_upright(tmp_path: Path) -> None:
    path = turn_video(make_video(tmp_path / "phone.mp4"), QUARTER_RIGHT)
    assert all(frame.gray.shape == (320, 240) for frame in all_frames(opened(path)))
    frames = all_frames(opened(make_video(tmp_path / "a.mkv", [0, 100, 100, 200], gop=1)))
    assert [frame.time for frame in frames] == [0, 0.1, 0.1, 0.2]
