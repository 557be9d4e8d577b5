"""Camera modules of a Raspberry Pi, through picamera2."""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
from typing import TYPE_CHECKING, Any, Final

from fer_edge.errors import SourceError, SourceLostError, first_line
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fer_edge_device.config.settings import CameraSettings

logger = logging.getLogger(__name__)

_GRAB_TIMEOUT: Final = 0.5  # seconds
_LUMA_FIRST: Final = {"YUV420", "YVU420", "NV12", "NV21"}  # formats that begin with the luma of all pixels
_DEFAULT_FRAME_US: Final = 33_333  # duration of a frame in picamera2's video configuration, in microseconds


class PiCamera:
    """A camera module. The luma plane of its low-resolution stream is the grey frame, without conversion.

    No stream of the sensor's raw data is asked for, and none with three bytes or more a pixel: of 640x480, such buffers
    take 20.7 MiB rather than 3.5.

    The same `Picamera2` object is used until an error occurs. After a stall it is stopped, configured again and
    started, because libcamera does not always release a closed camera.
    """

    def __init__(self, number: int, settings: CameraSettings) -> None:
        """Choose a camera module, without opening it.

        Args:
            number: number of the module, from 0.
            settings: requested size, focus and exposure.
        """
        self._number, self._settings = number, settings
        self._camera: Any = None
        self._job: Any = None
        self._request: Any = None
        self._width = self._height = self._stride = 0

    def open(self) -> None:
        """Open the camera if necessary, and start it; see `CaptureDevice`."""
        if self._camera is None:
            self._camera = self._acquire()
        settings = self._settings
        try:
            # The low-resolution stream must be no larger than the main one, and of the same shape.
            stream = {"size": (settings.width, settings.height), "format": "YUV420"}
            self._camera.configure(
                self._camera.create_video_configuration(
                    main=stream, lores=dict(stream), raw=None, buffer_count=4, controls=self._controls()
                )
            )
            self._use_format(self._camera.camera_configuration()["lores"])
            self._camera.start()
            if settings.autofocus == "once" and "AfTrigger" in self._camera.camera_controls:
                from libcamera import controls  # noqa: PLC0415 - comes with picamera2

                self._camera.set_controls({"AfTrigger": controls.AfTriggerEnum.Start})
        except SourceError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise SourceError(_failure_message(error)) from error

    def _use_format(self, lores: dict[str, Any]) -> None:
        """Remember the layout that the camera really gives, which may differ from what it was asked for."""
        if lores["format"] not in _LUMA_FIRST:
            raise SourceError(
                f"picamera2: the camera gives frames as {lores['format']}, but not as YUV420, which fer-edge reads"
            )
        self._width, self._height = lores["size"]
        self._stride = lores["stride"]

    def grab(self) -> bool:
        """Wait for the next frame; see `CaptureDevice`."""
        self._release()
        try:
            # One request at a time: picamera2 still fulfils a request after the wait for it has timed out.
            self._job = self._job or self._camera.capture_request(wait=False)
            self._request = self._camera.wait(self._job, timeout=_GRAB_TIMEOUT)
        except TimeoutError:
            return False
        except Exception as error:
            raise SourceLostError(_failure_message(error)) from error
        self._job = None
        return True

    def retrieve(self) -> npt.NDArray[np.uint8]:
        """Copy the frame; see `CaptureDevice`."""
        try:
            data: npt.NDArray[np.uint8] = self._request.make_buffer("lores")
            luma = data[: self._height * self._stride].reshape(self._height, self._stride)
        except Exception as error:
            raise SourceLostError(_failure_message(error)) from error
        return luma[:, : self._width]  # rows may be padded

    def stop(self) -> None:
        """Stop the camera without closing it; see `CaptureDevice`."""
        self._release()
        if self._camera is not None:
            # Without its event loop, which may have failed, picamera2 stops the camera itself rather than wait for it.
            # It starts another one with the camera.
            with contextlib.suppress(RuntimeError):  # there is none
                self._camera.stop_preview()
            self._camera.cancel_all_and_flush()
            self._job = None
            self._camera.stop()
            gc.collect()  # picamera2 leaves descriptors in objects that refer to each other

    def close(self) -> None:
        """Stop and close the camera; see `CaptureDevice`."""
        camera = self._camera
        with contextlib.suppress(Exception):  # close it even if it cannot be stopped
            self.stop()
        self._camera = self._job = None
        if camera is not None:
            camera.close()
            del camera
            gc.collect()  # as in `stop`

    def _acquire(self) -> Any:  # noqa: ANN401 - picamera2 has no types
        require_module(self._number)
        from picamera2 import Picamera2  # noqa: PLC0415 - see find_modules

        try:
            camera = Picamera2(self._number)
        except Exception as error:
            raise SourceError(_failure_message(error)) from error
        # At exit Picamera2 would close itself, and wait forever for a camera that hangs.
        atexit.unregister(camera.close)
        if not hasattr(camera, "cancel_all_and_flush"):
            camera.close()
            raise SourceError("the installed picamera2 is too old (before July 2024); run: sudo apt full-upgrade")
        self._warn_of_missing_controls(camera.camera_controls)
        return camera

    def _controls(self) -> dict[str, Any]:
        """Return the controls for focus and exposure that the settings ask for and the camera has."""
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
            wanted["FrameDurationLimits"] = (max(_DEFAULT_FRAME_US, settings.exposure_time_us),) * 2
        if settings.gain:
            wanted["AnalogueGain"] = settings.gain
        return {name: value for name, value in wanted.items() if name in self._camera.camera_controls}

    def _warn_of_missing_controls(self, available: dict[str, Any]) -> None:
        settings = self._settings
        if "AfMode" not in available:
            level = logging.INFO if settings.autofocus == "continuous" else logging.WARNING
            logger.log(
                level,
                "picamera2: this camera has a fixed lens; camera.autofocus and camera.lens_position have no effect",
            )
        for key, given, control in (
            ("exposure_time_us", settings.exposure_time_us, "ExposureTime"),
            ("gain", settings.gain, "AnalogueGain"),
        ):
            if given and control not in available:
                logger.warning("picamera2: this camera has no control %s; camera.%s has no effect", control, key)

    def _release(self) -> None:
        """Return the frame's memory to the camera."""
        if self._request is not None:
            with contextlib.suppress(Exception):  # the camera may have failed
                self._request.release()
            self._request = None


