"""What the kernel tells of its video nodes: their names, formats, sizes and rates (linux/videodev2.h)."""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ioctl = Callable[[int, int, bytearray], object]

_DEV: Final = Path("/dev")
_BY_ID: Final = Path("/dev/v4l/by-id")


class _Call(NamedTuple):
    """An ioctl and its structure.

    Attributes:
        number: of the ioctl within the V4L2 family.
        reads: whether the kernel reads the structure, too.
        layout: for `struct`.
    """

    number: int
    reads: bool
    layout: str

    @property
    def request(self) -> int:
        """The code as the _IOR and _IOWR macros make it; the same on x86 and ARM."""
        direction = 3 if self.reads else 2
        return direction << 30 | struct.calcsize(self.layout) << 16 | ord("V") << 8 | self.number


# driver, card, bus, version, capabilities of the device, of this node
_QUERYCAP: Final = _Call(0, reads=False, layout="=16s32s32sIII12x")
# index, type, flags, description, pixel format, media bus code
_ENUM_FMT: Final = _Call(2, reads=True, layout="=III32sII12x")
# index, pixel format, type; width, height or least, most and step of both
_ENUM_FRAMESIZES: Final = _Call(74, reads=True, layout="=3I6I8x")
# index, pixel format, width, height, type; a fraction or three
_ENUM_FRAMEINTERVALS: Final = _Call(75, reads=True, layout="=5I6I8x")

_CAPTURE: Final = 0x1
_CAPTURE_PLANAR: Final = 0x1000
_HAS_NODE_CAPABILITIES: Final = 0x80000000
_TYPE_CAPTURE: Final = 1
_DISCRETE: Final = 1
_MOST: Final = 1000  # of any list; a driver that never ends one is broken


@dataclass(frozen=True, slots=True)
class CameraMode:
    """Something that a camera can send.

    Attributes:
        format: four letters such as ``MJPG`` or ``YUYV``, or a sensor's own name for it.
        width: columns; the most of a range.
        height: rows; likewise.
        fps: frames a second, fastest first; of a range, its two ends.
        least: the smallest columns and rows, where every size up to the other is had.
    """

    format: str
    width: int
    height: int
    fps: tuple[float, ...]
    least: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class VideoNode:
    """A video node.

    Attributes:
        path: such as ``/dev/video0``.
        card: the camera's name.
        driver: the kernel's name for its driver.
        bus: where it is connected, such as ``usb-0000:01:00.0-1.2``.
        captures: whether it gives images, and not metadata or what another device has sent through it.
        modes: what it can send.
        lasting_path: another path, which stays the camera's when it is plugged in again; None where there is none.
        trouble: why nothing else is known of it; None if it is.
    """

    path: str
    card: str = ""
    driver: str = ""
    bus: str = ""
    captures: bool = False
    modes: tuple[CameraMode, ...] = ()
    lasting_path: str | None = None
    trouble: str | None = None


def nodes() -> list[VideoNode]:
    """Every video node of this machine, in order of number."""
    lasting = {path.resolve(): str(path) for path in sorted(_BY_ID.glob("*"), reverse=True)}
    paths = sorted(_DEV.glob("video*"), key=lambda path: (len(path.name), path.name))
    return [_node(path, lasting.get(path.resolve())) for path in paths]


def candidates() -> list[VideoNode]:
    """The nodes that may be cameras, in the order in which to try them: USB cameras first.

    A Pi's codecs and image processors have nodes, too, that look like cameras until they are read.
    """
    found = [node for node in nodes() if node.captures or node.trouble]
    return sorted(found, key=lambda node: not node.bus.startswith("usb"))


def describe(path: str, lasting_path: str | None, descriptor: int, ioctl: Ioctl) -> VideoNode:
    """Ask the kernel about a node.

    Args:
        path: the node's.
        lasting_path: another of its paths.
        descriptor: the node, open.
        ioctl: `fcntl.ioctl`, which fills in the structure.

    Raises:
        OSError: it is no video node.
    """
    driver, card, bus, _, capabilities, own = _ask(ioctl, descriptor, _QUERYCAP, b"", b"", b"", 0, 0, 0)
    if capabilities & _HAS_NODE_CAPABILITIES:
        capabilities = own
    captures = bool(capabilities & (_CAPTURE | _CAPTURE_PLANAR))
    return VideoNode(
        path,
        card=_text(card),
        driver=_text(driver),
        bus=_text(bus),
        captures=captures,
        modes=tuple(_modes(ioctl, descriptor)) if capabilities & _CAPTURE else (),
        lasting_path=lasting_path,
    )


def _node(path: Path, lasting_path: str | None) -> VideoNode:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return describe(str(path), lasting_path, descriptor, fcntl.ioctl)
        finally:
            os.close(descriptor)
    except OSError as error:
        advice = "; join the group video" if isinstance(error, PermissionError) else ""
        return VideoNode(str(path), lasting_path=lasting_path, trouble=f"{error.strerror}{advice}")


def _modes(ioctl: Ioctl, descriptor: int) -> Iterator[CameraMode]:
    for _, _, _, _, pixels, _ in _all(ioctl, descriptor, _ENUM_FMT, _TYPE_CAPTURE, 0, b"", 0, 0):
        for _, _, kind, *size in _all(ioctl, descriptor, _ENUM_FRAMESIZES, pixels, *[0] * 7):
            if kind == _DISCRETE:
                width, height = size[:2]
                least = None
            else:
                least_width, width, _, least_height, height, _ = size
                least = (least_width, least_height)
            fps = tuple(_rates(ioctl, descriptor, pixels, width, height))
            yield CameraMode(struct.pack("=I", pixels).decode("latin-1").strip(), width, height, fps, least)
            if kind != _DISCRETE:  # a range comes alone
                break


def _rates(ioctl: Ioctl, descriptor: int, pixels: int, width: int, height: int) -> Iterator[float]:
    for _, _, _, _, kind, *fractions in _all(ioctl, descriptor, _ENUM_FRAMEINTERVALS, pixels, width, height, *[0] * 7):
        ends = fractions[:2] if kind == _DISCRETE else fractions[:4]
        for numerator, denominator in zip(ends[::2], ends[1::2], strict=True):
            if numerator:
                yield round(denominator / numerator, 2)
        if kind != _DISCRETE:
            break


def _all(ioctl: Ioctl, descriptor: int, call: _Call, *values: int | bytes) -> Iterator[tuple[Any, ...]]:
    """Every entry of a list that the kernel keeps, by its index."""
    for index in range(_MOST):
        try:
            yield _ask(ioctl, descriptor, call, index, *values)
        except OSError:  # after the last, and where a driver does not tell
            return


def _ask(ioctl: Ioctl, descriptor: int, call: _Call, *values: int | bytes) -> tuple[Any, ...]:
    data = bytearray(struct.pack(call.layout, *values))
    ioctl(descriptor, call.request, data)
    return struct.unpack(call.layout, data)


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")
