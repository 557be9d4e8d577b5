"""What ``fer-edge doctor`` looks at: is all there that the service needs, and if not, what is to be done.

The checks run in a process of their own.  A driver that hangs and a library that crashes end that
process, never the doctor.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import grp
import importlib
import importlib.metadata
import multiprocessing
import os
import platform
import pwd
import re
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from fer_edge.errors import FerEdgeError, ServiceError, SourceLostError, first_line
from fer_edge.utils.system import machine_name, temperature_c, this_program, throttled_flags, throttling
from fer_edge_device.capture.picamera2 import module_number
from fer_edge_device.install.installer import PASSWORD
from fer_edge_device.install.systemd_units import Machine, installed_units
from fer_edge_device.install.venvs import Venvs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from multiprocessing.connection import Connection

    from fer_edge_device.capture.base import Frame, FrameSource
    from fer_edge_device.config.settings import Config
    from fer_edge_device.install.systemd_units import UnitState

Level = Literal["ok", "warning", "failure"]

_START: Final = 60.0  # seconds that the process of the checks has to start: a Pi's card may be slow
_FIRST_FRAME: Final = 15.0
_BROKER: Final = 10.0
_HOT: Final = 80.0  # degrees Celsius, at which a Pi begins to slow down
_LEAST_FREE: Final = 20e6  # bytes
_BYTES_AN_EVENT: Final = 1000
_OFTEN: Final = 3  # restarts, above which they are no accident
_OLDEST, _NEWEST = 2026, 2100  # years that a clock may show
_APT_MODULES: Final = Path("/usr/lib/python3/dist-packages")
_APT_NAMES: Final = {"PIL": "pil", "libarchive": "libarchive-c", "pykms": "kms++"}  # not named as the module is
_SERVICE_STATE: Final = Path("/var/lib/fer-edge")
_SERVICE_PASSWORD: Final = Path("/", PASSWORD)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        level: ``ok``; ``warning``, where it works but should be looked at; ``failure``.
        what: what is so, in words.
        advice: what to do; empty where there is nothing, or ``what`` says it.
        name: of the check.
    """

    level: Level
    what: str
    advice: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at.

    Attributes:
        look: looks at it.  What it raises is a failure.
        limit: seconds it may take.
        when_hung: what to do when it takes longer.
    """

    look: Callable[[Config], Finding]
    limit: float = 30.0
    when_hung: str = "the machine may be overloaded or its disk failing; `dmesg` may tell"


def examine(config: Config, checks: Mapping[str, Check] | None = None) -> Iterator[Finding]:
    """Look at everything, one thing after the other.

    Args:
        config: what the service is told.
        checks: by name, what to look at; `CHECKS` by default.

    Yields:
        What each check found, as soon as it did.
    """
    worker: _Worker | None = None
    try:
        for name, check in (CHECKS if checks is None else checks).items():
            worker = worker or _Worker()
            finding = worker.ask(check, config)
            if finding is None:
                finding = worker.end(check)
                worker = None
            yield replace(finding, name=name)
    finally:
        if worker:
            worker.end(None)


class _Worker:
    """The process in which checks run."""

    def __init__(self) -> None:
        _stand_somewhere()
        # Not forked: threads and native libraries of this process would be half there.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(_START) or self._receive() is None:
            self.end(None)
            raise FerEdgeError("the process for the checks does not start; is the machine overloaded?")

    def ask(self, check: Check, config: Config) -> Finding | None:
        """What a check finds; None where it hangs or its process crashed."""
        self._pipe.send((check.look, config))
        return self._receive() if self._pipe.poll(check.limit) else None

    def end(self, check: Check | None) -> Finding:
        """End the process, and say what it did to a check that gave nothing."""
        # One that crashed may need a moment to be gone; one that hangs has had its time.
        self._process.join(timeout=1)
        crashed = self._process.exitcode
        self._process.kill()
        self._process.join()
        self._pipe.close()
        if check is None or crashed is None:
            limit, advice = (check.limit, check.when_hung) if check else (0.0, "")
            return Finding("failure", f"gave no answer within {limit:g} s", advice)
        ended = signal.Signals(-crashed).name if crashed < 0 else f"status {crashed}"
        return Finding(
            "failure",
            f"a native library ended the check ({ended})",
            "install what it belongs to anew; FER_EDGE_NATIVE_LOG=1 shows what the library says",
        )

    def _receive(self) -> Finding | None:
        try:
            finding: Finding = self._pipe.recv()
        except (EOFError, OSError):
            return None
        return finding


def _stand_somewhere() -> None:
    """Leave a folder that has gone or may not be entered; a process that is spawned goes to that of its parent."""
    try:
        os.chdir(Path.cwd())
    except OSError:
        os.chdir("/")  # nothing was found by a relative path in the other


def _work(pipe: Connection[Any, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the doctor's
    if not os.environ.get("FER_EDGE_NATIVE_LOG"):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    pipe.send(Finding("ok", "started"))
    with suppress(EOFError, OSError):
        while True:
            look, config = pipe.recv()
            pipe.send(_looked(look, config))


def _looked(look: Callable[[Config], Finding], config: Config) -> Finding:
    try:
        return look(config)
    except FerEdgeError as error:  # says what to do
        return Finding("failure", str(error))
    except Exception as error:  # noqa: BLE001 - a check must not end the others
        return Finding("failure", f"the check failed ({type(error).__name__}: {first_line(error)})", "please report it")


def check_python(config: Config) -> Finding:
    """A Python that the project is tested with."""
    del config
    what = f"{platform.python_version()}, {sys.prefix}"
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("warning", what, "3.11 to 3.13 are tested: make the venv with one of these")
    return Finding("ok", what)


def check_runtime(config: Config) -> Finding:
    """A TFLite runtime that can be imported."""
    del config
    from fer_edge.tflite.interpreter import runtime_module, runtime_name  # noqa: PLC0415 - heavy

    importlib.import_module(runtime_module())
    return Finding("ok", runtime_name())


def check_libraries(config: Config) -> Finding:
    """NumPy and OpenCV, and whether they go together."""
    del config
    from fer_edge.tflite.interpreter import runtime_name  # noqa: PLC0415 - heavy

    versions, broken = [], []
    for module, package in (("numpy", "numpy"), ("cv2", "opencv-python-headless")):
        try:
            versions.append(str(importlib.import_module(module).__version__))
        except Exception as error:  # noqa: BLE001 - one made for another NumPy raises many things
            broken.append(f"{package} cannot be imported ({first_line(error)})")
            with suppress(importlib.metadata.PackageNotFoundError):
                versions.append(importlib.metadata.version(package))
    if len(versions) == 2 and (trouble := pair_trouble(versions[0], versions[1], runtime_name())):
        return trouble
    if broken:
        return Finding("failure", "; ".join(broken), f'{sys.prefix}/bin/pip install --force-reinstall "fer-edge"')
    return Finding("ok", f"NumPy {versions[0]}, OpenCV {versions[1]}")


def pair_trouble(numpy: str, opencv: str, runtime: str) -> Finding | None:
    """What is known of versions that do not go together; None where nothing is.

    Args:
        numpy: version of NumPy.
        opencv: version of OpenCV.
        runtime: the TFLite runtime with its version.
    """
    pip = f"{sys.prefix}/bin/pip install"
    old_numpy, cv = _numbers(numpy) < (2,), _numbers(opencv)
    if runtime.startswith("tflite-runtime") and not old_numpy:
        return Finding("failure", f"{runtime} does not work with NumPy {numpy}", f'{pip} "numpy<2"')
    if old_numpy and cv >= (4, 12):
        return Finding(
            "failure", f"OpenCV {opencv} needs NumPy 2, here is {numpy}", f'{pip} "opencv-python-headless<4.12"'
        )
    if cv < (4, 9):
        return Finding("warning", f"OpenCV {opencv} is not tested", f'{pip} "opencv-python-headless>=4.9"')
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def check_picamera2(config: Config) -> Finding:
    """The packages of the camera module, where one is wanted."""
    source = config.camera.source
    is_module = module_number(source) is not None
    try:
        importlib.import_module("picamera2")
    except Exception as error:  # noqa: BLE001 - one made for another NumPy raises ValueError
        if is_module or (source == "auto" and machine_name().startswith("Raspberry Pi")):
            what, advice = why_no_picamera2(error)
            return Finding("failure" if is_module else "warning", what, advice)
        return Finding("ok", "not there; a camera module needs it, and nothing else does")
    return Finding("ok", "can be imported, with libcamera")


def why_no_picamera2(
    error: Exception, apt_modules: Path = _APT_MODULES, base: str = sys.base_prefix
) -> tuple[str, str]:
    """Why picamera2 cannot be imported, and what to do about it.

    Args:
        error: what its import raised.
        apt_modules: where apt puts modules.
        base: prefix of the Python that the venv was made with.
    """
    what = f"picamera2 cannot be imported ({first_line(error)})"
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if not module:
        if "numpy" in str(error).lower():
            return what, f'it is made for apt\'s NumPy: {sys.prefix}/bin/pip install "numpy<2"'
        return what, "sudo apt install --reinstall python3-picamera2 python3-libcamera"
    if not (apt_modules / module).is_dir() and not list(apt_modules.glob(f"{module}.*")):
        package = f"python3-{_APT_NAMES.get(module, module)}"
        return what, f"sudo apt install {package} (Raspberry Pi OS has it, plain Debian does not)"
    if base != "/usr":
        return what, (
            f"apt's modules are for the system's Python and this is {base}: make the venv with"
            " /usr/bin/python3 -m venv --system-site-packages"
        )
    return what, (
        f"apt has installed it, but this venv does not see it: write include-system-site-packages = true into"
        f" {sys.prefix}/pyvenv.cfg"
    )


def check_group(config: Config) -> Finding:
    """Whether the camera's device files may be opened: the group ``video``."""
    if not _is_local(config.camera.source):
        return Finding("ok", "not needed for this source")
    devices = [*Path("/dev").glob("video*"), *Path("/dev").glob("media*")]
    if os.geteuid() == 0 or (devices and all(os.access(device, os.R_OK | os.W_OK) for device in devices)):
        return Finding("ok", f"{_user()} may open cameras")
    try:
        video = grp.getgrnam("video")
    except KeyError:
        return Finding("ok", "this system has no such group")
    return group_finding(video, _user(), os.getgroups(), units())


