"""Give the cameras of a host another classifier, or the one that they had before. The program stays.

A camera that runs takes the model without a restart. Until then, its configuration names the old one, whose file stays.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError, ServiceError
from fer_edge.model_zoo import find_model
from fer_edge.utils.bounded_file import read_bytes, read_text
from fer_edge.utils.limits import MODEL_BYTES
from fer_edge.utils.system import this_program
from fer_edge_device.config.edit import edit_config
from fer_edge_device.config.load import load_config
from fer_edge_device.install.models import (
    DIGITS,
    ModelChange,
    cleaning_step,
    file_on,
    installed_name,
    installed_value,
    last_changes,
    model_steps,
    record_steps,
    self_test_step,
)
from fer_edge_device.install.paths import config_path
from fer_edge_device.install.systemd_units import UNIT, service_units, unit_name, unit_state
from fer_edge_device.install.transaction import Step, restorer, rewrite
from fer_edge_device.install.unit_steps import is_ready
from fer_edge_device.install.venvs import Venvs
from fer_edge_device.sd_notify import RELOAD_FAILED

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_device.install.host import Host

_TIMEOUT: Final = 90.0  # seconds for a runner to load a model; as long as it may take to start
_POLL: Final = 0.2


def change_steps(host: Host, model: Path, instance: str | None = None) -> list[Step]:
    """Return the steps that give cameras a model; none if they have it.

    Args:
        host: the host to change.
        model: a ``.tflite`` file, or the name of a shipped model.
        instance: the name of the camera; None means every camera.

    Raises:
        InputError: the service is not installed, the model cannot be read, or it lacks a signature that this host
            requires.
    """
    configs, venv = _configs(host, instance), _venv(host)
    found = find_model(model)
    is_file = found == model
    content = read_bytes(found, MODEL_BYTES, InputError)
    value = installed_value(installed_name(model, content)) if is_file else str(model)
    changes = {name: change for name in configs if (change := _change(configs[name], value)) is not None}
    if not changes:
        return []
    return [
        *model_steps(host, model if is_file else None),
        self_test_step(host, venv, value),
        *record_steps(host, changes),
        *(_switch_step(host, name, value, hashlib.sha256(content).hexdigest()) for name in changes),
        cleaning_step(host),
    ]


def back_steps(host: Host, instance: str | None = None) -> list[Step]:
    """Return the steps that give cameras the model that they had before the last change; none if they have it.

    Args:
        host: the host to change.
        instance: the name of the camera; None means every camera whose model was changed.

    Raises:
        InputError: the service is not installed, no model was changed, or a configuration was edited since.
    """
    configs, venv = _configs(host, instance), _venv(host)
    known = {name: change for name, change in last_changes(host).items() if name in configs}
    if not known:
        raise InputError(f"no model was changed on this host; to choose one: sudo {this_program()} service model MODEL")
    steps: list[Step] = []
    for name, change in known.items():
        now = load_config(configs[name], {}).model
        if now == change.before:
            continue
        if now != change.after:
            raise InputError(
                f"{configs[name]}: model was edited and is {now} now, not {change.after}; to choose one:"
                f" sudo {this_program()} service model {change.before}"
            )
        path = find_model(file_on(host, change.before))
        digest = hashlib.sha256(read_bytes(path, MODEL_BYTES, InputError)).hexdigest()
        steps += [self_test_step(host, venv, change.before), _switch_step(host, name, change.before, digest)]
    return steps


def _configs(host: Host, instance: str | None) -> dict[str, Path]:
    """Return the configurations of the cameras, by their names.

    Raises:
        InputError: there is none.
    """
    host.require_systemd()
    units = service_units(host) or [UNIT]
    wanted = units if instance is None else [unit_name(instance)]
    paths = [config_path(host, unit.removesuffix(".service").partition("@")[2] or None) for unit in wanted]
    found = {path.stem: path for path in paths if path.is_file()}
    if not found:
        raise InputError(
            f"{paths[0]}: no such configuration; install the service first: sudo {this_program()} service install"
        )
    return found


def _venv(host: Host) -> Path:
    venv = Venvs(host).current()
    if venv is None:
        raise InputError(f"the service is not installed; run: sudo {this_program()} service install")
    return venv


def _change(config: Path, value: str) -> ModelChange | None:
    now = load_config(config, {}).model
    return None if now == value else ModelChange(now, value)


def _switch_step(host: Host, name: str, value: str, sha256: str) -> Step:
    """Return the step that writes a model into a configuration, and lets the camera's runner take it."""
    path = config_path(host, None if name == "config" else name)
    unit = unit_name(None if name == "config" else name)
    text = edit_config(read_text(path), str(path), model=value)
    status, restore = path.stat(), restorer(path)
    was_ready = is_ready(host, unit)
    is_stopped = unit_state(host, unit).active in {"inactive", "failed"}

    def do() -> None:
        rewrite(path, text.encode(), status)
        if was_ready:
            before = unit_state(host, unit).status
            host.run("systemctl", "reload", unit)
            _wait_for_model(host, unit, sha256, before)
        elif not is_stopped:  # it waits for its camera, and never was ready with the old model either
            host.run("systemctl", "restart", "--no-block", unit)

    def undo() -> None:
        restore()
        if not is_stopped:
            host.run("systemctl", "reload-or-restart", "--no-block", unit)

    when = "without a restart" if was_ready else "when it starts" if is_stopped else "by a restart"
    return Step(f"let {unit} take {value}, {when}", do, undo)


def _wait_for_model(host: Host, unit: str, sha256: str, status_before: str) -> None:
    """Wait until a unit reports that it runs a model.

    Raises:
        ServiceError: it has refused its configuration, or reports nothing for too long.
    """
    deadline = time.monotonic() + _TIMEOUT
    while True:
        state = unit_state(host, unit)
        if state.active == "active" and state.status.endswith(f"-{sha256[:DIGITS]}"):
            return
        if state.status != status_before and state.status.startswith(RELOAD_FAILED):
            raise ServiceError(f"{unit}: {state.status}")
        if time.monotonic() >= deadline:
            raise ServiceError(f"{unit} did not take the model within {_TIMEOUT:.0f} s; see: journalctl -u {unit}")
        time.sleep(_POLL)