def require_module(number: int) -> None:
    """Check that a camera module is there.

    The first call imports picamera2 and starts libcamera, which takes many seconds on a small Pi.

    Args:
        number: number of the module, from 0.

    Raises:
        SourceError: the module is not there, or picamera2 does not work on this machine.
    """
    found = len(find_modules())
    if number >= found:
        raise SourceError(
            f"picamera2: {counted(found, 'camera module')} found, but number {number} is wanted (the first is 0);"
            " is it connected?"
        )


def find_modules() -> list[dict[str, Any]]:
    """Return picamera2's description of each camera module, by number. USB cameras are left out.

    Raises:
        SourceError: picamera2 is missing or does not work on this machine.
    """
    try:
        from picamera2 import Picamera2  # noqa: PLC0415 - comes from Raspberry Pi OS, not from PyPI

        found: list[dict[str, Any]] = Picamera2.global_camera_info()
    except Exception as error:  # a package built for another NumPy raises ValueError
        raise SourceError(
            f"picamera2 cannot be used ({first_line(error)}); run: sudo apt install python3-picamera2,"
            " and create the venv with --system-site-packages"
        ) from error
    return [camera for camera in found if "/usb" not in camera["Id"]]


def driver_reason(error: Exception) -> str:
    """Return what went wrong: picamera2 often says only where, and the first of the errors behind it says what."""
    reason: BaseException = error
    while reason.__cause__:
        reason = reason.__cause__
    return first_line(reason)


def _failure_message(error: Exception) -> str:
    return f"picamera2: {driver_reason(error)}; is the camera connected, and no other program using it?"
