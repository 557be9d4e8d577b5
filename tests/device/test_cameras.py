from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_edge import demo
from fer_edge.errors import SourceError, SourceLostError
from fer_edge_device.cameras import Camera, Frame, NewestFrame, NoFrameYet, PiCamera, open_camera
from tests.device import fakes


def all_frames(camera: Camera) -> list[Frame]:
    frames = []
    while (frame := camera.read()) is not None:
        frames.append(frame)
    camera.close()
    return frames


def next_frame(camera: Camera) -> Frame:
    while True:
        try:
            frame = camera.read()
        except NoFrameYet:
            continue
        assert frame is not None
        return frame


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of the demo as a real MP4 file at 20 frames a second."""
    path = tmp_path_factory.mktemp("film") / "demo.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20, (demo.WIDTH, demo.HEIGHT))
    assert writer.isOpened()
    for number in range(40):
        writer.write(cv2.cvtColor(demo.frame(number), cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def test_a_film_gives_every_frame_with_the_films_times(film: Path) -> None:
    frames = all_frames(open_camera(str(film)))
    assert [frame.number for frame in frames] == list(range(40))
    assert [frame.time for frame in frames] == pytest.approx([n / 20 for n in range(40)], abs=0.002)
    assert np.abs(frames[10].gray.astype(int) - demo.frame(10)).mean() < 4


def test_a_film_without_times_goes_on_at_its_nominal_rate(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cv2.VideoCapture

    class Timeless:
        """The real reader of the real file, but for its times; a subclass would crash OpenCV 4.9."""

        def __init__(self, path: str, api: int) -> None:
            self._capture = real(path, api)

        def get(self, key: int) -> float:
            return 0.0 if key == cv2.CAP_PROP_POS_MSEC else self._capture.get(key)

        def __getattr__(self, name: str) -> object:
            return getattr(self._capture, name)

    monkeypatch.setattr(cv2, "VideoCapture", Timeless)
    frames = all_frames(open_camera(str(film)))
    assert [frame.time for frame in frames] == pytest.approx([n / 20 for n in range(40)], abs=0.002)


def test_a_film_in_real_time_takes_as_long_as_it_lasts(film: Path) -> None:
    start = time.monotonic()
    all_frames(open_camera(str(film), realtime=True))
    assert time.monotonic() - start >= 39 / 20


def test_the_demo_is_120_frames_at_ten_a_second() -> None:
    frames = all_frames(open_camera("demo", realtime=False))
    assert len(frames) == demo.FRAMES
    assert frames[25].time == 2.5


def test_a_folder_is_a_film_in_order_of_name_without_what_is_no_picture(tmp_path: Path) -> None:
    for name, value in (("b.png", 20), ("a.jpg", 10), ("d.png", 40)):
        cv2.imwrite(str(tmp_path / name), np.full((60, 80), value, np.uint8))
    (tmp_path / "c.png").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("not a picture")
    frames = all_frames(open_camera(str(tmp_path)))
    assert [(int(frame.gray.mean()), frame.time) for frame in frames] == [(10, 0.0), (20, 0.1), (40, 0.3)]


def test_the_pi_camera_gives_its_luma_plane_without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", fakes)
    before = fakes.Picamera2.opened - fakes.Picamera2.closed
    camera = open_camera("picamera2", width=1601, height=900)
    frame = next_frame(camera)
    camera.close()
    assert frame.gray.shape == (900, 1600)
    assert (frame.gray == cv2.resize(demo.frame(frame.number), (1600, 900))).all()
    assert abs(frame.time + frame.epoch - time.time()) < 5
    assert fakes.Picamera2.opened - fakes.Picamera2.closed == before


def test_a_pi_camera_that_cannot_be_configured_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", fakes)
    monkeypatch.setattr(fakes.Picamera2, "fails_to_configure", True)
    before = fakes.Picamera2.opened - fakes.Picamera2.closed
    with pytest.raises(SourceError, match="Failed to configure camera"):
        open_camera("picamera2")
    assert fakes.Picamera2.opened - fakes.Picamera2.closed == before


def test_auto_prefers_the_pi_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", fakes)
    camera = open_camera("auto")
    assert camera.live
    assert isinstance(camera, NewestFrame)
    assert isinstance(camera._camera, PiCamera)
    camera.close()


def test_a_pi_without_its_camera_or_its_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(SourceError, match=r"sudo apt install python3-picamera2.*--system-site-packages"):
        open_camera("picamera2")
    monkeypatch.setitem(sys.modules, "picamera2", fakes)
    monkeypatch.setattr(fakes, "Picamera2", fakes.NoPicamera2)
    with pytest.raises(SourceError, match="is the camera connected"):
        open_camera("picamera2")


def test_a_picamera2_built_for_another_numpy_is_no_internal_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match=r"numpy\.dtype size changed"):
        open_camera("picamera2")


def test_auto_passes_over_a_node_that_gives_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setattr(cv2, "VideoCapture", fakes.VideoCapture)
    monkeypatch.setattr(fakes.VideoCapture, "dead_nodes", ("/dev/video0", "/dev/video2"))
    nodes = [Path(f"/dev/video{number}") for number in (10, 2, 0)]
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(nodes))  # noqa: ARG005
    camera = open_camera("auto")
    assert isinstance(camera, NewestFrame)
    assert camera._camera._source == "/dev/video10"  # type: ignore[attr-defined]
    camera.close()


def test_a_usb_camera_is_asked_for_small_fresh_mjpg_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", fakes.VideoCapture)
    camera = open_camera("0", width=320, height=240)
    assert isinstance(camera, NewestFrame)
    capture = camera._camera._capture  # type: ignore[attr-defined]
    assert (capture.source, capture.api) == (0, cv2.CAP_V4L2)
    assert capture.settings == {
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
        cv2.CAP_PROP_FRAME_WIDTH: 320,
        cv2.CAP_PROP_FRAME_HEIGHT: 240,
        cv2.CAP_PROP_BUFFERSIZE: 1,
    }
    assert next_frame(camera).gray.shape == (480, 640)
    camera.close()


def test_a_slow_reader_gets_the_newest_frame_and_numbers_tell_what_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", fakes.VideoCapture)
    camera = open_camera("/dev/video9")
    first = next_frame(camera)
    time.sleep(0.3)
    then = next_frame(camera)
    assert then.number > first.number + 5
    assert time.time() - then.time - then.epoch < 0.2
    camera.close()


def test_a_camera_that_hangs_is_no_frame_yet_and_does_not_block_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", fakes.VideoCapture)
    monkeypatch.setattr(fakes.VideoCapture, "hangs", True)
    camera = open_camera("0")
    with pytest.raises(NoFrameYet):
        camera.read()
    start = time.monotonic()
    camera.close()
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    ("attribute", "value", "complaint"),
    [
        ("opens", False, "cannot be opened"),
        ("frames_then_fails", 0, "gave no frame; is it unplugged or in use"),
        ("flat", True, r"gave a frame of shape \(1, 691200\), which is no picture"),
    ],
)
def test_a_camera_that_fails_says_how(
    monkeypatch: pytest.MonkeyPatch, attribute: str, value: object, complaint: str
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", fakes.VideoCapture)
    monkeypatch.setattr(fakes.VideoCapture, attribute, value)
    with pytest.raises((SourceError, SourceLostError), match=complaint):
        next_frame(open_camera("0"))


def test_the_password_of_a_stream_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", fakes.VideoCapture)
    monkeypatch.setattr(fakes.VideoCapture, "opens", False)
    with pytest.raises(SourceError) as caught:
        open_camera("rtsp://me:se@cret@camera.local/stream")
    assert "rtsp://camera.local: cannot be opened" in str(caught.value)
    assert "cret" not in str(caught.value)
    for address in ("http://camera.local/video?user=me&password=secret", "rtsp:/me:secret@camera.local/stream"):
        with pytest.raises(SourceError) as caught:
            open_camera(address)
        assert "camera.local" in str(caught.value)
        assert "secret" not in str(caught.value)


def test_what_is_not_a_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no source 'nowhere.mp4': give auto"):
        open_camera("nowhere.mp4")
    with pytest.raises(SourceError, match="no pictures in this folder"):
        open_camera(str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match="none of its 1 pictures can be read"):
        open_camera(str(tmp_path)).read()
    (tmp_path / "text.mp4").write_text("not a film")
    with pytest.raises(SourceError, match="not a film that OpenCV can read"):
        open_camera(str(tmp_path / "text.mp4"))
