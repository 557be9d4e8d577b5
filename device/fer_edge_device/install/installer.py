"""Putting the service on a machine, renewing it and taking it away: what each takes, as steps."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError
from fer_edge.utils.system import this_program
from fer_edge.utils.toml import parse_toml, to_struct
from fer_edge_device.config.edit import fitted
from fer_edge_device.config.load import holds_password, load_config
from fer_edge_device.config.render import example
from fer_edge_device.config.settings import NODE_NAME, PATHS, Config
from fer_edge_device.install.systemd_units import (
    TEMPLATE,
    UNIT,
    UNIT_FOLDER,
    Machine,
    enabled_units,
    start,
    unit_name,
    unit_state,
)
from fer_edge_device.install.transaction import (
    Step,
    file_step,
    folder_step,
    link_removal_step,
    link_step,
    removal_step,
    restoration,
    write_file,
)
from fer_edge_device.install.venvs import HOME, Origin, Venvs, own_origin, units_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONFIG_FOLDER: Final = "etc/fer-edge"
MODEL_FOLDER: Final = "etc/fer-edge/models"
PASSWORD: Final = "etc/credstore/fer-edge.mqtt-password"  # noqa: S105 - where it is kept
_COMMAND: Final = "usr/local/bin/fer-edge"
_STATE_FOLDER: Final = "var/lib"
_UNAWAITED: Final = "start --no-block"  # what was not ready before, its camera unplugged, say, keeps nothing back
_NO_PATHS: Final = {"model": r"[^/.]+", "camera.source": r"auto|demo|picamera2(:[0-9]+)?|[0-9]+|[\w+.-]+://.*"}
_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - what the unit hides from the service


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a user wants of the service.

    Attributes:
        config: a configuration file to install; less its ``mqtt.password_file`` where there is a `password_file`.
        camera: its source, for a configuration that is made.
        mqtt: address of the broker, likewise.
        password_file: file with the broker's password.
        instance: name of the camera, where there are several.
        model: a model file to put beside the configuration, which names it.
        replace: whether what is wished takes the place of another program and configuration that are there.
    """

    config: Path | None = None
    camera: str | None = None
    mqtt: str | None = None
    password_file: Path | None = None
    instance: str | None = None
    model: Path | None = None
    replace: bool = False


def model_path(machine: Machine, model: Path) -> Path:
    """Where a model file is put."""
    return machine.root / MODEL_FOLDER / model.name


def config_path(machine: Machine, instance: str | None) -> Path:
    """Where the configuration of a camera is."""
    return machine.root / CONFIG_FOLDER / f"{instance or 'config'}.toml"


def install_steps(machine: Machine, wishes: Wishes, origin: Origin | None = None) -> list[Step]:
    """What is missing for the service to run as wished; nothing, when it does.

    A program that is there and runs stays, unless it is to be replaced: see `upgrade_steps`.

    Args:
        machine: where.
        wishes: what is wanted.
        origin: of the program; None takes what runs now, if one has to be installed.

    Raises:
        InputError: a wish cannot be met, or contradicts what is there.
    """
    machine.need_systemd()
    unit = unit_name(wishes.instance)
    venvs = Venvs(machine)
    old = venvs.current()
    trouble = venvs.trouble(old) if old else ""
    is_other = old is not None and not trouble and origin is not None and not venvs.is_from(old, origin)
    if is_other and origin is not None and not wishes.replace:
        raise InputError(f"another program is installed than {origin.requirement}; to replace it: service upgrade")
    is_new = old is None or bool(trouble) or (wishes.replace and is_other)
    venv = venvs.next_path() if old is None or is_new else old
    program = venvs.steps(venv, origin or own_origin(), trouble) if is_new else []
    changes = [
        *_config_steps(machine, wishes),
        *_model_steps(machine, wishes),
        *_password_steps(machine, wishes),
        *link_step(venvs.link, Path("venvs") / venv.name),
        *_unit_steps(machine, venv),
    ]
    if unit not in enabled_units(machine):
        changes.append(_systemctl("enable", "disable", machine, unit))
    command = _command_steps(machine, venvs)
    active = _is_ready(machine, unit)
    if active and not program and not changes:
        return command
    running = _running(machine, units_there(machine)) if wishes.replace or trouble else [unit] * active
    return [
        *program,
        *_stop_steps(machine, running),
        *changes,
        *command,
        _start_step(machine, unit),
        *(_start_again_step(machine, each) for each in running if each != unit),
        *(_removal_of_others(venvs, old, venv) if is_new else []),
    ]


