"""A scratch host: real files, with fakes of systemd and pip only."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import zipfile
from pathlib import Path

from fer_edge.bench.results import encode_report
from fer_edge.errors import ServiceError
from fer_edge.model_zoo import find_model
from fer_edge_device.config.load import load_config
from fer_edge_device.install.host import Host, run_program
from fer_edge_device.install.models import file_on
from fer_edge_device.install.program_source import ProgramSource, program_source
from fer_edge_device.install.transaction import Step, apply
from tests.reports import make_report

UNITS = Path(__file__).parents[2] / "systemd"


class Pi:
    """A host in a folder, with fakes of systemctl, journalctl, python3 and pip. minisign is real."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.active: set[str] = set()
        self.unplugged: set[str] = set()  # units that never become ready
        self.commands: list[tuple[str, ...]] = []
        self.python = "3 11 True True False"
        self.fails: str | None = None  # a command with this word fails
        self.status: dict[str, str] = {}  # of units
        self.refuses_reload = False
        self.host = Host(root, self.run)
        for folder in ("run/systemd/system", "etc/systemd/system", "opt", "usr/local/bin", "var/lib/private"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    def run(self, *command: str) -> str:  # noqa: C901, PLR0911, PLR0912 - a case for each command
        self.commands.append(command)
        if self.fails and self.fails in command:
            raise ServiceError(f"{command[0]}: no")
        match [Path(command[0]).name, *command[1:]]:
            case ["systemctl", "show", unit, "--property=InvocationID", "--value"]:
                return "1f\n"
            case ["systemctl", "show", unit, *_]:
                active = "inactive"
                if unit in self.active:
                    active = "activating" if unit in self.unplugged else "active"
                text = self.status.get(unit, "")
                return f"Id={unit}\nActiveState={active}\nSubState=x\nNRestarts=0\nStatusText={text}\n"
            case ["systemctl", "enable", unit]:
                wants = self.root / "etc/systemd/system/multi-user.target.wants"
                wants.mkdir(exist_ok=True)
                (wants / unit).symlink_to(f"/etc/systemd/system/{unit}")
            case ["systemctl", "disable", unit]:
                (self.root / "etc/systemd/system/multi-user.target.wants" / unit).unlink()
            case ["systemctl", "start", *options, unit]:
                self.active.add(unit)
                if unit in self.unplugged and "--no-block" not in options:
                    raise ServiceError(f"Job for {unit} failed")
            case ["systemctl", "reload" | "reload-or-restart", *_, unit]:
                self.reload(unit)
            case ["systemctl", "stop", unit]:
                self.active.discard(unit)
            case ["journalctl", *_]:
                return '{"topic":"x"}\nfer-edge: no camera found\n'
            case ["python", "-IBc", _]:
                if not self.packages(Path(command[0]).parents[1]).exists():
                    raise ServiceError("python: ModuleNotFoundError: No module named 'fer_edge_device'")
            case ["python3", "-I", "-c", _]:
                return self.python
            case ["python3", "-I", "-m", "venv", *options, path]:
                (Path(path) / "bin").mkdir(parents=True)
                (Path(path) / "bin/python").touch()
                system_packages = "true" if "--system-site-packages" in options else "false"
                (Path(path) / "pyvenv.cfg").write_text(f"include-system-site-packages = {system_packages}\n")
            case ["python", "-I", "-m", "pip", "install", *_, requirement]:
                self.install(Path(command[0]).parents[1], requirement)
            case ["python", "-IBm", "fer_edge_device.install.self_test", model]:
                return run_program(sys.executable, *command[1:])
            case ["minisign", *_]:
                return run_program(*command)
            case ["fer-edge", "bench", "--json", "--runs", "50", "--starts", "0", model]:
                return encode_report(make_report(model=model)).decode()
        return ""

    def reload(self, unit: str) -> None:
        """Do what a runner does on SIGHUP."""
        if self.refuses_reload:
            self.status[unit] = f"configuration not reloaded at {len(self.commands)}: no such model file"
        else:
            self.status[unit] = f"9.9 frames per second; model some-{self.running_model(unit)[:8]}"

    def running_model(self, unit: str) -> str:
        """Return the hash of the model that the configuration of a unit names."""
        name = unit.removesuffix(".service").partition("@")[2] or "config"
        value = load_config(self.config(name), {}).model
        return hashlib.sha256(find_model(file_on(self.host, value)).read_bytes()).hexdigest()

    def packages(self, venv: Path) -> Path:
        """Return the folder in which the system's Python, at its present version, looks for a venv's packages."""
        return venv / "lib/python{}.{}/site-packages".format(*self.python.split()[:2])

    def install(self, venv: Path, requirement: str) -> None:
        packages = self.packages(venv)
        shutil.copytree(UNITS, packages / "fer_edge_device/units")
        info = packages / "fer_edge-0.1.0.dist-info"
        info.mkdir()
        if match := re.fullmatch(r"fer-edge\[device\] @ (file://(.*\.whl))#sha256=(.*)", requirement):
            url, wheel, sha256 = match.groups()
            assert hashlib.sha256(Path(wheel).read_bytes()).hexdigest() == sha256
            # As pip in Debian 12 writes it; later versions also write hashes.sha256.
            recorded = f'{{"url": "{url}", "archive_info": {{"hash": "sha256={sha256}"}}}}'
            (info / "direct_url.json").write_text(recorded)

    def do(self, steps: list[Step]) -> list[str]:
        output: list[str] = []
        apply(steps, output.append)
        return output

    def files(self) -> dict[str, bytes | None]:
        return {
            str(path.relative_to(self.root)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
            for path in self.root.rglob("*")
        }

    def config(self, name: str = "config") -> Path:
        return self.root / "etc/fer-edge" / f"{name}.toml"


def make_wheel(folder: Path) -> ProgramSource:
    path = folder / "fer_edge-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "1")
    return program_source(path)


def newer(wheel: ProgramSource) -> ProgramSource:
    path = Path(wheel.requirement)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(str(len(archive.namelist())), "2")
    return program_source(path)
