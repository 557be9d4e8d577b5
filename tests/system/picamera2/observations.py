"""What a program sees of picamera2, so that the fake can be compared with the real one.

As a script, it prints what it sees of the installed picamera2.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_WAIT = 5.0  # seconds for a frame
_NO_FRAME = 0.2  # seconds for a frame that must not come


def observe(camera_class: Any) -> dict[str, Any]:  # noqa: ANN401 - picamera2 has no types
    """Return what its first camera does, by the name of each observation.

    Args:
        camera_class: ``Picamera2``, real or not, with one camera that has neither exposure time nor gain to set, and
            whose rows are not padded.
    """
    camera = camera_class(0)
    streams = {
        "main": {"size": (641, 481), "format": "YUV420"},
        "lores": {"size": (641, 481), "format": "YUV420"},
        "raw": None,
        "buffer_count": 4,
    }
    seen: dict[str, Any] = {
        "open twice": _outcome(lambda: camera_class(0)),
        "open a missing one": _outcome(lambda: camera_class(3)),
        "information": {"Id", "Model", "Num"} <= camera_class.global_camera_info()[0].keys(),
        "stop before start": _outcome(camera.stop),
        "stop preview before start": _outcome(camera.stop_preview),
        "wrong key": _outcome(lambda: camera.create_video_configuration(main={"sizes": (64, 64)})),
        "default": _without(camera.create_video_configuration(main={}), "transform", "colour_space", "controls"),
        "larger lores": _outcome(
            lambda: camera.configure(
                camera.create_video_configuration(main={"size": (64, 64)}, lores={"size": (128, 128)})
            )
        ),
        "missing control": _outcome(
            lambda: camera.configure(
                camera.create_video_configuration(main={"size": (64, 64)}, controls={"ExposureTime": 9})
            )
        ),
    }
    camera.configure(camera.create_video_configuration(**streams))
    lores = camera.camera_configuration()["lores"]
    seen["configured"] = sorted(camera.camera_configuration())
    seen["lores"] = _without(lores, "format")
    camera.start()
    seen["start twice"] = _outcome(camera.start)
    seen["configure while started"] = _outcome(lambda: camera.configure(camera.create_video_configuration(**streams)))
    request = camera.wait(camera.capture_request(wait=False), timeout=_WAIT)
    seen["buffer"] = request.make_buffer("lores").shape
    seen["missing stream"] = _outcome(lambda: request.make_buffer("raw"))
    request.release()
    seen["released twice"] = _outcome(request.release)
    seen["read after release"] = _outcome(lambda: request.make_buffer("lores"))
    camera.stop()
    seen["stop twice"] = _outcome(camera.stop)
    job = camera.capture_request(wait=False)
    seen["capture while stopped"] = _outcome(lambda: camera.wait(job, timeout=_NO_FRAME))
    camera.cancel_all_and_flush()
    seen["cancelled"] = _outcome(lambda: camera.wait(job, timeout=_NO_FRAME))
    seen["set missing control"] = _outcome(lambda: camera.set_controls({"AnalogueGain": 2.0}))
    camera.start()
    camera.stop_preview()
    seen["capture without preview"] = _outcome(lambda: camera.capture_request(wait=_NO_FRAME))
    seen["stop preview twice"] = _outcome(camera.stop_preview)
    seen["close"] = _outcome(camera.close)
    seen["close twice"] = _outcome(camera.close)
    seen["controls when closed"] = camera.camera_controls
    seen["configuration when closed"] = camera.camera_configuration()
    seen["create when closed"] = _outcome(camera.create_video_configuration)
    seen["capture when closed"] = _outcome(lambda: camera.wait(camera.capture_request(wait=False), timeout=_NO_FRAME))
    camera_class(0).close()
    return seen


def _outcome(call: Callable[[], object]) -> str:
    """Return a call's result, or its exception and the one behind it."""
    try:
        return repr(call())
    except (Exception, CancelledError) as error:  # noqa: BLE001 - it is what is asked for
        return " from ".join(f"{type(each).__name__}: {each}" for each in (error, error.__cause__) if each)


def _without(mapping: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def main() -> None:
    """Print what is seen of the installed picamera2."""
    from picamera2 import Picamera2  # noqa: PLC0415 - only here

    sys.stdout.write(json.dumps(observe(Picamera2)))


if __name__ == "__main__":
    main()
