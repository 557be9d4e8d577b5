"""``fer-edge deploy``: wheel, model and configuration onto hosts, over the user's own ssh.

Each host runs ``deploy.sh``, which owns a temporary folder there: whatever ends it, the folder goes.
"""

from __future__ import annotations

import contextlib
import email.parser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import msgspec

import fer_edge
from fer_edge.card import check_flatbuffer, model_bytes, read_card
from fer_edge.classify import find_model
from fer_edge.errors import FerEdgeError, InputError
from fer_edge.tables import convert, parse
from fer_edge_device.config import Config, example, load_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_CONFIG: Final = "/etc/fer-edge/config.toml"
_MODELS: Final = "/etc/fer-edge/models"
_PASSWORD: Final = "/etc/credstore/fer-edge.mqtt-password"  # noqa: S105 - where the unit takes it from
_MARK: Final = "fer-edge-deploy "
_AT_ONCE: Final = 8  # hosts
_KEPT: Final = 12  # lines of a step's output
_OPTIONS: Final = (
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),  # a network that has gone is noticed in a minute
)
_SSH_FAILED: Final = 255


class _HostError(FerEdgeError):
    """Raised when a host cannot be deployed to."""


class _Latency(msgspec.Struct, frozen=True):
    """The part of a bench's figures that is told, in milliseconds."""

    median: float
    p95: float


class Measured(msgspec.Struct, frozen=True):
    """What ``fer-edge bench`` measured on a host, as far as it is told."""

    machine: str
    runtime: str
    model: str
    classifier: _Latency
    detect: _Latency
    whole_frame: _Latency


@dataclass(frozen=True, slots=True)
class Placed:
    """A file to place on a host.

    Attributes:
        name: in the temporary folder.
        source: the file here.
        target: its path there.
        mode: its permissions there, in octal digits.
        group: its group there.
    """

    name: str
    source: Path
    target: str
    mode: str = "0644"
    group: str = "root"


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a host gets.

    Attributes:
        wheel: the program.
        version: of it.
        config: text of the configuration; None to leave the host its own.
        model: what the host's configuration is to say of the model; None to leave that as it is.
        placed: files besides.
    """

    wheel: Path
    version: str
    config: str | None = None
    model: str | None = None
    placed: tuple[Placed, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a host.

    Attributes:
        host: as it was given.
        version: that runs there now; empty where that is not known.
        failed: the step that failed; empty where none did.
        said: the last lines of the step that failed.
        measured: latencies there; None where they were not measured.
    """

    host: str
    version: str = ""
    failed: str = ""
    said: tuple[str, ...] = ()
    measured: Measured | None = None


def pack(wheel: Path, *, model: Path | None = None, config: Path | None = None) -> Parcel:
    """Put together what hosts get, and look whether it is fit.

    Args:
        wheel: of fer-edge.
        model: a ``.tflite`` with a card, or the name of one that is shipped.
        config: a configuration.  Its ``mqtt.password_file``, where it is a file here, becomes the password that the
            service is given; every other path in it is the host's.

    Raises:
        InputError: one of them is missing or damaged.
    """
    placed = []
    wanted: str | None = None
    if model is not None:
        found = find_model(model)
        check_flatbuffer(found, read_card(found), model_bytes(found))
        wanted = str(model)
        if found == model:
            wanted = f"{_MODELS}/{re.sub(r'[^A-Za-z0-9_.-]', '-', model.stem)}.tflite"
            placed.append(Placed("model.tflite", model, wanted))
    text = None
    if config is not None:
        password = _password_file(config)
        if password:
            placed.append(Placed("password", password, _PASSWORD, "0600"))
        text = fitted(_text(config), str(config), model=wanted, without_password_file=password is not None)
    return Parcel(wheel, wheel_version(wheel), text, wanted, tuple(placed))


def _text(config: Path) -> str:
    load_config(config, {})  # tells what is wrong with it
    return config.read_text(encoding="utf-8")


def _password_file(config: Path) -> Path | None:
    named = load_config(config, {}).mqtt.password_file
    path = config.parent / named
    if not named or (Path(named).is_absolute() and not path.exists()):  # the host's own
        return None
    try:
        if not path.read_bytes().strip():
            raise InputError(f"{path}: there is no password in it")
    except OSError as error:
        raise InputError(f"{path}, the password_file of {config}: cannot be read ({error.strerror})") from error
    return path


def fitted(text: str, where: str, *, model: str | None, without_password_file: bool = False) -> str:
    """A configuration's text with another model, its comments kept.

    Args:
        text: the configuration.
        where: whose it is, for errors.
        model: what it is to say of the model; None leaves it.
        without_password_file: whether to leave out where the broker's password is.

    Raises:
        InputError: it is wrong, or is written in a way that this does not understand.
    """
    before = convert(parse(text, where), Config, where)
    wanted = before
    if model is not None:
        wanted = msgspec.structs.replace(wanted, model=model)
    if without_password_file:
        wanted = msgspec.structs.replace(wanted, mqtt=msgspec.structs.replace(wanted.mqtt, password_file=""))
    lines = list(_kept_lines(text, model=model is None, password_file=not without_password_file))
    if model is not None:
        lines.insert(0, f"model = {json.dumps(model)}")
    changed = "\n".join(lines) + "\n"
    try:
        same = convert(parse(changed, where), Config, where) == wanted
    except InputError:
        same = False
    if not same:
        raise InputError(f"{where}: write model and mqtt.password_file as plain lines, `key = value`")
    return changed


