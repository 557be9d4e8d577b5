"""What is to be known of the machine and this process; None where Linux does not tell."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Final

NOW: Final = 0xF  # the bits of `throttled_flags` that tell of this moment
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_DEVICES: Final = Path("/sys/devices/platform")
_THROTTLED: Final = "soc*/soc*:firmware/get_throttled"  # soc, or with an address, soc@..., by kernel and board
_THROTTLING: Final = ("low voltage", "a capped frequency", "throttling", "the soft temperature limit")  # by bit


def temperature_c() -> float | None:
    """Temperature of the processor in degrees Celsius."""
    text = _read(Path("/sys/class/thermal/thermal_zone0/temp"))
    return int(text) / 1000 if text and text.lstrip("-").isdigit() else None


def throttled_flags(devices: Path = _DEVICES) -> int | None:
    """A Pi firmware's flags: bit 0 low voltage, 1 frequency capped, 2 throttled, 3 soft limit; 16-19 since boot.

    Args:
        devices: the folder of sysfs that has the firmware's.
    """
    text = next(filter(None, map(_read, devices.glob(_THROTTLED))), None)
    try:
        return int(text, 16) if text else None
    except ValueError:
        return None


def throttling(flags: int) -> tuple[str, ...]:
    """What `throttled_flags` says, in words: what is so now, and what was since the machine started."""
    now = tuple(f"{what} now" for bit, what in enumerate(_THROTTLING) if flags >> bit & 1)
    before = (what for bit, what in enumerate(_THROTTLING) if flags >> (16 + bit) & 1 and not flags >> bit & 1)
    return (*now, *(f"{what} since its start" for what in before))


def resident_mb() -> float:
    """Resident memory of this process, in megabytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE / 1e6


def machine_name() -> str:
    """Model of the board, such as ``Raspberry Pi 4 Model B Rev 1.4``, or the processor's name."""
    board = _read(Path("/proc/device-tree/model"))
    if board:
        return board.strip("\0")
    for line in (_read(Path("/proc/cpuinfo")) or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def this_program() -> str:
    """The whole path of the program that runs, for advice with sudo, which looks in the system's folders alone."""
    path = Path(sys.argv[0]).absolute()
    return str(path) if path.name == "fer-edge" else f"{sys.executable} -m fer_edge.cli"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
