"""Install, upgrade and uninstall the service: the steps of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError
from fer_edge.utils.system import this_program
from fer_edge_device.config.load import load_config
from fer_edge_device.install.config_steps import config_steps, password_steps
from fer_edge_device.install.models import cleaning_step, model_steps, self_test_step
from fer_edge_device.install.paths import CONFIG_FOLDER, HOME, PASSWORD, UNIT_FOLDER, config_path, state_folders
from fer_edge_device.install.program_source import own_program_source
from fer_edge_device.install.systemd_units import (
    TEMPLATE,
    UNIT,
    enabled_units,
    running_units,
    service_units,
    unit_name,
    unit_state,
)
from fer_edge_device.install.transaction import Step, link_step, removal_step
from fer_edge_device.install.unit_steps import (
    command_removal,
    command_steps,
    disable_step,
    enable_step,
    is_ready,
    restart_step,
    start_step,
    stop_steps,
    unit_file_removal,
    unit_file_steps,
)
from fer_edge_device.install.venvs import Venvs

if TYPE_CHECKING:
    from fer_edge_device.install.host import Host
    from fer_edge_device.install.options import InstallOptions
    from fer_edge_device.install.program_source import ProgramSource

_PACKAGED: Final = (
    "fer-edge is installed here as a Debian package; install another version with:"
    " sudo apt install ./fer-edge_VERSION_ARCHITECTURE.deb"
)


def install_steps(host: Host, options: InstallOptions, source: ProgramSource | None = None) -> list[Step]:
    """Return the steps that install and start the service; none if it already runs as requested.

    An installed program that works stays, unless ``options.replace`` is set; see also `upgrade_steps`.

    Args:
        host: the host to change.
        options: the requested service.
        source: where the program is installed from; None means where the running program came from.

    Raises:
        InputError: an option is wrong, or contradicts what is installed.
    """
    host.require_systemd()
    unit = unit_name(options.instance)
    venvs = Venvs(host)
    old = venvs.current()
    problem = venvs.problem(old) if old else ""
    packaged = venvs.is_packaged()
    if packaged and (problem or source is not None):
        raise InputError(f"{problem}{'; ' * bool(problem)}{_PACKAGED}")
    is_other = old is not None and not problem and source is not None and not venvs.is_from(old, source)
    if is_other and source is not None and not options.replace:
        raise InputError(f"another program than {source.requirement} is installed; replace it with: service upgrade")
    is_new = old is None or bool(problem) or (options.replace and is_other)
    venv = venvs.next_path() if old is None or is_new else old
    program_steps = venvs.steps(venv, source or own_program_source(), problem) if is_new else []
    config, model = config_steps(host, options), model_steps(host, options.model)
    if options.config is not None and (config or model):  # before the service stops
        model.append(self_test_step(host, venv, load_config(options.config, {}).model))
    changes = [*config, *password_steps(host, options)]
    if not packaged:
        changes += [*link_step(venvs.link, Path("venvs") / venv.name), *unit_file_steps(host, venv)]
    if unit not in enabled_units(host):
        changes.append(enable_step(host, unit))
    command = [] if packaged else command_steps(host, venvs)
    was_ready = is_ready(host, unit)
    if was_ready and not program_steps and not model and not changes:
        return command
    running = running_units(host, service_units(host)) if options.replace or problem else [unit] * was_ready
    return [
        *program_steps,
        *model,
        *stop_steps(host, running),
        *changes,
        *command,
        start_step(host, unit),
        *(restart_step(host, each) for each in running if each != unit),
        *(_remove_venvs_except(venvs, old, venv) if is_new else []),
        *([cleaning_step(host)] if model and options.config is not None else []),
    ]


def upgrade_steps(host: Host, source: ProgramSource) -> list[Step]:
    """Return the steps that install another program beside the old one, which comes back if the new one fails.

    A unit that is not ready now does not have to become ready.

    Raises:
        InputError: the service is not installed, or came with the Debian package.
    """
    host.require_systemd()
    venvs = Venvs(host)
    old = venvs.current()
    if venvs.is_packaged():
        raise InputError(_PACKAGED)
    if old is None:
        raise InputError(f"the service is not installed; run: sudo {this_program()} service install")
    problem = venvs.problem(old)
    if not problem and venvs.is_from(old, source):
        return []
    new = venvs.next_path()
    units = running_units(host, service_units(host))
    return [
        *venvs.steps(new, source, problem),
        *stop_steps(host, units),
        *link_step(venvs.link, Path("venvs") / new.name),
        *unit_file_steps(host, new),
        *command_steps(host, venvs),
        *(restart_step(host, unit) for unit in units),
        *_remove_venvs_except(venvs, old, new),
    ]


def uninstall_steps(host: Host, instance: str | None, *, purge: bool) -> list[Step]:
    """Return the steps that remove the service; none if it is not installed.

    Args:
        host: the host to change.
        instance: the camera whose unit is removed; None removes all units.
        purge: whether to remove also the programs, configurations, the password and waiting events.

    Raises:
        InputError: all of a service is to be removed that came with the Debian package.
    """
    host.require_systemd()
    packaged = Venvs(host).is_packaged()
    if packaged and instance is None:
        raise InputError(
            "fer-edge is installed here as a Debian package; remove it with: sudo apt remove fer-edge, or with its"
            " configuration and events: sudo apt purge fer-edge"
        )
    wanted = unit_name(instance)
    enabled = enabled_units(host)
    units = service_units(host)
    removed_units = units if instance is None else [unit for unit in units if unit == wanted]
    steps = []
    for unit in removed_units:
        if unit_state(host, unit).active != "inactive":
            steps += stop_steps(host, [unit])
        if unit in enabled:
            steps.append(disable_step(host, unit))
    is_last = removed_units == units and not packaged
    if is_last:
        steps += [*command_removal(host, Venvs(host)), *unit_file_removal(host)]
    removed: list[Path] = []
    if purge and is_last:
        removed += [host.root / HOME, host.root / PASSWORD]
        removed += [host.root / UNIT_FOLDER / f"{name}.d" for name in (UNIT, TEMPLATE)]
    if purge and instance is None:
        removed += [host.root / CONFIG_FOLDER, *state_folders(host, "fer-edge", "fer-edge@*")]
    elif purge:
        removed += [config_path(host, instance), *state_folders(host, f"fer-edge@{instance}")]
    steps += [step for path in removed for step in removal_step(path)]
    return [*steps, *_credential_folder_removal(host)] if purge and is_last else steps


def _credential_folder_removal(host: Host) -> list[Step]:
    """Return the step that removes the password's folder, if nothing else is in it and systemd does not make it."""
    folder = (host.root / PASSWORD).parent
    is_systemds = (host.root / "usr/lib/tmpfiles.d/credstore.conf").exists()  # since Debian 13
    if is_systemds or list(folder.glob("*")) != [host.root / PASSWORD]:
        return []
    return [Step(f"remove {folder}", folder.rmdir, None)]


def _remove_venvs_except(venvs: Venvs, *kept: Path | None) -> list[Step]:
    return [step for venv in venvs.all() if venv not in kept for step in removal_step(venv)]
