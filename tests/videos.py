"""Videos that tests make: with times, sound, cover pictures and damage of their choice."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np

from fer_edge import demo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WIDTH, HEIGHT = 320, 240
MILLISECONDS = Fraction(1, 1000)
QUARTER_RIGHT = (0, 1, -1, 0)  # a, b, c and d of a display matrix that turns the image clockwise
HALF = (-1, 0, 0, -1)
QUARTER_LEFT = (0, -1, 1, 0)
MIRRORED = (-1, 0, 0, 1)


def make_video(
    path: Path,
    times: Sequence[int] = range(0, 2000, 100),
    *,
    codec: str = "libx264",
    container: str | None = None,
    gop: int = 5,
    sound_s: float = 0,
    cover_first: bool = False,
    title: str = "",
    muxer: dict[str, str] | None = None,
) -> Path:
    """Write a video whose frames are those of the demo from frame 60 on.

    Args:
        path: the file.
        times: time of each frame, in milliseconds.
        codec: the encoder.
        container: FFmpeg's name of the format; None for that of the file's ending.
        gop: frames from one key frame to the next.
        sound_s: seconds of silence beside the frames.
        cover_first: whether a cover picture comes before the video.
        title: the title that the container states.
        muxer: options of the container.
    """
    with av.open(str(path), "w", format=container, options=muxer or {}) as out:
        cover = _add_stream(out, "mjpeg") if cover_first else None
        stream = _add_stream(out, codec)
        stream.options = {"g": str(gop)}
        sound = (
            out.add_stream("pcm_s16le" if path.suffix in {".avi", ".mov"} else "aac", rate=8000) if sound_s else None
        )
        if title:
            out.metadata["title"] = title
        if cover:
            picture = av.Packet(cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 9, np.uint8))[1].tobytes())
            picture.stream, picture.pts, picture.dts, picture.is_keyframe = cover, 0, 0, True
            out.mux(picture)
        # Encoders take no time twice, so times are given to packets. Without B-frames their order is that of frames.
        packets = []
        for number in range(len(times)):
            gray = cv2.resize(demo.frame((60 + number) % demo.FRAMES), (WIDTH, HEIGHT))
            image = np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), np.uint8)
            frame: Any = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = number * 100, MILLISECONDS
            packets += stream.encode(frame)
        packets += stream.encode()
        for packet, time in zip(packets, times, strict=True):
            packet.pts = packet.dts = time
            packet.time_base = MILLISECONDS
            packet.duration = 100
            out.mux(packet)
        if sound:
            for number in range(round(sound_s * 8)):
                silence: Any = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.int16), format="s16", layout="mono")
                silence.pts, silence.sample_rate = number * 1000, 8000
                out.mux(sound.encode(silence))
            out.mux(sound.encode())
    return path


def _add_stream(out: Any, codec: str) -> Any:  # noqa: ANN401 - PyAV's types depend on the name of the codec
    stream = out.add_stream(codec, rate=10)
    stream.width, stream.height = WIDTH, HEIGHT
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    stream.codec_context.time_base = MILLISECONDS
    stream.max_b_frames = 0
    return stream


def turn_video(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a display matrix into an MP4 file, as phones do."""
    a, b, c, d = (value * 0x10000 for value in matrix)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = b"".join(value.to_bytes(4, signed=True) for value in (a, b, 0, c, d, 0, 0, 0, 0x40000000))
    path.write_bytes(data)
    return path


def trim_video(path: Path, begin_ms: int, length_ms: int) -> Path:
    """Let the edit list of an MP4 file show only some of its frames."""
    data = bytearray(path.read_bytes())
    timescale_at = data.index(b"mvhd") + 4 + 12
    movie_scale = int.from_bytes(data[timescale_at : timescale_at + 4])
    media_at = data.index(b"mdhd") + 4 + 12
    media_scale = int.from_bytes(data[media_at : media_at + 4])
    at = data.index(b"elst") + 4 + 8
    data[at : at + 8] = (length_ms * movie_scale // 1000).to_bytes(4) + (begin_ms * media_scale // 1000).to_bytes(4)
    path.write_bytes(data)
    return path