def _kept_lines(text: str, *, model: bool, password_file: bool) -> Iterator[str]:
    table = ""
    for line in text.splitlines():
        if header := re.match(r"\s*\[\s*([^\]]*?)\s*\]", line):
            table = f"{header[1]}."
        key = re.match(r"\s*([A-Za-z0-9_.]+)\s*=", line)
        name = f"{table}{key[1]}" if key else ""
        if (model or name != "model") and (password_file or name != "mqtt.password_file"):
            yield line


def wheel_version(wheel: Path) -> str:
    """Version of a wheel of fer-edge.

    Raises:
        InputError: it is none.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            metadata = email.parser.BytesParser().parsebytes(archive.read(name))
    except (OSError, zipfile.BadZipFile, StopIteration) as error:
        raise InputError(f"{wheel}: not a wheel that can be read; leave --wheel out in a clone of fer-edge") from error
    if wheel.suffix != ".whl" or metadata["Name"] != "fer-edge":
        raise InputError(f"{wheel}: not a wheel of fer-edge but of {metadata['Name']}")
    return str(metadata["Version"])


def build_wheel(folder: Path) -> Path:
    """Build a wheel of the clone that this runs from.

    Args:
        folder: where to put it.

    Raises:
        InputError: this does not run from a clone.
        FerEdgeError: it cannot be built.
    """
    clone = Path(fer_edge.__file__).parents[1]
    if not (clone / "pyproject.toml").is_file():
        raise InputError("this fer-edge does not run from a clone, of which a wheel could be built: give --wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(clone)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own clone
    built = list(folder.glob("*.whl"))
    if done.returncode or not built:
        last = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise FerEdgeError(f"{clone}: no wheel can be built of it ({last}); build one and give --wheel")
    return built[0]


def deploy(
    hosts: Sequence[str],
    parcel: Parcel,
    *,
    told: Callable[[str, str], None],
    ssh_config: Path | None = None,
) -> list[Outcome]:
    """Bring a parcel to hosts, several at once.

    Args:
        hosts: as ssh takes them, ``user@host`` or a name of its configuration.
        parcel: what they get.
        told: called with a host and the step that begins there, from several threads.
        ssh_config: instead of the user's own configuration of ssh.

    Returns:
        What became of each, in their order.

    Raises:
        InputError: ssh is missing, or a host's name is none; nothing was changed anywhere.
    """
    for program in ("ssh", "scp"):
        if shutil.which(program) is None:
            raise InputError(f"{program} is not installed here: sudo apt install openssh-client")
    for host in hosts:
        if not host or host.startswith("-") or re.search(r"\s", host):
            raise InputError(f"{host!r}: not a host; give user@host")
    # A short path, for a socket's has at most 108 bytes.
    with tempfile.TemporaryDirectory(prefix="fer-edge-") as folder:
        links = [_Link(host, Path(folder), ssh_config) for host in dict.fromkeys(hosts)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                refused = list(pool.map(_Link.connect, links))
                unknown = [said for said in refused if "Could not resolve hostname" in said]
                if unknown:
                    raise InputError("; ".join(unknown))
                return list(pool.map(lambda link, said: _one(link, said, parcel, told), links, refused))
            finally:
                # Also when Ctrl-C comes: then threads still wait for their hosts.
                for link in links:
                    link.end()
                pool.shutdown(cancel_futures=True)


def _one(link: _Link, refused: str, parcel: Parcel, told: Callable[[str, str], None]) -> Outcome:
    if refused:
        return Outcome(link.host, failed="connect", said=(refused, _connection_advice(refused, link.host)))
    with tempfile.TemporaryDirectory(prefix="fer-edge-") as folder:
        try:
            return _Session(link, Path(folder), lambda step: told(link.host, step)).run(parcel)
        except FerEdgeError as error:  # it was stopped
            return Outcome(link.host, failed="connect", said=(str(error),))


def _connection_advice(said: str, host: str) -> str:
    if "Permission denied" in said:
        return f"let your key in: ssh-copy-id {host}"
    if "Host key verification failed" in said:
        return f"look at its key once, by hand: ssh {host}"
    return "is it switched on, on the network, and its ssh enabled?"


class _Link:
    """One connection to a host, which every command and copy shares."""

    def __init__(self, host: str, folder: Path, ssh_config: Path | None) -> None:
        self.host = host
        own = ["-F", str(ssh_config)] if ssh_config else []
        self._options = [*own, *_OPTIONS, "-o", f"ControlPath={folder}/%C"]
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False
        self._lock = threading.Lock()

    def connect(self) -> str:
        """Connect; what ssh says where it cannot."""
        master = ["ssh", *self._options, "-o", "ControlMaster=yes", "-o", "ControlPersist=yes", "-fN", "--", self.host]
        # A file, for the connection stays when ssh has gone, and would keep a pipe open.
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            status = self.wait(self._start(master, output=said))
            said.seek(0)
            lines = said.read().strip().splitlines()
        return "" if status == 0 else (lines or [f"ssh ended with status {status}"])[-1]

    def session(self, command: str) -> subprocess.Popen[str]:
        """Start a command there, with pipes to and from it."""
        return self._start(["ssh", *self._options, "--", self.host, command])

    def copy(self, *paths: Path | str) -> None:
        """Copy files to the last of the paths; a text is a path there.

        Raises:
            _HostError: scp failed.
        """
        named = [f"{self.host}:{path}" if isinstance(path, str) else str(path.resolve()) for path in paths]
        process = self._start(["scp", *self._options, "-q", "--", *named])
        said, _ = process.communicate()
        if self.wait(process):
            raise _HostError((said.strip().splitlines() or ["scp failed"])[-1])

    def wait(self, process: subprocess.Popen[str]) -> int:
        """Wait for what was started to end, and give its status."""
        status = process.wait()
        with self._lock:
            self._running.discard(process)
        return status

    def end(self) -> None:
        """End what still runs, and the connection."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.terminate()
        leave = ["ssh", *self._options, "-O", "exit", "--", self.host]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(leave, capture_output=True, check=False, timeout=10)  # noqa: S603 - ssh

    def _start(self, command: list[str], output: IO[str] | int = subprocess.PIPE) -> subprocess.Popen[str]:
        with self._lock:
            if self._ended:
                raise _HostError("stopped")
            process = subprocess.Popen(  # noqa: S603 - ssh or scp
                command,
                stdin=subprocess.PIPE if output == subprocess.PIPE else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            self._running.add(process)
            return process


class _Session:
    """A run of ``deploy.sh`` on a host."""

    def __init__(self, link: _Link, folder: Path, told: Callable[[str], None]) -> None:
        self._link, self._folder, self._told = link, folder, told
        self._said: deque[str] = deque(maxlen=_KEPT)
        self._step = "connect"

    def run(self, parcel: Parcel) -> Outcome:
        """Bring the parcel; what fails is told in the outcome."""
        script = files("fer_edge_device").joinpath("deploy.sh").read_text(encoding="utf-8")
        process = self._link.session(shlex.join(["sh", "-c", script, "deploy.sh", parcel.wheel.name]))
        marks: dict[str, str] = {}
        try:
            marks = self._marks(process, parcel)
        except FerEdgeError as error:
            self._said.append(str(error))
        finally:
            # The end of its input is what ends the script, wherever it is.
            with contextlib.suppress(BrokenPipeError):
                process.communicate()
            status = self._link.wait(process)
        if status == _SSH_FAILED:
            self._said.append("the connection was lost")
        measured = None
        try:
            measured = msgspec.json.decode(marks.get("bench", "null"), type=Measured | None)
        except msgspec.DecodeError as error:
            marks.pop("done", None)
            self._said.append(f"what was measured cannot be read ({error})")
        well = "done" in marks
        return Outcome(
            self._link.host,
            version=marks.get("version", ""),
            failed="" if well else self._step,
            said=() if well else tuple(self._said),
            measured=measured,
        )

    def _marks(self, process: subprocess.Popen[str], parcel: Parcel) -> dict[str, str]:
        """Follow the script to its end, and give what it told."""
        marks: dict[str, str] = {}
        if process.stdin is None or process.stdout is None:  # which they never are: they are pipes
            return marks
        for line in process.stdout:
            if not line.startswith(_MARK):
                self._said.append(line.rstrip())
                continue
            mark, _, rest = line.removeprefix(_MARK).strip().partition(" ")
            marks[mark] = rest
            if mark == "step":
                self._said.clear()
                self._step = rest
                self._told(rest)
            elif mark == "back":
                self._told("take it back")
            elif mark == "folder":
                self._told("copy")
                process.stdin.write(f"{self._copy(rest, parcel)}\n")
                process.stdin.flush()
        return marks

    def _copy(self, there: str, parcel: Parcel) -> str:
        """Copy everything into the folder there; which model to measure."""
        self._step = "copy"
        text, placed = parcel.config, list(parcel.placed)
        if text is None and parcel.model is not None:
            host_config = self._folder / "config.host"
            self._link.copy(f"{there}/config.host", host_config)
            where = f"{self._link.host}:{_CONFIG}"
            text = fitted(host_config.read_text(encoding="utf-8") or example(), where, model=parcel.model)
        if text is not None:
            config = self._folder / "config.toml"
            config.write_text(text, encoding="utf-8")
            placed.append(Placed("config.toml", config, _CONFIG, "0640", "video"))
        listed = self._folder / "files"
        listed.write_text("".join(f"{one.name} {one.mode} {one.group} {one.target}\n" for one in placed))
        self._link.copy(parcel.wheel, listed, f"{there}/")
        for one in placed:
            self._link.copy(one.source, f"{there}/{one.name}")
        return convert(parse(text, _CONFIG), Config, _CONFIG).model if text is not None else "edge"
