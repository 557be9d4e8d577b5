"""The video nodes of this machine: names, formats, sizes and rates, from the kernel (linux/videodev2.h).

This module makes the kernel calls itself, because the alternatives do worse here. linuxpy (0.25) leaves out each pixel
format that its release does not know, gives no rates for stepwise sizes, divides by zero on an empty rate and raises on
text that is not UTF-8; its import costs 0.2 s and 11 MB. The program v4l2-ctl is not installed everywhere, and its
output is meant for people.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    Ioctl = Callable[[int, int, bytearray], object]

_DEV: Final = Path("/dev")
_BY_ID: Final = Path("/dev/v4l/by-id")


class _Request(NamedTuple):
    """An ioctl and the layout of its structure.

    Attributes:
        number: number of the ioctl within V4L2.
        reads: whether the kernel also reads the structure.
        layout: format for `struct`.
    """

    number: int
    reads: bool
    layout: str

    @property
    def code(self) -> int:
        """The request code that the macros _IOR and _IOWR give; the same on x86 and ARM."""
        direction = 3 if self.reads else 2
        return direction << 30 | struct.calcsize(self.layout) << 16 | ord("V") << 8 | self.number


# driver, card, bus, version, capabilities of the device, of this node
_QUERYCAP: Final = _Request(0, reads=False, layout="=16s32s32sIII12x")
# index, type, flags, description, pixel format, media bus code
_ENUM_FMT: Final = _Request(2, reads=True, layout="=III32sII12x")
# index, pixel format, type; then width and height, or minimum, maximum and step of both
_ENUM_FRAMESIZES: Final = _Request(74, reads=True, layout="=3I6I8x")
# index, pixel format, width, height, type; then one fraction, or minimum, maximum and step
_ENUM_FRAMEINTERVALS: Final = _Request(75, reads=True, layout="=5I6I8x")

_CAPTURE: Final = 0x1
_CAPTURE_PLANAR: Final = 0x1000
_HAS_NODE_CAPABILITIES: Final = 0x80000000
_TYPE_CAPTURE: Final = 1
_DISCRETE: Final = 1
_BIG_ENDIAN: Final = 1 << 31  # of a pixel format
_MAX_ENTRIES: Final = 1000  # in any list; a broken driver may never end one


@dataclass(frozen=True, slots=True)
class CameraMode:
    """A format, a size and the rates that a camera offers.

    Attributes:
        format: its name, such as ``MJPG`` or ``YUYV`` (see `format_name`), or a sensor's name of the format.
        width: width in pixels; the maximum of a range.
        height: height in pixels; the maximum of a range.
        fps: frame rates, fastest first; of a range, its two ends.
        min_size: minimum width and height of a range; None if the size is fixed.
    """

    format: str
    width: int
    height: int
    fps: tuple[float, ...]
    min_size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class VideoNode:
    """A video node.

    Attributes:
        path: path such as ``/dev/video0``.
        card: name of the camera.
        driver: name of its driver in the kernel.
        bus: where it is connected, such as ``usb-0000:01:00.0-1.2``.
        captures: whether it captures images, rather than giving metadata or what a codec has converted.
        modes: the formats, sizes and rates that it offers.
        stable_path: another path, which stays the same when the camera is plugged in again; None if there is none.
        problem: why nothing else is known about it; None without a problem.
    """

    path: str
    card: str = ""
    driver: str = ""
    bus: str = ""
    captures: bool = False
    modes: tuple[CameraMode, ...] = ()
    stable_path: str | None = None
    problem: str | None = None


def list_nodes(skipped: Container[str] = (), on_node: Callable[[str], None] = lambda _: None) -> list[VideoNode]:
    """Return every video node of this machine, in order of number.

    Args:
        skipped: paths of nodes to leave out.
        on_node: called with the path of each node before its driver is, which may hang.
    """
    stable = {path.resolve(): str(path) for path in sorted(_BY_ID.glob("*"), reverse=True)}
    paths = sorted(_DEV.glob("video*"), key=lambda path: (len(path.name), path.name))
    found = []
    for path in paths:
        if str(path) not in skipped:
            on_node(str(path))
            found.append(query_node(path, stable.get(path.resolve())))
    return found


def camera_candidates(skipped: Container[str] = (), on_node: Callable[[str], None] = lambda _: None) -> list[VideoNode]:
    """Return the nodes that may be cameras, in the order in which to try them: USB cameras first.

    The codecs and image processors of a Pi also have nodes, which look like cameras until they are read.

    Args:
        skipped: as for `list_nodes`.
        on_node: as for `list_nodes`.
    """
    found = [node for node in list_nodes(skipped, on_node) if node.captures or node.problem]
    return sorted(found, key=lambda node: not node.bus.startswith("usb"))


def format_name(code: int) -> str:
    """Return the name of a pixel format: the letters of its code, and ``-BE`` for a big-endian variant."""
    letters = struct.pack("=I", code & 0x7FFFFFFF).decode("latin-1").rstrip(" ")
    return f"{letters}-BE" if code & _BIG_ENDIAN else letters


def describe(path: str, stable_path: str | None, descriptor: int, ioctl: Ioctl) -> VideoNode:
    """Query the kernel about an open node, without starting it.

    Args:
        path: path of the node.
        stable_path: as in `VideoNode`.
        descriptor: file descriptor of the open node.
        ioctl: `fcntl.ioctl`, which fills in the structure.

    Raises:
        OSError: it is not a video node.
    """
    driver, card, bus, _, capabilities, node_capabilities = _query(ioctl, descriptor, _QUERYCAP, b"", b"", b"", 0, 0, 0)
    if capabilities & _HAS_NODE_CAPABILITIES:
        capabilities = node_capabilities
    captures = bool(capabilities & (_CAPTURE | _CAPTURE_PLANAR))
    return VideoNode(
        path,
        card=_text(card),
        driver=_text(driver),
        bus=_text(bus),
        captures=captures,
        modes=tuple(_modes(ioctl, descriptor)) if capabilities & _CAPTURE else (),
        stable_path=stable_path,
    )


def query_node(path: Path, stable_path: str | None = None) -> VideoNode:
    """Return what the kernel says of a node, whose driver may hang; the arguments are those of `VideoNode`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return describe(str(path), stable_path, descriptor, fcntl.ioctl)
        finally:
            os.close(descriptor)
    except OSError as error:
        advice = "; join the group video" if isinstance(error, PermissionError) else ""
        return VideoNode(str(path), stable_path=stable_path, problem=f"{error.strerror}{advice}")


