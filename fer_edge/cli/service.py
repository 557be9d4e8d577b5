"""`fer-edge service`: install, upgrade and remove the systemd service, and change its model."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_edge.cli.completion import complete_classifier
from fer_edge.cli.options import CLASSIFIER_HELP
from fer_edge.errors import InputError
from fer_edge.utils.system import this_program
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fer_edge_device.install.host import Host
    from fer_edge_device.install.program_source import ProgramSource
    from fer_edge_device.install.transaction import Step

app = typer.Typer(name="service")


From = Annotated[
    Path | None,
    typer.Option("--from", "--wheel", help="A wheel or a clone to install; by default what runs this command."),
]


Instance = Annotated[str | None, typer.Option(help="Name of the camera, on a host with several.")]


DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]


@app.callback()
def service() -> None:
    """Run fer-edge as a systemd service.

    \b
    Example: fer-edge service status
    """


@app.command()
def install(
    config: Annotated[Path | None, typer.Option(help="Configuration to install.")] = None,
    camera: Annotated[str | None, typer.Option(help="Source, as for run, for a new configuration.")] = None,
    mqtt: Annotated[str | None, typer.Option(help="Broker for a new configuration: mqtt://[user@]host.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="File with the broker's password.")] = None,
    instance: Instance = None,
    origin: From = None,
    dry_run: DryRun = False,
) -> None:
    """Install, start and wait for the first frame.

    Keeps what is installed already. When a step fails, all steps are undone.

    \b
    Example: sudo fer-edge service install --camera /dev/video0 --mqtt mqtt://broker.local
    """
    from fer_edge_device.config.load import load_config
    from fer_edge_device.install.installer import install_steps
    from fer_edge_device.install.options import InstallOptions
    from fer_edge_device.install.paths import config_path
    from fer_edge_device.install.systemd_units import first_message, last_lines, unit_name

    options = InstallOptions(config=config, camera=camera, mqtt=mqtt, password_file=password_file, instance=instance)
    unit = unit_name(instance)
    with host_to_change(dry_run=dry_run) as host:
        steps = install_steps(host, options, None if origin is None else _origin(origin))
        _apply(steps, f"{unit} is installed and runs", dry_run=dry_run)
    if dry_run or not steps:
        return
    if load_config(config_path(host, instance), {}).mqtt.url:
        print("\n".join(last_lines(host, unit)))
    else:
        print(f"first message: {first_message(host, unit) or 'none yet; see journalctl -u ' + unit}")


@app.command()
def upgrade(origin: From = None, dry_run: DryRun = False) -> None:
    """Replace the installed program, and keep the old one.

    If the new one does not become ready, the old one runs again.

    \b
    Example: sudo fer-edge service upgrade --from fer_edge-0.2.0-py3-none-any.whl
    """
    from fer_edge_device.install.installer import upgrade_steps

    with host_to_change(dry_run=dry_run) as host:
        _apply(upgrade_steps(host, _origin(origin)), "that is what is installed", dry_run=dry_run)


@app.command("model")
def change_model(
    model: Annotated[
        Path | None,
        typer.Argument(help=CLASSIFIER_HELP, autocompletion=complete_classifier),
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="Take the model from before the last change.")] = False,
    instance: Instance = None,
    dry_run: DryRun = False,
) -> None:
    """Give the cameras another model, without a restart, or the one that they had before.

    The model is tested on this machine first; one that does not give the outputs on its card is not used. All cameras
    of the host get it, or the one that --instance names.

    \b
    Example: sudo fer-edge service model mine.tflite
    Example: sudo fer-edge service model --back
    """
    from fer_edge_device.install.model_switch import back_steps, change_steps

    if (model is None) != back:
        raise InputError("give a model, or --back for the one that was used before")
    with host_to_change(dry_run=dry_run) as host:
        steps = back_steps(host, instance) if model is None else change_steps(host, model, instance)
        _apply(steps, "that is the model in use", dry_run=dry_run)


@app.command()
def uninstall(
    instance: Instance = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also remove programs, configurations, password and queued events.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Stop the service and remove it.

    \b
    Example: sudo fer-edge service uninstall --purge
    """
    from fer_edge_device.install.installer import uninstall_steps

    with host_to_change(dry_run=dry_run) as host:
        _apply(uninstall_steps(host, instance, purge=purge), "it is not installed", dry_run=dry_run)


@app.command()
def status() -> None:
    """Show the state of the service; exit status 1 unless every camera's unit runs.

    \b
    Example: fer-edge service status
    """
    from fer_edge_device.install.host import Host
    from fer_edge_device.install.models import last_changes
    from fer_edge_device.install.systemd_units import last_lines, service_units, unit_state
    from fer_edge_device.install.venvs import PREVIOUS, Venvs, version_in

    host = Host()
    host.require_systemd()
    venvs = Venvs(host)
    venv = venvs.current()
    units = service_units(host)
    if venv is None or not units:
        raise InputError(f"the service is not installed; run: sudo {this_program()} service install")
    print(f"fer-edge {version_in(venv)} in {venv}")
    if venv.name == PREVIOUS:
        print("this is the previous version: that of the installed package did not become ready")
    if problem := venvs.problem(venv):
        print(f"{problem}; to repair it: sudo {this_program()} service upgrade")
    states = [unit_state(host, unit) for unit in units]
    for state in states:
        print(f"{state.name}: {state.active} ({state.sub}) since {state.since}, {counted(state.restarts, 'restart')}")
        for line in [state.status] * bool(state.status) + last_lines(host, state.name):
            print(f"  {line}")
    for name, change in last_changes(host).items():
        print(f"{name}.toml: the model was changed last from {change.before} to {change.after}")
    if any(state.active not in {"active", "reloading"} for state in states):
        raise typer.Exit(1)


@contextmanager
def host_to_change(*, dry_run: bool) -> Iterator[Host]:
    """Yield this host, locked against other changes; without root and lock for a dry run.

    Raises:
        InputError: this process does not run as root.
        ServiceError: another process is changing the host.
    """
    from fer_edge_device.install.host import Host, is_root

    host = Host()
    if dry_run:
        yield host
        return
    if not is_root():
        raise InputError(f"this changes the system; run it as root: sudo {this_program()} service ...")
    os.umask(0o022)  # the service's user must be able to read what root's umask would hide
    with host.locked():
        yield host


def _origin(path: Path | None) -> ProgramSource:
    from fer_edge_device.install.program_source import own_program_source, program_source

    return own_program_source() if path is None else program_source(path)


def _apply(steps: Sequence[Step], nothing: str, *, dry_run: bool) -> None:
    from fer_edge_device.install.transaction import apply

    if not steps:
        print(f"nothing to do: {nothing}")
    elif dry_run:
        print("\n".join(f"would {step.description}" for step in steps))
    else:
        apply(steps, lambda line: print(line, flush=True))