def group_finding(video: grp.struct_group, user: str, groups: list[int], services: list[UnitState]) -> Finding:
    """What the groups of a user, and of the services, mean for cameras.

    Args:
        video: the group.
        user: somebody's name.
        groups: numbers of the groups that their processes have.
        services: the units there are.
    """
    if video.gr_gid in groups:
        return Finding("ok", f"{user} is in the group video")
    without = [unit.name for unit in services if "video" not in unit.groups]
    if services and not without:
        return Finding("ok", f"the service is in the group video; {user} is not, which matters to `fer-edge run` alone")
    if without:
        return Finding(
            "failure",
            f"{', '.join(without)} is not in the group video",
            "sudo systemctl edit it: SupplementaryGroups=video in [Service], and restart it",
        )
    if user in video.gr_mem:
        return Finding("failure", f"{user} is in the group video, but this login is older", "log out and in again")
    return Finding("failure", f"{user} is not in the group video", f"sudo usermod -aG video {user}; log out and in")


def check_camera(config: Config) -> Finding:
    """Whether the configured source opens and gives a frame."""
    source = config.camera.source
    local = _is_local(source)
    node = _node(source)
    for unit in units() if local and (node is None or Path(node).exists()) else []:
        held = _devices_of(unit.pid) if unit.active == "active" else set()
        if held is None:
            return Finding("warning", f"{unit.name} is running, and may have it", "sudo shows whether it does")
        if _has(held, node):
            return Finding("ok", f"{unit.name} is running and has it; only frames feed its watchdog")
    from fer_edge_device.capture.factory import open_source  # noqa: PLC0415 - heavy

    start = time.monotonic()
    try:
        camera = open_source(config.camera)
        try:
            frame = _first_frame(camera, start + _FIRST_FRAME)
        finally:
            camera.close()
    except FerEdgeError as error:
        holders = _holders(node) if local else []
        return Finding("failure", str(error), f"it is in use by {', '.join(holders)}: end that" if holders else "")
    rows, columns = frame.gray.shape
    what = f"gives frames of {columns}x{rows}, the first after {time.monotonic() - start:.1f} s"
    if frame.gray.max() - frame.gray.min() < 8:
        return Finding("warning", f"{what}, which is all of one grey", "is the lens covered, or the room dark?")
    return Finding("ok", what)