def upgrade_steps(machine: Machine, origin: Origin) -> list[Step]:
    """What it takes to run another program: beside the old one, which is gone back to if the new one does not run.

    A unit that is not ready now need not become so.

    Raises:
        InputError: the service is not installed.
    """
    machine.need_systemd()
    venvs = Venvs(machine)
    old = venvs.current()
    if old is None:
        raise InputError(f"the service is not installed; run: sudo {this_program()} service install")
    trouble = venvs.trouble(old)
    if not trouble and venvs.is_from(old, origin):
        return []
    new = venvs.next_path()
    units = _running(machine, units_there(machine))
    return [
        *venvs.steps(new, origin, trouble),
        *_stop_steps(machine, units),
        *link_step(venvs.link, Path("venvs") / new.name),
        *_unit_steps(machine, new),
        *_command_steps(machine, venvs),
        *(_start_again_step(machine, unit) for unit in units),
        *_removal_of_others(venvs, old, new),
    ]


def units_there(machine: Machine) -> list[str]:
    """The units that start at boot, and those of a configuration that run all the same."""
    names = [path.stem for path in (machine.root / CONFIG_FOLDER).glob("*.toml")]
    configured = [unit_name(None if name == "config" else name) for name in names if re.fullmatch(NODE_NAME, name)]
    return sorted({*enabled_units(machine), *_running(machine, configured)})


def _running(machine: Machine, units: Sequence[str]) -> list[str]:
    """Those that nobody has stopped: what waits for its restart is among them."""
    return [unit for unit in units if unit_state(machine, unit).active != "inactive"]


def _is_ready(machine: Machine, unit: str) -> bool:
    return unit_state(machine, unit).active in {"active", "reloading"}


def _removal_of_others(venvs: Venvs, *kept: Path | None) -> list[Step]:
    return [step for venv in venvs.all() if venv not in kept for step in removal_step(venv)]


def uninstall_steps(machine: Machine, instance: str | None, *, purge: bool) -> list[Step]:
    """What it takes to be rid of the service; nothing, when it is not there.

    Args:
        machine: where it is.
        instance: one camera of several; without, all of them.
        purge: also the programs, configurations, the password and events that wait for the broker.
    """
    machine.need_systemd()
    wanted = unit_name(instance)
    enabled = enabled_units(machine)
    there = units_there(machine)
    going = there if instance is None else [unit for unit in there if unit == wanted]
    steps = []
    for unit in going:
        if unit_state(machine, unit).active != "inactive":
            steps += _stop_steps(machine, [unit])
        if unit in enabled:
            steps.append(_systemctl("disable", "enable", machine, unit))
    is_last = going == there
    folder = machine.root / UNIT_FOLDER
    files = [folder / name for name in (UNIT, TEMPLATE) if (folder / name).exists()]
    if is_last and _is_our_command(machine, Venvs(machine)):
        steps.append(link_removal_step(machine.root / _COMMAND))
    if is_last and files:
        steps.append(_unit_removal(machine, files))
    removed: list[Path] = []
    if purge and is_last:
        removed += [machine.root / HOME, machine.root / PASSWORD]
        removed += [folder / f"{name}.d" for name in (UNIT, TEMPLATE)]
    if purge and instance is None:
        removed += [machine.root / CONFIG_FOLDER, *_state_folders(machine, "fer-edge", "fer-edge@*")]
    elif purge:
        removed += [config_path(machine, instance), *_state_folders(machine, f"fer-edge@{instance}")]
    return [*steps, *(step for path in removed for step in removal_step(path))]


def _state_folders(machine: Machine, *names: str) -> list[Path]:
    """Of a user that exists only while the service runs: a link, and the folder itself under ``private``."""
    folder = machine.root / _STATE_FOLDER
    return [path for parent in (folder, folder / "private") for name in names for path in sorted(parent.glob(name))]


