"""Test reading of videos as phones, cameras and editors write them, with both readers."""

from __future__ import annotations

import ast
import gc
import os
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest

from fer_edge import demo
from fer_edge.errors import DataError
from fer_edge.video import counted_file, factory, opencv_reader, pyav_reader
from fer_edge.video.factory import open_video
from tests.videos import (
    HALF,
    HEIGHT,
    MIRRORED,
    QUARTER_LEFT,
    QUARTER_RIGHT,
    WIDTH,
    make_video,
    trim_video,
    turn_video,
)

if TYPE_CHECKING:
    import numpy.typing as npt

EVEN = [number / 10 for number in range(20)]


@pytest.fixture(params=["PyAV", "OpenCV"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Choose the reader."""
    monkeypatch.setattr(factory, "has_pyav", lambda: request.param == "PyAV")
    return str(request.param)


def read(path: Path, begin: float = 0.0) -> tuple[list[float], npt.NDArray[np.uint8], str]:
    """Return the times of the frames, the first frame, and what the reader found wrong."""
    with closing(open_video(path)) as video:
        times: list[float] = []
        first = np.zeros((0, 0), np.uint8)
        for frame in video.frames(begin):
            if not times:
                first = frame.gray()
            times.append(round(frame.time, 3))
        return times, first, video.problem


def expected_frame(number: int = 60) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.resize(demo.frame(number), (WIDTH, HEIGHT)), np.uint8)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi", "a.ts", "a.flv", "a.webm"])
def test_reads_every_container(tmp_path: Path, name: str) -> None:
    make_video(tmp_path / name, codec={".webm": "libvpx", ".avi": "mjpeg"}.get(name[1:], "libx264"))
    times, first, problem = read(tmp_path / name)
    assert (times, problem) == (EVEN, "")
    assert np.abs(first.astype(int) - expected_frame()).mean() < 4


@pytest.mark.usefixtures("reader")
def test_title_may_have_any_encoding(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", title="Urlaub")
    path.write_bytes(path.read_bytes().replace(b"Urlaub", b"\xc4rger\xff"))
    assert len(read(path)[0]) == 20


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(
    ("matrix", "rotation"),
    [(QUARTER_RIGHT, cv2.ROTATE_90_CLOCKWISE), (HALF, cv2.ROTATE_180), (QUARTER_LEFT, cv2.ROTATE_90_COUNTERCLOCKWISE)],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_turns_videos_upright(tmp_path: Path, suffix: str, matrix: tuple[int, int, int, int], rotation: int) -> None:
    path = turn_video(make_video(tmp_path / f"a{suffix}"), matrix)
    _, first, _ = read(path)
    expected = cv2.rotate(expected_frame(), rotation)
    assert first.shape == expected.shape
    assert np.abs(first.astype(int) - expected).mean() < 4
    with closing(open_video(path)) as video:
        assert next(iter(video.frames())).bgr().shape == (*expected.shape, 3)


def test_turns_a_mirrored_video(tmp_path: Path) -> None:
    _, first, _ = read(turn_video(make_video(tmp_path / "selfie.mp4"), MIRRORED))
    assert np.abs(first.astype(int) - expected_frame()[:, ::-1]).mean() < 4


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("a.mkv", [0, 100, 200, 300, 300, 500, 600]),
        ("a.mkv", [0, 0, 100, 200]),
        ("a.mp4", [0, 10, 40, 90, 160, 5000, 5010]),  # of such an .mkv, OpenCV 4.11 loses the times
        ("a.mkv", [0, 100, 200, 60_000, 60_100]),
    ],
)
def test_keeps_repeated_and_uneven_times(tmp_path: Path, name: str, times: list[int], reader: str) -> None:
    found, _, problem = read(make_video(tmp_path / name, times, gop=1))
    assert found == pytest.approx([time / 1000 for time in times], abs=0.001 if reader == "PyAV" else 0.11)
    assert not problem


@pytest.mark.usefixtures("reader")
def test_joined_recordings_follow_one_another(tmp_path: Path) -> None:
    part = make_video(tmp_path / "part.ts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(part + part)
    times, _, _ = read(tmp_path / "joined.ts")
    assert len(times) == 40
    assert (np.diff(times) >= 0).all()
    assert times[-1] == pytest.approx(3.9, abs=0.11)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(("name", "codec"), [("a.h264", "libx264"), ("a.mjpeg", "mjpeg"), ("a.mjpg", "mjpeg")])
def test_raw_stream_without_times_has_a_constant_rate(tmp_path: Path, name: str, codec: str) -> None:
    container = "h264" if codec == "libx264" else "mjpeg"
    times, _, problem = read(make_video(tmp_path / name, codec=codec, container=container))
    assert len(times) == 20
    assert times == pytest.approx([number / 25 for number in range(20)], abs=0.002)
    assert not problem


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_longer_sound_is_no_damage(tmp_path: Path, name: str) -> None:
    times, _, problem = read(make_video(tmp_path / name, sound_s=8))
    assert (len(times), problem) == (20, "")


@pytest.mark.usefixtures("reader")
def test_trimmed_video_is_not_damaged(tmp_path: Path) -> None:
    times, _, problem = read(trim_video(make_video(tmp_path / "a.mp4", range(0, 6000, 100)), 1000, 2000))
    assert 19 <= len(times) <= 21
    assert times[0] == 0
    assert not problem


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "frag.mp4"])
def test_tells_that_a_video_is_cut_short(tmp_path: Path, name: str) -> None:
    muxer = {"a.mp4": {"movflags": "faststart"}, "frag.mp4": {"movflags": "frag_keyframe+empty_moov"}}.get(name)
    path = make_video(
        tmp_path / name, range(0, 6000, 100), codec="mjpeg" if name == "a.avi" else "libx264", muxer=muxer
    )
    assert not read(path)[2]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    times, _, problem = read(path)
    assert 5 < len(times) < 60
    assert f"because it is cut short: {len(data) // 2} of" in problem


@pytest.mark.usefixtures("reader")
def test_tells_that_a_video_without_its_index_is_cut_short(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="can read: it is cut short; copy it again"):
        open_video(path)


def test_reads_on_after_damage(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", gop=2)
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov")
    middle = (start + end) // 2
    data[middle : middle + (end - start) // 8] = bytes((end - start) // 8)
    path.write_bytes(data)
    times, _, problem = read(path)
    assert times[-1] == 1.9
    assert 10 < len(times) < 20
    assert "cannot be decoded; it is damaged" in problem


def test_closed_videos_leave_no_threads(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4")

    def threads_after(videos: int) -> int:
        for _ in range(videos):
            with closing(open_video(video)) as reader:
                next(reader.frames())
        return len(list(Path("/proc/self/task").iterdir()))

    assert threads_after(8) <= threads_after(1)


def test_damaged_index_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = pyav_reader.PyAvReader(make_video(tmp_path / "v.mkv"), 1)

    class Container:
        """The container of a file whose index is damaged."""

        def __init__(self, real: Any) -> None:  # noqa: ANN401 - FFmpeg's
            self._real = real

        def seek(self, *_: object, **__: object) -> None:
            raise av.error.PermissionError(1, "Operation not permitted")

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - likewise
            return getattr(self._real, name)

    monkeypatch.setattr(reader, "_container", Container(reader._container))
    with closing(reader):
        assert list(reader.frames(1.0)) == []
        assert reader.problem.endswith("v.mkv: cannot be read from 1.0 s on (Operation not permitted)")


def test_cover_picture_is_no_video(tmp_path: Path) -> None:
    times, first, _ = read(make_video(tmp_path / "a.mkv", cover_first=True))
    assert times == EVEN
    assert np.abs(first.astype(int) - expected_frame()).mean() < 4
    song = tmp_path / "song.mp4"
    with av.open(str(song), "w") as out:
        sound: Any = out.add_stream("aac", rate=8000)
        cover: Any = out.add_stream("mjpeg")
        cover.width = cover.height = 64
        cover.pix_fmt, cover.disposition = "yuvj420p", av.stream.Disposition.attached_pic
        picture = av.Packet(cv2.imencode(".jpg", np.full((64, 64, 3), 9, np.uint8))[1].tobytes())
        picture.stream, picture.pts, picture.dts = cover, 0, 0
        silence: Any = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        packets = [*sound.encode(silence), *sound.encode(), picture]
        for packet in packets:
            out.mux(packet)
    with pytest.raises(DataError, match="holds no video"):
        open_video(song)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_grey_is_that_of_the_colours(tmp_path: Path, codec: str) -> None:
    with closing(open_video(make_video(tmp_path / "a.mkv", codec=codec))) as video:
        for frame, _ in zip(video.frames(), range(3), strict=False):
            gray = cv2.cvtColor(frame.bgr(), cv2.COLOR_BGR2GRAY)
            assert np.abs(frame.gray().astype(int) - gray).max() <= 4


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
@pytest.mark.usefixtures("reader")
def test_starts_at_any_time_without_losing_a_frame(tmp_path: Path, name: str) -> None:
    path = make_video(tmp_path / name, range(0, 6000, 100), codec="mjpeg" if name == "a.avi" else "libx264", gop=7)
    for begin in (0.5, 2.0, 3.05, 5.9):
        times, _, _ = read(path, begin)
        assert [time for time in times if time >= begin] == [
            number / 10 for number in range(60) if number / 10 >= begin
        ]
    with closing(open_video(path)) as video:
        assert video.duration == pytest.approx(6.0, abs=0.1)


@pytest.mark.parametrize("reader", ["PyAV", "OpenCV"], indirect=True)
def test_refuses_frames_of_too_many_pixels(reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "a.mkv")
    monkeypatch.setattr(pyav_reader if reader == "PyAV" else opencv_reader, "VIDEO_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(DataError, match="refused, its frames have "):
        open_video(path)


@pytest.fixture(scope="module")
def greedy_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of 40 kB whose decoder keeps sixteen frames of 13 MB."""
    path = tmp_path_factory.mktemp("greedy") / "greedy.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"preset": "ultrafast", "x264-params": "ref=16:bframes=0"})
        stream.width, stream.height, stream.pix_fmt = 4096, 2176, "yuv420p"
        black = av.VideoFrame.from_ndarray(np.zeros((3264, 4096), np.uint8), format="yuv420p")
        for number in range(20):
            black.pts = number
            out.mux(stream.encode(black))
        out.mux(stream.encode(None))
    return path


@pytest.mark.xdist_group("greedy-video")
@pytest.mark.parametrize("reader", ["PyAV", "OpenCV"])
@pytest.mark.parametrize("keeps_freed_memory", [False, True])
def test_refuses_a_decoder_that_keeps_too_many_frames(
    reader: str, greedy_video: Path, *, keeps_freed_memory: bool
) -> None:
    """Also where the C library keeps what the video before took, and gives the decoder that again."""
    program = """
import pathlib, sys
from contextlib import closing
from fer_edge.utils.system import resident_mb
from fer_edge.video import factory, memory
path = pathlib.Path(sys.argv[1])
factory.has_pyav = lambda: sys.argv[2] == "PyAV"
def read():
    with closing(factory.open_video(path)) as video:
        megabytes = [resident_mb() for _ in video.frames()]
        return len(megabytes), round(max(megabytes)), video.problem
print(read())
memory.VIDEO_DECODER_BYTES = 100_000_000
print(read())
"""
    kept = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}
    out = subprocess.run(
        [sys.executable, "-c", program, str(greedy_video), reader],
        env={**os.environ, **(kept if keeps_freed_memory else {})},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (frames, unbounded_mb, _), (first_frames, bounded_mb, problem) = map(ast.literal_eval, out.splitlines())
    assert frames == 20
    assert 2 < first_frames < 14
    assert bounded_mb < unbounded_mb - 80
    assert problem.startswith(f"{greedy_video}: refused from ")
    assert problem.endswith(" s on, its decoder takes more than 100 MB; make its frames smaller")


def test_an_index_of_a_few_bytes_takes_no_gigabytes(tmp_path: Path) -> None:
    """FFmpeg makes an entry of 24 bytes of each frame that the header of a chunk promises."""
    data = bytearray(make_video(tmp_path / "a.mp4").read_bytes())
    count = 40_000_000
    for box, at, fields in ((b"stsz", 8, (1, count)), (b"stsc", 8, (1, 1, count, 1)), (b"stts", 8, (1, count, 1))):
        start = data.index(box) + at
        data[start : start + 4 * len(fields)] = struct.pack(f">{len(fields)}I", *fields)
    path = tmp_path / "b.mp4"
    path.write_bytes(data)
    program = """
import pathlib, re, sys
from fer_edge.errors import DataError
from fer_edge.utils.address_space import own_process
from fer_edge.video.factory import open_video
own_process()
try:
    video = open_video(pathlib.Path(sys.argv[1]), threads=1)
    list(video.frames())
    print(video.problem)
except DataError as error:
    print(error)
print(int(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) >> 10)
"""
    out = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True).stdout
    problem, megabytes = out.splitlines()
    assert problem.startswith(f"{path}: ")
    assert int(megabytes) < 600


@pytest.mark.parametrize(("begins", "frames"), [(True, 20), (False, 0)])
@pytest.mark.parametrize(("name", "codec"), [("a.h264", "libx264"), ("a.mjpeg", "mjpeg")])
def test_is_not_searched_for_a_frame_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, *, begins: bool, frames: int
) -> None:
    monkeypatch.setattr(counted_file, "VIDEO_BYTES_WITHOUT_FRAME", 1 << 20)
    path = make_video(tmp_path / name, codec=codec, container="h264" if codec == "libx264" else "mjpeg")
    content = path.read_bytes() if begins else b""
    path.write_bytes(content + bytes(8 << 20) + content)
    try:
        times, _, problem = read(path)
    except DataError as error:
        times, problem = [], str(error)
    assert frames - 1 <= len(times) <= frames  # the last one may lack its end
    assert "it has no frame in " in problem


def test_playlist_cannot_name_other_files(tmp_path: Path) -> None:
    make_video(tmp_path / "secret.ts")
    for name in ("a.ts", "a.m3u8"):
        (tmp_path / name).write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:9/{name}\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(DataError, match="not a video that FFmpeg can read"):
            open_video(tmp_path / name)


@pytest.mark.usefixtures("reader")
def test_refuses_what_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_video(tmp_path / "none.mp4")
    for content in (b"", b"no video", bytes(4000)):
        (tmp_path / "a.mp4").write_bytes(content)
        with pytest.raises(DataError, match="not a video that"):
            open_video(tmp_path / "a.mp4")


def test_frames_leave_memory_when_they_were_used(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4")
    gc.collect()
    gc.disable()  # which frees what refers to itself only now and then
    try:
        with closing(open_video(path)) as video:
            for frame in video.frames():
                assert frame.gray().shape == frame.bgr().shape[:2]
            # `isinstance` would ask each object for its class, and modules such as PyTorch's answer with a warning.
            assert sum(issubclass(type(one), av.VideoFrame) for one in gc.get_objects()) < 4
    finally:
        gc.enable()
