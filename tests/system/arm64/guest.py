"""The steps, as the guest runs them: as root, with the system's Python and its standard library alone.

    python3 -m tests.system.arm64.guest [--stream]

Prints a line of JSON for each step: its name, its result, the seconds that it took, and what was seen. The folder
``wheels`` lies beside ``tests``, which has this file. The camera is the kernel's test camera (vivid). A container has
no kernel of its own: there, with ``--stream``, it is the network camera of ``network_camera.py``.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

WHEELS: Final = Path(__file__).parents[3] / "wheels"
WORK: Final = Path("/root/acceptance")
VENV: Final = WORK / "fer-env"
UNIT: Final = "fer-edge.service"
NODE: Final = "arm64"
USER: Final = "node"
PASSWORD: Final = "not a secret"  # noqa: S105 - of a broker that ends with the machine
IN_CONTAINER: Final = "--stream" in sys.argv[1:]
PATIENCE: Final = 200.0 if IN_CONTAINER else 900.0  # seconds; an emulated one is worth 30 to 100 milliseconds
# Emulation is slow, and only for that reason the service gets more time, here and in its configuration.
DROP_IN: Final = """\
[Service]
TimeoutStartSec=900
TimeoutStopSec=120
WatchdogSec=90
"""
MORE_TIME: Final = {
    "# stall_timeout_s = 5.0": "stall_timeout_s = 10.0",
    "# exit_after_s = 25.0": "exit_after_s = 80.0",
}
BROKER: Final = """\
listener 1883 127.0.0.1
allow_anonymous false
password_file /etc/mosquitto/passwords
"""
# Logs, and the state of systemd, of the broker, and of this script, which the service does not own.
NOT_OURS: Final = ("/var/log", "/var/lib/systemd", "/var/lib/mosquitto", "/var/tmp/systemd-private-*", "/root")  # noqa: S108


class StepError(Exception):
    """A step did not find what it should."""


class EssentialSteps(Protocol):
    """Steps of which some are essential."""

    ESSENTIAL: ClassVar[frozenset[str]]


class Camera(Protocol):
    """A camera that can be unplugged."""

    source: str

    def start(self) -> str:
        """Plug it in for the first time, and say what it is."""

    def unplug(self) -> None:
        """Take it away, also from a process that uses it."""

    def plug(self) -> None:
        """Bring it back."""

    def users(self) -> list[str]:
        """Return the processes that have it open."""


class KernelCamera:
    """The test camera of the kernel (vivid), on /dev/video0."""

    source = "/dev/video0"
    _driver = Path("/sys/bus/platform/drivers/vivid")

    def start(self) -> str:
        run("modprobe", "vivid", "n_devs=1", "node_types=0x1")
        wait_for(Path(self.source).exists, self.source)
        return f"vivid of Linux {platform.release()}, {self.source}"

    def unplug(self) -> None:
        (self._driver / "unbind").write_text("vivid.0")
        wait_for(lambda: not Path(self.source).exists(), f"no {self.source}")

    def plug(self) -> None:
        (self._driver / "bind").write_text("vivid.0")
        wait_for(Path(self.source).exists, self.source)

    def users(self) -> list[str]:
        return sorted({path.parts[2] for path in Path("/proc").glob("[0-9]*/fd/*") if _target(path) == self.source})


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # the process has ended
        return ""


class StreamCamera:
    """A network camera on this machine."""

    source = "http://127.0.0.1:8000/"
    _server: subprocess.Popen[bytes]

    def start(self) -> str:
        self.plug()
        return f"a network camera, {self.source}"

    def unplug(self) -> None:
        self._server.terminate()
        self._server.wait()

    def plug(self) -> None:
        self._server = subprocess.Popen(
            [VENV / "bin/python", Path(__file__).with_name("network_camera.py")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def users(self) -> list[str]:
        lines = Path("/proc/net/tcp").read_text().split("\n")[1:]
        return [fields[9] for line in lines if (fields := line.split())[2:4] == [f"0100007F:{8000:04X}", "01"]]


def run(*command: str, status: int = 0, wait_s: float = 2 * PATIENCE) -> str:
    """Run a program, and return what it printed.

    Raises:
        StepError: it ended with another status, or printed a traceback.
    """
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(WHEELS)}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=wait_s, check=False, env=environment
    )
    output = (done.stdout + done.stderr).strip()
    if done.returncode != status or "Traceback" in output:
        raise StepError(f"`{' '.join(command)}` ended with status {done.returncode}: {output[-2000:]}")
    return output


def fer_edge(*args: str, status: int = 0) -> str:
    """Run the user's command."""
    return run(str(VENV / "bin/fer-edge"), *args, status=status)