def _config_steps(machine: Machine, wishes: Wishes) -> list[Step]:
    path = config_path(machine, wishes.instance)
    if wishes.config is not None and (wishes.camera is not None or wishes.mqtt is not None):
        raise InputError("--config goes without --camera and --mqtt: write them into the file")
    if wishes.mqtt is not None and holds_password(wishes.mqtt):
        raise InputError("--mqtt: no password in the address, everybody could see it; use --password-file")
    if wishes.camera is not None and holds_password(wishes.camera):
        raise InputError(
            "--camera: no password in the address, everybody could see it;"
            " write it as camera.source into a file, and give that with --config"
        )
    before = path.read_bytes() if path.is_file() else None
    if before is not None and not (wishes.replace and wishes.config):
        _check_same(path, wishes)
        return []
    if wishes.config is None:
        text = _with_values(example(), wishes)
        config = to_struct(parse_toml(text, "options"), Config, "options")
    else:
        text = _given_text(wishes.config, wishes)
        config = to_struct(parse_toml(text, str(wishes.config)), Config, str(wishes.config))
    _check_paths(config, wishes.instance)

    if text.encode() == before:
        return []

    def write() -> None:
        # For who may open cameras anyway: the address of a camera may hold its password.
        write_file(path, text.encode(), 0o640)
        machine.run("chgrp", "video", str(path))

    return [*folder_step(path.parent), Step(f"write {path}", write, restoration(path))]


def _given_text(path: Path, wishes: Wishes) -> str:
    """The text of a configuration that is given, in which no other password goes before the one that is given."""
    own = load_config(path, {}).mqtt.password_file  # tells what is wrong with it
    text = path.read_text("utf-8")
    return fitted(text, str(path), model=None, without_password_file=True) if own and wishes.password_file else text


def _model_steps(machine: Machine, wishes: Wishes) -> list[Step]:
    if wishes.model is None:
        return []
    path = model_path(machine, wishes.model)
    return [*folder_step(path.parent), *file_step(path, wishes.model.read_bytes())]


def _with_values(text: str, wishes: Wishes) -> str:
    """The example with the wished values set; each of its lines ``# key = default`` is unmarked once."""
    for section, key, value in (("camera", "source", wishes.camera), ("mqtt", "url", wishes.mqtt)):
        if value is not None:
            before, header, after = text.partition(f"[{section}]\n")
            lines = after.split("\n")
            at = next(at for at, line in enumerate(lines) if line.startswith(f"# {key} = "))
            lines[at] = f"{key} = {json.dumps(value)}"
            text = before + header + "\n".join(lines)
    return text


def _check_same(path: Path, wishes: Wishes) -> None:
    """A configuration that is there is its owner's: what is wished must be in it."""
    there = load_config(path, {})
    _check_paths(there, wishes.instance)
    given = None if wishes.config is None else _given_text(wishes.config, wishes)
    for option, key, differs in (
        ("--config", "content", given is not None and given != path.read_text("utf-8")),
        ("--password-file", "mqtt.password_file", wishes.password_file is not None and there.mqtt.password_file != ""),
        ("--camera", "camera.source", wishes.camera is not None and wishes.camera != there.camera.source),
        ("--mqtt", "mqtt.url", wishes.mqtt is not None and wishes.mqtt != there.mqtt.url),
    ):
        if differs:
            raise InputError(
                f"{path} is there and has another {key} than {option} gives; it is never overwritten: change it"
                " there, then run: sudo systemctl reload-or-restart 'fer-edge*'"
            )


