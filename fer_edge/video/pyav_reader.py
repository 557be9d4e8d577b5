"""Reading videos with PyAV, which gives FFmpeg's own streams, times and errors."""

from __future__ import annotations

import gc
import itertools
import os
import struct
from typing import TYPE_CHECKING, Any, Final

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideData

from fer_edge.errors import DataError
from fer_edge.utils.address_space import bounded_address_space
from fer_edge.utils.exif import turn_upright
from fer_edge.utils.limits import LIBRARY_CALL_BYTES, VIDEO_BYTES_WITHOUT_FRAME, VIDEO_PIXELS
from fer_edge.utils.system import resident_mb
from fer_edge.utils.words import counted, megabytes
from fer_edge.video.counted_file import CountedFile
from fer_edge.video.memory import DecoderMemory
from fer_edge.video.timestamps import Clock
from fer_edge.video.truncation import describe_truncation, missing_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from av.container.input import InputContainer
    from av.video.frame import VideoFrame as AvFrame
    from av.video.stream import VideoStream

# Titles may be of any encoding. Later releases of PyAV read none before they are asked for.
_LENIENT: Final[dict[str, Any]] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
# PyAV discards FFmpeg's messages. That must stay: passing them to Python's logging can deadlock the decoder's threads.
_SEEKABLE: Final = frozenset({"mov", "matroska", "avi"})  # containers whose index leads to the frames of any time
_FRAME_THREADS_PIXELS: Final = 1 << 23  # 4K; larger frames are decoded one at a time, each by all threads
_MAX_CLOSED_PIXELS: Final = 1 << 22  # two frames of Full HD: a decoder may keep sixteen of each
_MAX_CLOSED: Final = 16  # small videos: a frame that was converted may hold threads, too
_RUN_UPS_S: Final = (0.0, 5.0, 60.0)  # before the wanted time, until a key frame lies before it
# Formats whose first plane is the grey image, 8 bits a pixel.
_PLANAR: Final = frozenset(
    {"yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "yuva420p", "nv12", "nv21"}
)
_PLANAR_FULL: Final = frozenset({"gray", "yuvj420p", "yuvj422p", "yuvj444p", "yuvj440p", "yuvj411p"})
_FULL_RANGE: Final = 2  # AVCOL_RANGE_JPEG: black is 0 and white 255; otherwise they are 16 and 235
_TO_FULL_RANGE: Final = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)
_NO_FRAME: Final = f"it has no frame in {megabytes(VIDEO_BYTES_WITHOUT_FRAME)}"
_DISPLAY_MATRICES: Final = {  # EXIF orientation by the signs of a, b, c and d in FFmpeg's display matrix
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}


