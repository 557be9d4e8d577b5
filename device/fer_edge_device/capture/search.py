"""Finding the device of a source, or one that gives frames; runs in the camera's process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_edge.errors import FerEdgeError, SourceError, first_line
from fer_edge_device.capture import v4l2
from fer_edge_device.capture.channel import Failed, Trying
from fer_edge_device.capture.picamera2 import PiCamera, require_module
from fer_edge_device.capture.source_name import display_name, is_number, is_stream, module_number
from fer_edge_device.capture.supervisor import CameraReader, DescriptorCheck

if TYPE_CHECKING:
    from fer_edge_device.capture.channel import Task
    from fer_edge_device.capture.supervisor import CaptureDevice, Client
    from fer_edge_device.config.settings import CameraSettings

_NODE_TIMEOUT: Final = 5.0  # seconds in which the kernel must describe a video node
_ANY_MODULE: Final = "picamera2"


def read_camera(task: Task, settings: CameraSettings, client: Client) -> None:
    """Read a camera until this process is to end; wait for it if it is missing.

    Args:
        task: how to read it.
        settings: the camera.
        client: who wants the frames.

    Returns:
        When a new process should take over, because this one has leaked.

    Raises:
        EOFError: this process is to end.
    """
    search = _Search(task, settings, client)
    timeouts, leaks = task.timeouts, DescriptorCheck()
    delay = timeouts.min_delay
    while True:
        try:
            search.read()
        except EOFError:
            raise
        except FerEdgeError as error:
            failure = str(error)
        except Exception as error:  # noqa: BLE001 - a driver may raise anything, and the runner must learn of it
            failure = f"{display_name(settings.source)}: failed ({first_line(error)})"
        else:
            return
        client.send(Failed(failure, delay))
        client.wait(delay)
        delay = min(2 * delay, timeouts.max_delay if task.has_given_frames else timeouts.max_first_delay)
        if leaks.has_leaked():
            return


class _Search:
    """Opens a source: the one that was given by name, or the first camera that gives frames."""

    def __init__(self, task: Task, settings: CameraSettings, client: Client) -> None:
        self._task, self._settings, self._client = task, settings, client
        self._skipped = dict(task.skipped)

    def read(self) -> None:
        """Read the source once it gives frames; see `CameraReader.run`."""
        source = self._settings.source
        if source == "auto":
            self._read_any()
        elif (number := module_number(source)) is not None:
            self._read_module(source, number)
        else:
            device = self._make_device(source)  # which may load a library, before the driver's time starts to run
            self._announce(source, f"{display_name(source)}: the driver hangs", self._task.timeouts.hang)
            self._run(source, device)

    def _read_any(self) -> None:
        """Read the first camera that gives a frame: the first camera module, then video nodes."""
        failures = list(self._skipped.values())
        if _ANY_MODULE not in self._skipped:
            try:
                self._read_module(_ANY_MODULE, 0)
            except FerEdgeError as error:
                failures.append(str(error))
            else:
                return
        nodes = v4l2.camera_candidates(self._skipped, self._announce_node)
        for node in nodes:
            source, trial = node.stable_path or node.path, self._task.timeouts.trial
            device = self._make_device(source)
            self._announce(node.path, f"{source}: gave no frame for {trial:g} s; is it unplugged or in use?", trial)
            try:
                self._run(source, device, trial)
            except FerEdgeError as error:
                failures.append(str(error))
            else:
                return
        if not nodes and not self._skipped.keys() - {_ANY_MODULE}:
            failures.append("there is no /dev/video*")
        self._skipped = {}
        raise SourceError(f"no camera found ({'; '.join(failures)}); connect one, or try the source demo")

    def _read_module(self, source: str, number: int) -> None:
        # The first call imports picamera2 and starts libcamera, which takes many seconds on a small Pi.
        timeout = self._task.timeouts.enumeration
        failure = f"picamera2: no answer within {timeout:g} s when looking for camera modules; check the cable"
        self._announce(source, failure, timeout)
        require_module(number)
        self._announce(source, f"{source}: the driver hangs", self._task.timeouts.hang)
        self._run(source, PiCamera(number, self._settings))

    def _make_device(self, source: str) -> CaptureDevice:
        # OpenCV takes long to load, and a camera module needs none of it.
        import cv2  # noqa: PLC0415

        from fer_edge_device.capture.opencv import NetworkStream, V4l2Camera  # noqa: PLC0415

        # A frame is small: more threads would cost more processor time and gain none (benchmarks/camera_decoding.py).
        cv2.setNumThreads(1)
        settings = self._settings
        if is_stream(source):
            if source.lower().startswith(("http://", "https://")):
                # Takes 3 MB, which no other camera needs (benchmarks/camera_process.py).
                from fer_edge_device.capture.http_stream import HttpStream  # noqa: PLC0415

                return HttpStream(settings)
            return NetworkStream(source, settings.stall_timeout_s)
        return V4l2Camera(
            int(source) if is_number(source) else source,
            settings.width,
            settings.height,
            settings.stall_timeout_s,
            may_shrink=self._task.may_shrink,
        )

    def _run(self, source: str, device: CaptureDevice, trial: float | None = None) -> None:
        CameraReader(display_name(source), source, device, self._task.timeouts, self._client).run(trial)

    def _announce(self, candidate: str, failure: str, seconds: float) -> None:
        """Announce the call of a driver and its time limit."""
        self._client.expect(seconds)
        self._client.send(Trying(candidate, failure))

    def _announce_node(self, path: str) -> None:
        self._announce(path, f"{path}: its driver gives no answer", _NODE_TIMEOUT)