def _first_frame(camera: FrameSource, until: float) -> Frame:
    from fer_edge_device.capture.base import NoFrameYet  # noqa: PLC0415 - heavy

    while time.monotonic() < until:
        with suppress(NoFrameYet):
            if (frame := camera.read()) is not None:
                return frame
            raise SourceLostError("the source ended before its first frame")
    raise SourceLostError(
        f"it opens, but gave no frame for {_FIRST_FRAME:.0f} s; check its cable and power, or try a smaller --width"
    )


def _is_local(source: str) -> bool:
    return source == "auto" or module_number(source) is not None or source.isdecimal() or source.startswith("/dev/")


def _node(source: str) -> str | None:
    """The device file that a local source means; None where it is any camera's, as for a module."""
    if source == "auto" or module_number(source) is not None:
        return None
    return str(Path(f"/dev/video{source}" if source.isdecimal() else source).resolve())


def _has(devices: set[str], node: str | None) -> bool:
    return node in devices if node else any(device.startswith(("/dev/video", "/dev/media")) for device in devices)


def _devices_of(pid: int) -> set[str] | None:
    """The device files that a process has open; None where that may not be seen."""
    found = set()
    try:
        for link in Path("/proc", str(pid), "fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                found.add(str(link.readlink()))
    except PermissionError:
        return None
    except OSError:  # it has ended
        return set()
    return found


def _holders(node: str | None) -> list[str]:
    """Programs of this user, or for root of everybody, that have the camera open."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) != os.getpid() and _has(_devices_of(int(folder.name)) or set(), node):
            with suppress(OSError):
                found.append(f"{(folder / 'comm').read_text(encoding='utf-8').strip()} (process {folder.name})")
    return found


def check_model(config: Config) -> Finding:
    """Whether the model loads and gives here what its card says."""
    from fer_edge.classification.classifier import TFLiteClassifier  # noqa: PLC0415 - heavy
    from fer_edge.model_zoo import find_model  # noqa: PLC0415 - heavy

    classifier = TFLiteClassifier(find_model(Path(config.model)), config.threads)
    what = f"{classifier.card.name}-{classifier.sha256[:8]}, {len(classifier.card.labels)} labels"
    apart = classifier.self_test()
    if apart is None:
        return Finding(
            "warning",
            f"{what}; its card has no self-test",
            f"where it is known to work: fer-edge card set {config.model}",
        )
    return Finding("ok", f"{what}; scores are within {apart:.3f} of those on its card")


def check_detector(config: Config) -> Finding:
    """Whether faces are found in an image that has some, and a network gives here what its card says."""
    from fer_edge import demo  # noqa: PLC0415 - heavy
    from fer_edge.detection.factory import make_detector  # noqa: PLC0415 - heavy
    from fer_edge.detection.network import NetworkDetector  # noqa: PLC0415 - heavy

    faces = config.faces
    detector = make_detector(faces.detector, Path(faces.detector_model) if faces.detector_model else None)
    name: str = faces.detector
    tested = Finding("ok", "")
    if isinstance(detector, NetworkDetector):
        name = f"{detector.card.name}-{detector.sha256[:8]}"
        tested = _tested(detector.self_test())
    shown = next(number for number in range(0, demo.FRAMES, 10) if demo.truth(number))
    if not detector.detect(demo.frame(shown)):
        return Finding("failure", f"{name} finds no face where there is one", "set another faces.detector_model")
    return replace(tested, what=f"{name} finds the demo's face{tested.what}")


def _tested(apart: float | None) -> Finding:
    """What a detector's self-test means, to go on with a sentence."""
    if apart is None:
        return Finding("warning", "; its card has no self-test", "make it anew with `fer-edge convert`")
    return Finding("ok", f"; outputs are within {apart:g} steps of those on its card")


def check_broker(config: Config) -> Finding:
    """Whether the broker is there and lets us in."""
    if not config.mqtt.url:
        return Finding("ok", "none is configured; messages go to standard output")
    settings, advice = config.mqtt, ""
    if not settings.password_file and "CREDENTIALS_DIRECTORY" not in os.environ:
        if os.access(_SERVICE_PASSWORD, os.R_OK):
            settings = msgspec.structs.replace(settings, password_file=str(_SERVICE_PASSWORD))
        elif os.geteuid() and units():
            advice = "with sudo, the password that the service is given is used"
    from fer_edge_device.mqtt.sink import check_broker as reach  # noqa: PLC0415 - heavy

    try:
        return Finding("ok", reach(settings, config.node_name(), _BROKER))
    except FerEdgeError as error:
        return Finding("failure", str(error), advice)


class _Timex(ctypes.Structure):
    """The beginning of what adjtimex(2) fills in, and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_int),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_char * 512),
    )


def check_clock(config: Config) -> Finding:
    """Whether the clock is set, without which times are wrong and certificates not valid."""
    del config
    timex = _Timex()
    known = ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) >= 0
    # As systemd-timedated judges it: an error of less than 16 s, in microseconds.
    return clock_finding(dt.datetime.now(dt.UTC), timex.maxerror < 16_000_000 if known else None)


def clock_finding(now: dt.datetime, synchronised: bool | None) -> Finding:  # noqa: FBT001 - what is judged
    """What a clock's time means.

    Args:
        now: what it shows.
        synchronised: whether a time server sets it; None where that is not told.
    """
    what = f"{now:%Y-%m-%d %H:%M} UTC"
    advice = "is the network there? `timedatectl set-ntp true` has it set from there"
    if not _OLDEST <= now.year <= _NEWEST:
        return Finding("failure", f"{what}, which cannot be", advice)
    if synchronised is False:
        return Finding("warning", f"{what}, but no time server has set it", advice)
    return Finding("ok", what if synchronised is None else f"{what}, set by a time server")


def check_heat(config: Config) -> Finding:
    """Temperature, and whether the firmware slows the processor down."""
    del config
    return heat_finding(temperature_c(), throttled_flags())


def heat_finding(celsius: float | None, flags: int | None) -> Finding:
    """What a temperature and a Pi firmware's flags mean.

    Args:
        celsius: of the processor; None where the machine does not tell.
        flags: as `fer_edge.utils.system.throttled_flags` gives them.
    """
    what = "the machine does not tell" if celsius is None else f"{celsius:.0f} degrees C"
    said = throttling(flags or 0)
    if any("voltage" in one for one in said):
        return Finding("warning", f"{what}, {', '.join(said)}", "use the power supply and cable made for this Pi")
    if said or (celsius is not None and celsius >= _HOT):
        return Finding("warning", ", ".join((what, *said)), "give it a heat sink, a fan or shade")
    return Finding("ok", what if flags is None else f"{what}, not slowed down")


def check_outbox(config: Config) -> Finding:
    """Whether there is room, and leave to write, for the events that wait for the broker."""
    if not config.mqtt.url:
        return Finding("ok", "not needed without a broker")
    there = folder = outbox_folder(config, installed=bool(units()))
    try:
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"fer-edge")
            os.fsync(file.fileno())
    except OSError as error:
        if folder == _SERVICE_STATE and os.geteuid():
            return Finding("ok", f"{folder} is for the service and root alone; sudo shows more")
        return Finding(
            "failure",
            f"{there}: {_user()} cannot write there ({error.strerror})",
            "choose outbox.path; `dmesg` tells whether a failing card has become read-only",
        )
    what = f"{there}: {free / 1e6:,.0f} MB free"
    wanted = config.outbox.max_events * _BYTES_AN_EVENT
    if free < _LEAST_FREE:
        return Finding("failure", what, "delete something: `journalctl --vacuum-size=50M`, `apt clean`")
    if free < wanted:
        return Finding(
            "warning", f"{what}; a full outbox takes about {wanted / 1e6:,.0f} MB", "lower outbox.max_events"
        )
    return Finding("ok", what)


def outbox_folder(config: Config, *, installed: bool) -> Path:
    """Where events wait.

    Args:
        config: what the service is told.
        installed: whether it is installed as a service.
    """
    if config.outbox.path:
        return Path(config.outbox.path).absolute().parent
    if installed:
        return _SERVICE_STATE
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "fer-edge"


def check_service(config: Config) -> Finding:
    """Whether the installed program runs, and how systemd sees our units."""
    del config
    services, venvs = units(), Venvs(Machine())
    venv = venvs.current()
    if services and venv and (trouble := venvs.trouble(venv)):
        return Finding("failure", trouble, f"to make it anew: sudo {this_program()} service upgrade")
    return service_finding(services)


def service_finding(services: list[UnitState]) -> Finding:
    """What the state of the units means; the worst of them counts."""
    if len(services) > 1:  # the plain unit need not run where there is one for each camera
        services = [unit for unit in services if unit.enabled or unit.active != "inactive"] or services
    if not services:
        return Finding("ok", f"not installed; `sudo {this_program()} service install` does that")
    worst = Finding("ok", ", ".join(f"{unit.name} is running" for unit in services))
    for unit in services:
        log = f"journalctl -u {unit.name} -n 50 tells why"
        if unit.active not in {"active", "inactive"}:
            why = f", last time by {unit.result}" if unit.result not in {"", "success"} else ""
            return Finding("failure", f"{unit.name} is {unit.active}{why}; started again {unit.restarts} times", log)
        if unit.active == "inactive":
            worst = Finding("warning", f"{unit.name} is not running", f"sudo systemctl enable --now {unit.name}")
        elif unit.restarts > _OFTEN:
            worst = Finding("warning", f"{unit.name} is running, started again {unit.restarts} times", log)
        elif not unit.enabled:
            worst = Finding("warning", f"{unit.name} does not start at boot", f"sudo systemctl enable {unit.name}")
    return worst


def units() -> list[UnitState]:
    """Our units that are installed; none where there is no systemd."""
    try:
        return installed_units(Machine())
    except ServiceError:
        return []


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


CHECKS: Final[Mapping[str, Check]] = {
    "python": Check(check_python),
    "runtime": Check(check_runtime),
    "libraries": Check(check_libraries),
    "picamera2": Check(check_picamera2),
    "video group": Check(check_group),
    "camera": Check(
        check_camera,
        limit=3 * _FIRST_FRAME,
        when_hung="its driver or its network hangs: take the camera off and put it on again, or start the machine anew",
    ),
    "model": Check(check_model),
    "detector": Check(check_detector),
    "broker": Check(check_broker, limit=2 * _BROKER, when_hung="is its address right, and no firewall in between?"),
    "clock": Check(check_clock),
    "temperature": Check(check_heat),
    "outbox": Check(check_outbox),
    "service": Check(check_service),
}
