"""The list of cameras, from a process that is killed when a driver hangs."""

from __future__ import annotations

from typing import Final

import msgspec

from fer_edge.errors import SourceError
from fer_edge_device.capture.camera_list import FoundCamera
from fer_edge_device.capture.channel import Failed, Result, Task, Timeouts, Trying
from fer_edge_device.capture.process import CameraProcess

_TIMEOUTS: Final = Timeouts(stall=5.0, give_up=25.0, hang=15.0)
_POLL_INTERVAL: Final = 0.1  # seconds


def find_cameras(timeouts: Timeouts = _TIMEOUTS) -> list[FoundCamera]:
    """Return the cameras of this machine; see `list_cameras`. A driver that hangs becomes the camera's problem.

    Raises:
        SourceError: the process that lists them cannot be started, or fails.
    """
    skipped: dict[str, str] = {}
    while True:
        found = _find(Task(settings=None, timeouts=timeouts, skipped=skipped))
        if isinstance(found, list):
            return found
        skipped |= {found.candidate: found.failure}


def _find(task: Task) -> list[FoundCamera] | Trying:
    """Return the cameras, or the driver that hung."""
    process = CameraProcess(task)
    result, trying, failure = b"", None, ""
    try:
        while not process.ended:
            process.wait(_POLL_INTERVAL)
            for message in process.messages():
                if isinstance(message, Result):
                    result += message.data
                elif isinstance(message, Trying):
                    trying = message
                elif isinstance(message, Failed):
                    failure = message.failure
            if process.hangs and not process.ended:
                process.kill()
                if trying is None:
                    raise SourceError("the process that lists the cameras does not start; is the machine overloaded?")
                return trying
    finally:
        process.end()
    try:
        return msgspec.json.decode(result, type=list[FoundCamera])
    except msgspec.DecodeError:
        pass
    if trying and not failure:  # a driver has ended the process
        return Trying(trying.candidate, f"its driver crashed ({process.exit_reason()})")
    raise SourceError(f"the cameras cannot be listed ({failure or process.exit_reason()})")
