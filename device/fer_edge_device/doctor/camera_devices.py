"""The device files of cameras, and the processes that have them open."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from fer_edge_device.capture.source_name import module_number


def is_local(source: str) -> bool:
    """Return whether a source is a camera of this machine."""
    return source == "auto" or module_number(source) is not None or source.isdecimal() or source.startswith("/dev/")


def device_path(source: str) -> str | None:
    """Return the device file of a local source; None if it can be any camera, as for a camera module."""
    if source == "auto" or module_number(source) is not None:
        return None
    return str(Path(f"/dev/video{source}" if source.isdecimal() else source).resolve())


def uses_camera(open_files: set[str], device: str | None) -> bool:
    """Return whether a camera is among open files: the one at ``device``, or any if that is None."""
    if device:
        return device in open_files
    return any(path.startswith(("/dev/video", "/dev/media")) for path in open_files)


def open_files_of_service(pid: int) -> set[str] | None:
    """Return the files that a process and those it has started have open; None if this user may not see them."""
    found: set[str] = set()
    for number in [pid, *_children(pid)]:
        files = open_files(number)
        if files is None:
            return None
        found |= files
    return found


def _children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has exited
            # The name of the program, in front, may contain anything.
            status = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
            if int(status.split()[1]) == pid:
                found.append(int(folder.name))
    return found


def open_files(pid: int) -> set[str] | None:
    """Return the files that a process has open; None if this user may not see them."""
    found = set()
    try:
        for link in Path("/proc", str(pid), "fd").iterdir():
            with suppress(FileNotFoundError):  # closed in the meantime
                found.add(str(link.readlink()))
    except PermissionError:
        return None
    except OSError:  # the process has exited
        return set()
    return found


def camera_users(device: str | None) -> list[str]:
    """Return the programs that have the camera open: those of this user, or all for root."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) != os.getpid() and uses_camera(open_files(int(folder.name)) or set(), device):
            with suppress(OSError):
                found.append(f"{(folder / 'comm').read_text(encoding='utf-8').strip()} (process {folder.name})")
    return found