def _check_paths(config: Config, instance: str | None) -> None:
    """The service runs in /, sees no home folders and a /tmp of its own, and writes into its state folder alone."""
    state = Path("/", _STATE_FOLDER, unit_name(instance).removesuffix(".service"))
    if config.outbox.path and not Path(config.outbox.path).is_relative_to(state):
        raise InputError(f"outbox.path {config.outbox.path!r}: the service writes into {state} alone; leave it out")
    for key in PATHS:
        value: str = attrgetter(key)(config)
        if re.fullmatch(_NO_PATHS.get(key, ""), value):
            continue
        if not value.startswith("/"):
            advice = "give the file with --password-file" if key == "mqtt.password_file" else "give the whole path"
            raise InputError(f"{key} {value!r}: the service looks for it in /, not here; {advice}")
        if any(Path(value).is_relative_to(folder) for folder in _HIDDEN):
            raise InputError(f"{value}: the service sees nothing of that folder; put it under /srv, say")


def _password_steps(machine: Machine, wishes: Wishes) -> list[Step]:
    if wishes.password_file is None:
        return []
    try:
        password = wishes.password_file.read_bytes()
    except OSError as error:
        raise InputError(f"{wishes.password_file}: cannot be read ({error.strerror})") from error
    if not password.strip():
        raise InputError(f"{wishes.password_file}: there is no password in it")
    path = machine.root / PASSWORD
    return [*folder_step(path.parent, 0o700), *file_step(path, password, 0o600)]


def _command_steps(machine: Machine, venvs: Venvs) -> list[Step]:
    """Have ``fer-edge`` found by everybody, unless something of that name is there already."""
    link = machine.root / _COMMAND
    if link.is_symlink() or link.exists():
        return []
    return [*folder_step(link.parent), *link_step(link, venvs.program)]


def _is_our_command(machine: Machine, venvs: Venvs) -> bool:
    link = machine.root / _COMMAND
    return link.is_symlink() and link.readlink() == venvs.program


def _unit_steps(machine: Machine, venv: Path) -> list[Step]:
    """The units of the program in an environment, which need not be there yet."""
    paths = [machine.root / UNIT_FOLDER / name for name in (UNIT, TEMPLATE)]
    for path in paths:
        if path.is_symlink():
            raise InputError(
                f"{path} is a link, as `systemctl mask` makes them; remove it (systemctl unmask {path.name})"
            )
    if venv.exists() and all(
        path.is_file() and path.read_bytes() == (units_in(venv) / path.name).read_bytes() for path in paths
    ):
        return []

    def do() -> None:
        for path in paths:
            write_file(path, (units_in(venv) / path.name).read_bytes(), 0o644)
        machine.run("systemctl", "daemon-reload")

    return [Step(f"write {paths[0]} and {TEMPLATE}", do, _unit_restoration(machine, paths))]


def _unit_removal(machine: Machine, paths: Sequence[Path]) -> Step:
    def do() -> None:
        for path in paths:
            path.unlink()
        machine.run("systemctl", "daemon-reload")

    return Step(f"remove {' and '.join(map(str, paths))}", do, _unit_restoration(machine, paths))


def _unit_restoration(machine: Machine, paths: Sequence[Path]) -> Callable[[], None]:
    restorations = [restoration(path) for path in paths]

    def restore() -> None:
        for each in restorations:
            each()
        machine.run("systemctl", "daemon-reload")

    return restore


def _systemctl(verb: str, opposite: str, machine: Machine, unit: str) -> Step:
    return Step(
        f"{verb} {unit}",
        lambda: machine.run("systemctl", *verb.split(), unit),
        lambda: machine.run("systemctl", *opposite.split(), unit),
    )


def _stop_steps(machine: Machine, units: Sequence[str]) -> list[Step]:
    # First of what goes with it, so that it is taken back last: the old service starts from what it was.
    return [_systemctl("stop", "start" if _is_ready(machine, unit) else _UNAWAITED, machine, unit) for unit in units]


def _start_again_step(machine: Machine, unit: str) -> Step:
    return _start_step(machine, unit) if _is_ready(machine, unit) else _systemctl(_UNAWAITED, "stop", machine, unit)


def _start_step(machine: Machine, unit: str) -> Step:
    name = unit.removesuffix(".service")
    before = _state_folders(machine, name)

    def undo() -> None:
        machine.run("systemctl", "stop", unit)
        for path in _state_folders(machine, name):
            for step in removal_step(path) if path not in before else []:
                step.do()

    return Step(f"start {unit} and wait until it is ready", lambda: start(machine, unit), undo)
