"""A camera module of a Raspberry Pi, through picamera2."""

from __future__ import annotations

import atexit
import contextlib
import logging
import re
from typing import TYPE_CHECKING, Any, Final

from fer_edge.errors import SourceError, SourceLostError, first_line

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fer_edge_device.config.settings import CameraSettings

logger = logging.getLogger(__name__)

_MOMENT: Final = 0.5  # seconds within which a frame is waited for in one go
_VIDEO_US: Final = 33_333  # how long picamera2's configuration for video lets a frame take


class PiCamera:
    """A camera module: the luma plane of its small stream is the grey frame, unconverted.

    There is one `Picamera2` object for as long as no error comes: a stall is met with a stop, a new
    configuration and a start, because libcamera does not always let go of a camera that is closed.
    """

    def __init__(self, number: int, settings: CameraSettings) -> None:
        """Say which camera.

        Args:
            number: of the module, from 0.
            settings: wanted size, focus and exposure.
        """
        self._number, self._settings = number, settings
        self._camera: Any = None
        self._job: Any = None
        self._request: Any = None
        self._width = self._height = 0

    def open(self) -> None:
        """Start the camera; see `CaptureDevice`."""
        if self._camera is None:
            self._camera = self._acquire()
        settings = self._settings
        try:
            size = {"size": (settings.width, settings.height)}
            # The main stream has the same size: the small one may not be larger, nor of another shape.
            self._camera.configure(
                self._camera.create_video_configuration(
                    main=size, lores={**size, "format": "YUV420"}, buffer_count=4, controls=self._controls()
                )
            )
            self._width, self._height = self._camera.camera_configuration()["lores"]["size"]
            self._camera.start()
            if settings.autofocus == "once" and "AfTrigger" in self._camera.camera_controls:
                from libcamera import controls  # noqa: PLC0415 - comes with picamera2

                self._camera.set_controls({"AfTrigger": controls.AfTriggerEnum.Start})
        except Exception as error:
            self.close()
            raise SourceError(_failed(error)) from error

    def grab(self) -> bool:
        """Wait for the next frame; see `CaptureDevice`."""
        self._release()
        try:
            # One request at a time: picamera2 keeps what nobody waits for any more, and would fulfil it.
            self._job = self._job or self._camera.capture_request(wait=False)
            self._request = self._camera.wait(self._job, timeout=_MOMENT)
        except TimeoutError:
            return False
        except Exception as error:
            raise SourceLostError(_failed(error)) from error
        self._job = None
        return True

    def retrieve(self) -> npt.NDArray[np.uint8]:
        """Copy the frame; see `CaptureDevice`."""
        try:
            planes: npt.NDArray[np.uint8] = self._request.make_array("lores")
        except Exception as error:
            raise SourceLostError(_failed(error)) from error
        # YUV420 is the luma plane, `height` rows, with the colour planes below; rows may be padded.
        return planes[: self._height, : self._width]

    def stop(self) -> None:
        """Stop the camera, and keep it."""
        self._release()
        if self._camera is not None:
            # A request that waits for a frame would keep the stop waiting behind it.
            self._camera.cancel_all_and_flush()
            self._job = None
            self._camera.stop()

    def close(self) -> None:
        """Stop the camera and let go of it."""
        camera = self._camera
        with contextlib.suppress(Exception):  # what cannot be stopped is still closed
            self.stop()
        self._camera = self._job = None
        if camera is not None:
            camera.close()

    def _acquire(self) -> Any:  # noqa: ANN401 - picamera2 has no types
        need_module(self._number)
        from picamera2 import Picamera2  # noqa: PLC0415 - as in find_modules

        try:
            camera = Picamera2(self._number)
        except Exception as error:
            raise SourceError(_failed(error)) from error
        # Picamera2 would close itself when the process exits, and wait for ever for a camera that hangs.
        atexit.unregister(camera.close)
        if not hasattr(camera, "cancel_all_and_flush"):
            camera.close()
            raise SourceError("picamera2 here is too old, older than July 2024; run: sudo apt full-upgrade")
        self._say_what_is_missing(camera.camera_controls)
        return camera

    def _controls(self) -> dict[str, Any]:
        """What of focus and exposure is set and can be."""
        settings, wanted = self._settings, {}
        if "AfMode" in self._camera.camera_controls:
            from libcamera import controls  # noqa: PLC0415 - comes with picamera2

            modes = controls.AfModeEnum
            wanted["AfMode"] = {"continuous": modes.Continuous, "once": modes.Auto, "off": modes.Manual}[
                settings.autofocus
            ]
        if settings.autofocus == "off":
            wanted["LensPosition"] = settings.lens_position
        if settings.exposure_time_us:
            wanted["ExposureTime"] = settings.exposure_time_us
            wanted["FrameDurationLimits"] = (max(_VIDEO_US, settings.exposure_time_us),) * 2
        if settings.gain:
            wanted["AnalogueGain"] = settings.gain
        return {name: value for name, value in wanted.items() if name in self._camera.camera_controls}

    def _say_what_is_missing(self, available: dict[str, Any]) -> None:
        settings = self._settings
        if "AfMode" not in available:
            level = logging.INFO if settings.autofocus == "continuous" else logging.WARNING
            logger.log(
                level, "picamera2: this camera's lens is fixed; camera.autofocus and camera.lens_position do nothing"
            )
        for key, given, control in (
            ("exposure_time_us", settings.exposure_time_us, "ExposureTime"),
            ("gain", settings.gain, "AnalogueGain"),
        ):
            if given and control not in available:
                logger.warning("picamera2: this camera has no control %s; camera.%s does nothing", control, key)

    def _release(self) -> None:
        """Give the frame's memory back to the camera."""
        if self._request is not None:
            with contextlib.suppress(Exception):  # of a camera that failed
                self._request.release()
            self._request = None


def module_number(source: str) -> int | None:
    """The number of the module that a source means, ``picamera2`` or ``picamera2:N``; None for any other."""
    wanted = re.fullmatch(r"picamera2(?::([0-9]{1,3}))?", source)
    return int(wanted[1] or 0) if wanted else None


def need_module(number: int) -> None:
    """Look for a module.  The first time, a small Pi imports picamera2 and starts libcamera for many seconds.

    Args:
        number: of the module, from 0.

    Raises:
        SourceError: it is not there, or picamera2 does not work here.
    """
    found = len(find_modules())
    if number >= found:
        raise SourceError(
            f"picamera2: {found or 'no'} camera module{'s' * (found != 1)} found, and number {number} is wanted;"
            " is it connected?"
        )


def find_modules() -> list[dict[str, Any]]:
    """What picamera2 says of each camera module, in the order of their numbers; USB cameras are none.

    Raises:
        SourceError: picamera2 is missing or does not work here.
    """
    try:
        from picamera2 import Picamera2  # noqa: PLC0415 - comes from Raspberry Pi OS, not from PyPI

        found: list[dict[str, Any]] = Picamera2.global_camera_info()
    except Exception as error:  # a package built for another NumPy raises ValueError
        raise SourceError(
            f"picamera2 cannot be used ({first_line(error)}); run: sudo apt install python3-picamera2,"
            " and make the venv with --system-site-packages"
        ) from error
    return [camera for camera in found if "/usb" not in camera["Id"]]


def _failed(error: Exception) -> str:
    return f"picamera2: {first_line(error)}; is the camera connected, and no other program using it?"
