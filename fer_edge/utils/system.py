"""Facts about the machine and this process; None if Linux does not provide them."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import Final

THROTTLED_NOW: Final = 0xF  # the bits of `throttled_flags` for the present state
_DOT_PRODUCTS: Final = {"asimddp", "avx_vnni", "avx512_vnni"}  # as the kernel names them on Arm and on x86
_PAGE_SIZE: Final = os.sysconf("SC_PAGE_SIZE")
_DEVICES: Final = Path("/sys/devices/platform")
_THROTTLED_FILE: Final = "soc*/soc*:firmware/get_throttled"  # `soc` or `soc@ADDRESS`, depending on kernel and board
_THROTTLED_BITS: Final = ("low voltage", "a capped frequency", "throttling", "the soft temperature limit")


def temperature_c() -> float | None:
    """Return the temperature of the processor in degrees Celsius."""
    text = _read(Path("/sys/class/thermal/thermal_zone0/temp"))
    return int(text) / 1000 if text and text.lstrip("-").isdigit() else None


def throttled_flags(devices: Path = _DEVICES) -> int | None:
    """Read the throttling flags of a Raspberry Pi's firmware.

    Args:
        devices: folder of sysfs that contains the firmware's folder.

    Returns:
        Bits for the present state: 0 low voltage, 1 frequency capped, 2 throttled, 3 soft temperature limit. Bits 16
        to 19 have the same meaning for the time since boot.
    """
    text = next(filter(None, map(_read, devices.glob(_THROTTLED_FILE))), None)
    try:
        return int(text, 16) if text else None
    except ValueError:
        return None


def describe_throttling(flags: int) -> tuple[str, ...]:
    """Describe the bits of `throttled_flags` in words: first the present state, then what happened since boot."""
    now = tuple(f"{condition} now" for bit, condition in enumerate(_THROTTLED_BITS) if flags >> bit & 1)
    before = (
        condition for bit, condition in enumerate(_THROTTLED_BITS) if flags >> (16 + bit) & 1 and not flags >> bit & 1
    )
    return (*now, *(f"{condition} since its start" for condition in before))


def resident_mb() -> float | None:
    """Return the resident memory of this process in megabytes."""
    text = _read(Path("/proc/self/statm"))
    return int(text.split()[1]) * _PAGE_SIZE / 1e6 if text else None


def return_freed_memory() -> None:
    """Give the memory that this process freed back to the system, so that `resident_mb` counts what is in use.

    glibc keeps some of it, up to hundreds of megabytes, for later allocations. Other C libraries have no such call.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(ctypes.c_size_t(0))


def machine_name() -> str:
    """Return the model of the board, such as ``Raspberry Pi 4 Model B Rev 1.4``, or the processor's name."""
    board = _read(Path("/proc/device-tree/model"))
    if board:
        return board.strip("\0")
    for line in (_read(Path("/proc/cpuinfo")) or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def has_dot_products(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor has instructions for dot products of int8 numbers.

    They make int8 networks several times as fast. A Raspberry Pi 5 has them; a Zero 2 W, 3 and 4 have not.

    Args:
        cpuinfo: the kernel's description of the processor.
    """
    return not _DOT_PRODUCTS.isdisjoint((_read(cpuinfo) or "").split())


def this_program() -> str:
    """Return the full command of the running program.

    Messages that advise ``sudo fer-edge ...`` need the full path, because sudo searches only the system's folders.
    """
    path = Path(sys.argv[0]).absolute()
    return str(path) if path.name == "fer-edge" else f"{sys.executable} -m fer_edge.cli"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