def wait_for(condition: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Call a function until its result is true, and return that.

    Raises:
        StepError: it never was.
    """
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() >= deadline:
            raise StepError(f"waited {seconds:.0f} s for: {what}")
        time.sleep(1)
    return result


def show(name: str) -> str:
    """Return a property of the unit."""
    return run("systemctl", "show", UNIT, f"--property={name}", "--value")


def journal() -> str:
    """Return what the service and systemd logged about it."""
    return run("journalctl", "--no-pager", "-q", "-o", "cat", "-u", UNIT)


def message(topic: str, count: int = 1) -> str:
    """Return the retained message of a topic, or the next one; with a count, the last of so many."""
    listen = ("mosquitto_sub", "-h", "127.0.0.1", "-u", USER, "-P", PASSWORD, "-t", f"fer-edge/{NODE}/{topic}")
    return run(*listen, "-C", str(count), "-W", f"{PATIENCE:.0f}").split("\n")[-1]


def publish(topic: str, text: str) -> None:
    """Publish a message to the node."""
    login = ("mosquitto_pub", "-h", "127.0.0.1", "-u", USER, "-P", PASSWORD, "-q", "1")
    run(*login, "-t", f"fer-edge/{NODE}/{topic}", "-m", text)


def camera_says(*states: str) -> bool:
    """Return whether the node says one of these of its camera now."""
    return message("camera") in states


def processes() -> set[str]:
    """Return the processes of the service."""
    path = Path(f"/sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs")
    return set(path.read_text().split()) if path.exists() else set()


def camera_process() -> str:
    """Return the process that reads the camera, which is the service's second one."""
    others = processes() - {show("MainPID")}
    if len(others) != 1:
        raise StepError(f"beside the runner the service has the processes {sorted(others)}, not one")
    return others.pop()


def frame_rate() -> float:
    """Return how many frames were processed per second in an interval that began after this call."""
    return float(json.loads(message("stats", count=2))["fps"])


def files() -> set[str]:
    """Return the files of the machine that the service could own."""
    pruned = [word for path in NOT_OURS for word in ("-path", path, "-prune", "-o")]
    return set(run("find", "/", "-xdev", *pruned, "-print").split("\n"))


def has_restarted(restarts: int) -> bool:
    """Return whether systemd has restarted the service, and it is ready."""
    return int(show("NRestarts")) > restarts and show("ActiveState") == "active"


class Steps:
    """The steps, in their order: each public method is one, and its first line is its name."""

    # Without these, no later step makes sense.
    ESSENTIAL: ClassVar = frozenset({"boot", "install_program", "find_the_camera", "start_a_broker", "install_service"})

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._before: set[str] = set()

    @staticmethod
    def boot() -> str:
        """Debian boots."""
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
        version = Path("/etc/debian_version").read_text(encoding="ascii").strip()
        uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        return f"{name} ({version}), Linux {platform.release()}, {os.cpu_count()} cores, {uptime:.0f} s after its start"

    def install_program(self) -> str:
        """`pip install` of the wheel into a new environment."""
        (wheel,) = (path for path in WHEELS.glob("fer_edge-*.whl") if "-999." not in path.name)
        run("python3", "-m", "venv", str(VENV))
        run(str(VENV / "bin/pip"), "install", "-q", "--no-cache-dir", f"{wheel}[device]")
        megabytes = int(run("du", "-sm", str(VENV)).split()[0])
        version = fer_edge("--version")
        return f"{version}, Python {platform.python_version()}, {platform.machine()}, {megabytes} MB"

    def recognize_the_demo(self) -> str:
        """`fer-edge run --source demo`: three faces as events."""
        output = fer_edge("run", "--source", "demo", "--full-speed", "--node", "demo")
        lines = [json.loads(line) for line in output.split("\n") if line.startswith('{"topic"')]
        events = [line["payload"] for line in lines if line["topic"] == "fer-edge/demo/event"]
        faces = [event["emotion"] for event in events if event["event_type"] == "new"]
        if len(faces) != 3:
            raise StepError(f"the demo has three faces; found were {faces}")
        return f"{len(events)} events; the faces appear {', '.join(faces)}"

    def find_the_camera(self) -> str:
        """`fer-edge cameras` lists the camera."""
        what = self._camera.start()
        if isinstance(self._camera, StreamCamera):
            return what
        cameras = json.loads(fer_edge("cameras", "--json"))
        if [each["source"] for each in cameras] != [self._camera.source]:
            raise StepError(f"cameras are {cameras}")
        return what

    def start_a_broker(self) -> str:
        """Mosquitto with a user and a password."""
        Path("/etc/mosquitto/conf.d/node.conf").write_text(BROKER, encoding="utf-8")
        run("mosquitto_passwd", "-c", "-b", "/etc/mosquitto/passwords", USER, PASSWORD)
        run("chown", "mosquitto:", "/etc/mosquitto/passwords")
        run("systemctl", "restart", "mosquitto")
        return run("mosquitto", "-h", status=3).split("\n")[0]

    def check_before(self) -> str:
        """`fer-edge doctor` sees the camera and the broker."""
        text = fer_edge("config", "--example")
        settings = {
            '# node = ""': f'node = "{NODE}"',
            '# source = "auto"': f'source = "{self._camera.source}"',
            '# url = ""': f'url = "mqtt://{USER}@127.0.0.1"',
            '# password_file = ""': f'password_file = "{WORK}/password.txt"',
            **MORE_TIME,
        }
        for before, after in settings.items():
            if before not in text:
                raise StepError(f"the example of a configuration lacks {before}")
            text = text.replace(before, after)
        (WORK / "config.toml").write_text(text, encoding="utf-8")
        (WORK / "password.txt").write_text(f"{PASSWORD}\n", encoding="utf-8")
        (WORK / "password.txt").chmod(0o600)
        return self._doctor("--config", str(WORK / "config.toml"))

    @staticmethod
    def _doctor(*args: str) -> str:
        command = (str(VENV / "bin/fer-edge"), "doctor", "--json", *args)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        findings = json.loads(done.stdout)
        bad = [f"{each['name']}: {each['message']}" for each in findings if each["level"] == "failure"]
        if bad:
            raise StepError("; ".join(bad))
        (camera,) = (each["message"] for each in findings if each["name"] == "camera")
        return f"{len(findings)} checks without a failure; camera: {camera}"

    def install_service(self) -> str:
        """`service install`: ready after the first frame."""
        self._before = files()
        drop_in = Path(f"/etc/systemd/system/{UNIT}.d/slow.conf")
        drop_in.parent.mkdir()
        drop_in.write_text(DROP_IN, encoding="utf-8")
        config, password = str(WORK / "config.toml"), str(WORK / "password.txt")
        fer_edge("service", "install", "--config", config, "--password-file", password)
        state = f"{show('ActiveState')}, {run('systemctl', 'is-enabled', UNIT)}"
        if state != "active, enabled":
            raise StepError(f"the service is {state}")
        verdict = run("systemd-analyze", "security", "--no-pager", UNIT).split("\n")[-1]
        score = verdict.rpartition(": ")[2].split()[0]  # "→ Overall exposure level for fer-edge.service: 1.2 OK :-)"
        return f"{state}; {len(processes())} processes; `systemd-analyze security` {score}"

    def check_after(self) -> str:
        """`fer-edge doctor` of the running service."""
        return self._doctor()

    def send_messages(self) -> str:
        """Messages arrive at the broker."""
        if (available := message("availability")) != "online":
            raise StepError(f"availability is {available}")
        wait_for(lambda: camera_says("online"), "camera is online")
        model = json.loads(message("info"))["model"]
        return f"availability and camera online; model {model}; {wait_for(frame_rate, 'frames')} frames per second"

    def switch(self) -> str:
        """Switched OFF, the camera is closed; ON opens it."""
        if not self._camera.users():
            raise StepError(f"nothing has {self._camera.source} open")
        publish("enabled/set", "OFF")
        wait_for(lambda: camera_says("disabled"), "camera is disabled")
        wait_for(lambda: not self._camera.users(), f"{self._camera.source} is closed")
        publish("enabled/set", "ON")
        wait_for(lambda: camera_says("online"), "camera is online")
        return f"{len(self._camera.users())} process has it open, then none, then again"

    def kill_runner(self) -> str:
        """`kill -9` of the runner: systemd starts it again."""
        restarts, old = int(show("NRestarts")), processes()
        os.kill(int(show("MainPID")), signal.SIGKILL)
        wait_for(lambda: has_restarted(restarts), "the service is ready again")
        wait_for(lambda: camera_says("online"), "camera is online")
        if left := old & processes():
            raise StepError(f"the processes {left} are left over")
        return "ready again, and no process is left over"

    def kill_camera_process(self) -> str:
        """`kill -9` of the camera's process: another one, the runner stays."""
        runner, restarts, old = show("MainPID"), show("NRestarts"), camera_process()
        os.kill(int(old), signal.SIGKILL)
        wait_for(lambda: len(processes()) == 2 and old not in processes(), "another process of the camera")
        wait_for(lambda: camera_says("online"), "camera is online")
        wait_for(frame_rate, "frames per second")
        if (show("MainPID"), show("NRestarts")) != (runner, restarts):
            raise StepError("the runner was started again too")
        return f"process {old} became {camera_process()}; the runner went on"

    def hang(self) -> str:
        """A runner that hangs (SIGSTOP): the watchdog ends it, systemd starts it again."""
        restarts = int(show("NRestarts"))
        before = journal().count("Watchdog timeout")
        os.kill(int(show("MainPID")), signal.SIGSTOP)
        wait_for(lambda: has_restarted(restarts), "the service is ready again")
        if journal().count("Watchdog timeout") != before + 1:
            raise StepError("it was not the watchdog that ended it")
        wait_for(lambda: camera_says("online"), "camera is online")
        return "watchdog time-out in the journal; ready again"

    def unplug(self) -> str:
        """The camera is unplugged and plugged in again."""
        self._camera.unplug()
        wait_for(lambda: camera_says("stalled", "offline"), "camera is stalled or offline")
        said = message("camera")
        self._camera.plug()
        wait_for(lambda: camera_says("online"), "camera is online")
        wait_for(frame_rate, "frames per second")
        return f"camera is {said}, then online; {show('NRestarts')} restarts in all"

    def upgrade(self) -> str:
        """`service upgrade` to a later version."""
        (wheel,) = WHEELS.glob("fer_edge-999.0-*.whl")
        fer_edge("service", "upgrade", "--from", str(wheel))
        return self._version("999.0")

    def roll_back(self) -> str:
        """`service upgrade` to a version that does not run: the old one comes back."""
        (wheel,) = WHEELS.glob("fer_edge-999.1-*.whl")
        output = fer_edge("service", "upgrade", "--from", str(wheel), status=1)
        if "did not become ready" not in output:
            raise StepError(output[-500:])
        return f"999.1 did not become ready; {self._version('999.0')}"

    @staticmethod
    def _version(version: str) -> str:
        wait_for(lambda: camera_says("online"), "camera is online")
        status = run("fer-edge", "service", "status").split("\n")[0]  # the installed command
        reported = json.loads(message("info"))["version"]
        if f"fer-edge {version} " not in status or reported != version or show("ActiveState") != "active":
            raise StepError(f"{status}; info says version {reported}; the unit is {show('ActiveState')}")
        return f"{version} runs"

    def uninstall(self) -> str:
        """`service uninstall --purge` leaves nothing."""
        fer_edge("service", "uninstall", "--purge")
        if (last := message("availability")) != "offline":
            raise StepError(f"availability is {last}")
        if left := files() - self._before:
            raise StepError(f"left over: {sorted(left)}")
        if users := self._camera.users():
            raise StepError(f"the processes {users} still have {self._camera.source} open")
        return "no file, no process; availability offline"


def step_names(steps: type) -> dict[str, str]:
    """Return the name of each step of a class, by its method, in their order."""
    public = {method: value for method, value in vars(steps).items() if method[0].islower()}
    return {method: (value.__doc__ or "").rstrip(".") for method, value in public.items()}


def run_steps(steps: EssentialSteps) -> None:
    """Run and report the steps; after an essential one that fails, the others are reported as not run."""
    essential_failed = False
    for name, title in step_names(type(steps)).items():
        step: Callable[[], str] = getattr(steps, name)
        result, note = "not run", ""
        start = time.monotonic()
        if not essential_failed:
            try:
                result, note = "passed", step()
            except Exception as error:  # noqa: BLE001 - every step is reported
                result, note = "failed", f"{error}"
                essential_failed = name in steps.ESSENTIAL
                print(f"{name}: {error!r}", "--- the service's log:", *_last_log(), sep="\n", file=sys.stderr)  # noqa: T201
        seconds = round(time.monotonic() - start, 1)
        print(json.dumps({"step": title, "result": result, "seconds": seconds, "note": note}), flush=True)  # noqa: T201


def _last_log() -> list[str]:
    command = ("journalctl", "--no-pager", "-q", "-o", "short-monotonic", "-n", "60", "-u", UNIT)
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")


if __name__ == "__main__":
    WORK.mkdir()
    run_steps(Steps(StreamCamera() if IN_CONTAINER else KernelCamera()))
