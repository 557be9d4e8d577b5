"""The program that ``fer-edge deploy`` runs as root on a host, from the wheel that it has copied: see ``deploy.sh``.

With a wheel, it needs only msgspec, tomlkit and the standard library, because nothing else is installed on a new host.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fer_edge.bench.results import decode_report
from fer_edge.errors import FerEdgeError, InputError, ServiceError
from fer_edge_device.config.edit import edit_config
from fer_edge_device.config.load import load_config
from fer_edge_device.config.render import example
from fer_edge_device.install.host import Host
from fer_edge_device.install.installer import install_steps, upgrade_steps
from fer_edge_device.install.manifest import MANIFEST, MARK, HostBenchmark, Manifest, MedianAndP95
from fer_edge_device.install.model_switch import back_steps, change_steps
from fer_edge_device.install.options import InstallOptions
from fer_edge_device.install.paths import config_path
from fer_edge_device.install.program_source import program_source
from fer_edge_device.install.systemd_units import UNIT, service_units
from fer_edge_device.install.transaction import apply
from fer_edge_device.install.venvs import Venvs

if TYPE_CHECKING:
    from fer_edge.bench.results import Report, Workload
    from fer_edge_device.install.transaction import Step


def main() -> int:
    """Install what the manifest in a folder asks for; the folder is the only argument. Return the exit status."""
    folder = Path(sys.argv[1])
    try:
        _stop_with_connection()
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        host = Host()
        with host.locked():
            install(host, folder, manifest)
    except (FerEdgeError, OSError, msgspec.DecodeError) as error:
        _print(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def install(host: Host, folder: Path, manifest: Manifest) -> None:
    """Install what a manifest asks for, and measure its speed.

    Raises:
        FerEdgeError: it failed; then the host is as before, unless only the measurement failed.
    """
    steps = steps_for(host, folder, manifest)
    descriptions = {step.description for step in steps}
    apply(steps, lambda line: _print(f"{MARK}{'step' if line in descriptions else 'undo'} {line}"))
    venv = Venvs(host).current()
    if venv is None:
        raise ServiceError("the installed program has disappeared")
    _print(f"{MARK}step measure")
    config = config_path(host, None)
    model = load_config(config, {}).model if config.is_file() else "edge"
    # Enough runs for a rough figure; more would keep a small Pi from its work for minutes.
    output = host.run(str(venv / "bin/fer-edge"), "bench", "--json", "--runs", "50", "--starts", "0", model)
    report = decode_report(output.encode(), "bench")
    benchmark = HostBenchmark(
        machine=report.environment.machine,
        runtime=report.environment.runtime,
        model=report.models[0].path,
        classifier=_latency(report, "classifier"),
        detect=_latency(report, "detect"),
        whole_frame=_latency(report, "whole_frame"),
    )
    _print(f"{MARK}done {msgspec.json.encode(benchmark).decode()}")


def _latency(report: Report, job: Workload) -> MedianAndP95:
    latency = report.latency(job)
    return MedianAndP95(latency.median, latency.p95)


def steps_for(host: Host, folder: Path, manifest: Manifest) -> list[Step]:
    """Return the steps that install what a manifest asks for; none if it is installed.

    Args:
        host: the host to change.
        folder: the folder of the manifest's files.
        manifest: what to install.

    Raises:
        InputError: this host cannot have it.
    """
    if manifest.wheel is None:
        if manifest.model_back or manifest.model is None:
            return back_steps(host)
        return change_steps(host, folder / manifest.model_file if manifest.model_file else Path(manifest.model))
    source = program_source(folder / manifest.wheel)
    units = service_units(host)
    if units and UNIT not in units:
        if manifest.config or manifest.model:
            raise InputError(
                "this host has one unit per camera (fer-edge@...): leave out --config and edit the configurations on"
                " the host; deploy a model by itself, without --wheel"
            )
        return upgrade_steps(host, source)
    config = folder / manifest.config if manifest.config else None
    if manifest.model is not None and config is None:
        own = config_path(host, None)
        if own.is_file():
            text = edit_config(own.read_text("utf-8"), str(own), model=manifest.model)
        else:
            text = example({"model": manifest.model})
        config = folder / "config.toml"
        config.write_text(text, "utf-8")
    options = InstallOptions(
        config=config,
        password_file=folder / manifest.password if manifest.password else None,
        model=folder / manifest.model_file if manifest.model_file else None,
        replace=True,
    )
    return install_steps(host, options, source)


def _print(line: str) -> None:
    with suppress(BrokenPipeError):  # the connection is gone, but the steps must still be undone
        print(line, flush=True)  # noqa: T201 - the deploying machine reads it


def _stop_with_connection() -> None:
    """Interrupt this program when the ssh connection, which is its standard input, ends."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # a process group with everything that this program starts
    signal.signal(signal.SIGINT, _interrupt)
    threading.Thread(target=wait, daemon=True).start()


def _interrupt(*_: object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # only once: undoing must not be interrupted
    os.killpg(0, signal.SIGTERM)  # including pip's child processes
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