def _modes(ioctl: Ioctl, descriptor: int) -> Iterator[CameraMode]:
    for _, _, _, _, pixels, _ in _query_all(ioctl, descriptor, _ENUM_FMT, _TYPE_CAPTURE, 0, b"", 0, 0):
        for _, _, kind, *size in _query_all(ioctl, descriptor, _ENUM_FRAMESIZES, pixels, *[0] * 7):
            if kind == _DISCRETE:
                width, height = size[:2]
                min_size = None
            else:
                min_width, width, _, min_height, height, _ = size
                min_size = (min_width, min_height)
            fps = tuple(_rates(ioctl, descriptor, pixels, width, height))
            yield CameraMode(format_name(pixels), width, height, fps, min_size)
            if kind != _DISCRETE:  # a range is the only entry
                break


def _rates(ioctl: Ioctl, descriptor: int, pixels: int, width: int, height: int) -> Iterator[float]:
    for _, _, _, _, kind, *fractions in _query_all(
        ioctl, descriptor, _ENUM_FRAMEINTERVALS, pixels, width, height, *[0] * 7
    ):
        ends = fractions[:2] if kind == _DISCRETE else fractions[:4]
        for numerator, denominator in zip(ends[::2], ends[1::2], strict=True):
            if numerator:
                yield round(denominator / numerator, 2)
        if kind != _DISCRETE:
            break


def _query_all(ioctl: Ioctl, descriptor: int, request: _Request, *values: int | bytes) -> Iterator[tuple[Any, ...]]:
    """Yield every entry of a list in the kernel, by index."""
    for index in range(_MAX_ENTRIES):
        try:
            yield _query(ioctl, descriptor, request, index, *values)
        except OSError:  # after the last entry, or if the driver does not answer
            return


def _query(ioctl: Ioctl, descriptor: int, request: _Request, *values: int | bytes) -> tuple[Any, ...]:
    data = bytearray(struct.pack(request.layout, *values))
    ioctl(descriptor, request.code, data)
    return struct.unpack(request.layout, data)


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")