class PyAvFrame:
    """A decoded frame; see `fer_edge.video.base.VideoFrame`."""

    def __init__(self, frame: AvFrame, time: float, orientation: int) -> None:
        """Keep a frame of PyAV.

        Args:
            frame: the frame.
            time: seconds from the start of the video.
            orientation: how it is turned, as an EXIF orientation, 1..8.
        """
        self._frame, self.time, self._orientation = frame, time, orientation

    def gray(self) -> npt.NDArray[np.uint8]:
        """Return the upright frame in grey, uint8 of shape (rows, columns)."""
        frame, kind = self._frame, self._frame.format.name
        if frame.planes[0].line_size < frame.width or kind not in _PLANAR | _PLANAR_FULL:
            return self._turn(_first_plane(frame.reformat(format="gray")).copy())
        luma = _first_plane(frame)
        is_full = kind in _PLANAR_FULL or frame.color_range == _FULL_RANGE
        return self._turn(luma.copy() if is_full else np.asarray(cv2.LUT(luma, _TO_FULL_RANGE), np.uint8))

    def bgr(self) -> npt.NDArray[np.uint8]:
        """Return the upright frame in colour, uint8 of shape (rows, columns, 3)."""
        frame = self._frame.reformat(format="bgr24")
        return self._turn(_first_plane(frame, 3).reshape(frame.height, frame.width, 3).copy())

    def _turn(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return turn_upright(image, self._orientation)


class PyAvReader:
    """An open video; see `fer_edge.video.base.VideoReader`."""

    _closed_pixels = 0  # of one frame of each closed video whose decoder may still be in memory

    def __init__(self, path: Path, threads: int) -> None:
        """Open a video. Sound, subtitles, further videos and cover pictures in it are ignored.

        Args:
            path: the file.
            threads: threads of the decoder; 0 for one per core.

        Raises:
            DataError: the file cannot be read as a video.
        """
        self._path = path
        before_mb = resident_mb() or 0.0
        try:
            self._file = CountedFile(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        try:
            self._container = self._open_container()
        except DataError:
            self._file.close()
            raise
        try:
            self._stream = self._find_stream()
        except DataError:
            self._close_container()
            raise
        pixels = self._stream.width * self._stream.height
        if pixels > VIDEO_PIXELS:
            size = f"{self._stream.width}x{self._stream.height}"
            self._close_container()
            raise DataError(
                f"{path}: refused, its frames have {size} pixels, and may have {VIDEO_PIXELS // 1_000_000} million"
            )
        self._stream.codec_context.options = {"max_pixels": str(VIDEO_PIXELS)}  # the size may change later
        self._stream.thread_type = "AUTO" if pixels <= _FRAME_THREADS_PIXELS else "SLICE"
        self._stream.codec_context.thread_count = threads
        self._threads = threads or os.cpu_count() or 1
        rate = self._stream.guessed_rate
        self._clock = Clock(float(rate) if rate else 0.0)
        self._start = self._find_start()
        self._memory = DecoderMemory()
        self._left_bytes = LIBRARY_CALL_BYTES - max(
            int(((resident_mb() or 0.0) - before_mb) * 1e6), 0
        )  # for the container
        self._undecodable: list[float] = []
        self._problem = ""
        self._orientations: dict[int, int] = {}

    @property
    def duration(self) -> float | None:
        """Length in seconds, if the video can be read from any time; None if only from its start."""
        is_seekable = not _SEEKABLE.isdisjoint(self._container.format.name.split(","))
        duration = self._container.duration
        return duration / av.time_base if is_seekable and duration and duration > 0 else None

    @property
    def problem(self) -> str:
        """What was wrong with the frames read so far; empty if nothing was."""
        if self._problem or not self._undecodable:
            return self._problem
        packets = counted(len(self._undecodable), "frame")
        return f"{self._path}: {packets} from {self._undecodable[0]:.3f} s on cannot be decoded; it is damaged"

    def frames(self, begin: float = 0.0) -> Iterator[PyAvFrame]:
        """Yield the frames in order of their times; see `fer_edge.video.base.VideoReader`."""
        decoded = self._decode_from(begin) if begin and self.duration else self._decode()
        has_frames = False
        for frame in decoded:
            has_frames = True
            yield PyAvFrame(frame, self._clock.next(self._time_of(frame)), self._orientation(frame))
        if self._memory.is_too_much or self._file.is_exhausted:
            return
        if problem := describe_truncation(self._path, self._clock.last):
            self._problem = problem
        elif not has_frames and not begin:
            self._problem = f"{self._path}: has no frame that FFmpeg can decode"

    def close(self) -> None:
        """Close the file, and end the decoders of videos that were closed before, if they hold much."""
        self._close_container()
        # A container and its streams refer to each other, so that the decoder, with its threads and frames, lives until
        # Python looks for circles. That takes a third of a second in a large program: too long for each short video.
        PyAvReader._closed_pixels += self._stream.width * self._stream.height + _MAX_CLOSED_PIXELS // _MAX_CLOSED
        if self._stream.codec_context.thread_count != 1 or PyAvReader._closed_pixels > _MAX_CLOSED_PIXELS:
            PyAvReader._closed_pixels = 0
            gc.collect()

    def _open_container(self) -> InputContainer:
        path, problem = self._path, ""
        try:
            # The content cannot name other files or hosts.
            with bounded_address_space():  # an index of a few bytes may stand for any number of frames
                container: InputContainer = av.open(self._file, options={"protocol_whitelist": "file"}, **_LENIENT)
                return container
        except MemoryError as error:
            raise DataError(f"{path}: refused, its index takes more than {megabytes(LIBRARY_CALL_BYTES)}") from error
        except (av.FFmpegError, OSError) as error:
            if self._file.is_exhausted:
                problem = f"refused, {_NO_FRAME}"
            elif missing_bytes(path):
                problem = "not a video that FFmpeg can read: it is cut short; copy it again"
            raise DataError(f"{path}: {problem or 'not a video that FFmpeg can read'}") from error

    def _close_container(self) -> None:
        self._container.close()
        self._file.close()

    def _find_stream(self) -> VideoStream:
        stream = self._container.streams.best("video")
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            raise DataError(f"{self._path}: holds no video")
        if stream.codec_context is None:
            raise DataError(f"{self._path}: FFmpeg has no decoder for this kind of video")
        return stream  # type: ignore[return-value] # a stream of video

    def _find_start(self) -> float:
        """Return the time at which players start, in seconds on the clock of the container."""
        start = (self._container.start_time or 0) / av.time_base
        if start >= 0:
            return start
        # Encoded sound begins a little before zero, but nothing is heard of that.
        own = self._stream.start_time
        return min(float(own * self._stream.time_base), 0.0) if own and self._stream.time_base else 0.0

    def _time_of(self, frame: AvFrame) -> float | None:
        return None if frame.pts is None or frame.time is None else frame.time - self._start

    def _orientation(self, frame: AvFrame) -> int:
        """Return how a frame is turned, as an EXIF orientation, 1..8.

        The side data is read for one frame of each rotation, because a frame whose side data was read refers to itself
        and would stay in memory until Python's garbage collector runs: in some releases, for sixty frames and more.
        """
        rotation = frame.rotation
        if rotation not in self._orientations:
            self._orientations[rotation] = _read_orientation(frame)
        return self._orientations[rotation]

    def _decode_from(self, begin: float) -> Iterator[AvFrame]:
        """Decode from a key frame before ``begin`` on."""
        for run_up in _RUN_UPS_S:
            wanted = max(begin - run_up, 0.0) + self._start
            self._file.allow_search()
            try:
                self._container.seek(int(wanted * av.time_base), backward=True)
            except av.FFmpegError:
                break
            frames = self._decode()
            first = next(frames, None)
            if first is not None and (time := self._time_of(first)) is not None and time <= begin:
                return itertools.chain([first], frames)
        try:
            self._container.seek(self._container.start_time or 0, backward=True)
        except av.FFmpegError as error:  # a damaged index
            self._problem = f"{self._path}: cannot be read from {begin:.1f} s on ({error.strerror})"
            return iter(())
        return self._decode()

    def _decode(self) -> Iterator[AvFrame]:
        """Decode from here to the end, and leave out what is damaged."""
        has_frames = False
        self._file.expect_frame()
        packets, decoder = self._container.demux(self._stream), self._stream.codec_context
        while True:
            try:
                with bounded_address_space(self._left_bytes):  # a raw stream is one packet up to the next mark in it
                    packet = next(packets)
            except StopIteration:
                if self._file.is_exhausted:
                    self._problem = f"{self._path}: cannot be read beyond {self._clock.last:.1f} s ({_NO_FRAME})"
                return
            except (av.FFmpegError, MemoryError) as error:
                reason = "it takes too much memory" if isinstance(error, MemoryError) else error.strerror
                self._problem = f"{self._path}: cannot be read beyond {self._clock.last:.1f} s ({reason})"
                return
            self._file.expect_frame()
            self._memory.expect(decoder.width * decoder.height)  # which may change
            try:
                with self._memory, bounded_address_space(threads=self._threads):
                    frames = packet.decode()
            except (av.FFmpegError, MemoryError):
                # What comes before the first key frame of a recording cannot be decoded, but is not damaged.
                if has_frames:
                    self._undecodable.append(self._clock.last)
                continue
            if self._memory.is_too_much:
                self._problem = self._memory.problem(self._path, self._clock.last)
                return
            while frames:
                has_frames = True
                yield frames.pop(0)


def _first_plane(frame: AvFrame, channels: int = 1) -> npt.NDArray[np.uint8]:
    """Return a view of a frame's first plane, of shape (rows, columns * channels).

    `VideoFrame.to_ndarray` makes the same array, but leaves the frame in memory until the garbage collector runs.
    """
    plane = frame.planes[0]
    pixels = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * frame.height]
    return pixels.reshape(frame.height, plane.line_size)[:, : frame.width * channels]


def _read_orientation(frame: AvFrame) -> int:
    """Return how a frame is turned, as an EXIF orientation, 1..8."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return 1
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    largest = max(map(abs, (a, b, c, d)), default=0) or 1
    return _DISPLAY_MATRICES.get(tuple(round(value / largest) for value in (a, b, c, d)), 1)
