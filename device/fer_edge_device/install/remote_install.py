"""What ``fer-edge deploy`` runs as root on a host, out of the wheel it has brought: see ``deploy.sh``.

It needs msgspec and the standard library alone: there is no more on a host's first day.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.bench.results import decode_report
from fer_edge.errors import FerEdgeError, InputError, ServiceError
from fer_edge_device.config.edit import fitted
from fer_edge_device.config.load import load_config
from fer_edge_device.config.render import example
from fer_edge_device.install.installer import Wishes, config_path, install_steps, units_there, upgrade_steps
from fer_edge_device.install.systemd_units import UNIT, Machine
from fer_edge_device.install.transaction import carry_out
from fer_edge_device.install.venvs import Venvs, origin_at, version_in

if TYPE_CHECKING:
    from fer_edge.bench.results import Report, Workload
    from fer_edge_device.install.transaction import Step

MARK: Final = "fer-edge-deploy "  # begins a line that is meant for the deployer
ORDER: Final = "order.json"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done with the files that lie beside it.

    Attributes:
        wheel: name of the program's.
        model: what the configuration is to say of the model; None to leave that as it is.
        model_file: name of a model's file to put beside the configuration.
        config: name of the configuration's; None to leave the host its own.
        password: name of the file with the broker's password.
    """

    wheel: str
    model: str | None = None
    model_file: str | None = None
    config: str | None = None
    password: str | None = None


class Latency(msgspec.Struct, frozen=True):
    """The part of a bench's figures that is told, in milliseconds."""

    median: float
    p95: float

    @classmethod
    def of(cls, report: Report, job: Workload) -> Latency:
        """From the report's case of that job."""
        found = report.latency(job)
        return cls(found.median, found.p95)


class Measured(msgspec.Struct, frozen=True):
    """What ``fer-edge bench`` measured on a host, as far as it is told."""

    machine: str
    runtime: str
    model: str
    classifier: Latency
    detect: Latency
    whole_frame: Latency


def main() -> int:
    """Do what the order in a folder says, the program's only argument; its exit status."""
    folder = Path(sys.argv[1])
    try:
        _end_with_the_connection()
        order = msgspec.json.decode((folder / ORDER).read_bytes(), type=Order)
        machine = Machine()
        with machine.reserved():
            arrive(machine, folder, order)
    except (FerEdgeError, OSError, msgspec.DecodeError) as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def arrive(machine: Machine, folder: Path, order: Order) -> None:
    """Have the service run as ordered, and measure it.

    Raises:
        FerEdgeError: it cannot; then the machine is as it was, unless measuring alone failed.
    """
    steps = arrival_steps(machine, folder, order)
    names = {step.what for step in steps}
    carry_out(steps, lambda line: _say(f"{MARK}{'step' if line in names else 'back'} {line}"))
    venv = Venvs(machine).current()
    if venv is None:  # which no step leaves it
        raise ServiceError("the program has gone again")
    _say(f"{MARK}version {version_in(venv)}")
    _say(f"{MARK}step measure")
    config = config_path(machine, None)
    model = load_config(config, {}).model if config.is_file() else "edge"
    # Enough for figures that are told by themselves; more would keep a small Pi from its work for minutes.
    figures = machine.run(str(venv / "bin/fer-edge"), "bench", "--json", "--runs", "50", "--starts", "0", model)
    report = decode_report(figures.encode(), "bench")
    measured = Measured(
        machine=report.environment.machine,
        runtime=report.environment.runtime,
        model=report.models[0].path,
        classifier=Latency.of(report, "classifier"),
        detect=Latency.of(report, "detect"),
        whole_frame=Latency.of(report, "whole_frame"),
    )
    _say(f"{MARK}done {msgspec.json.encode(measured).decode()}")


def arrival_steps(machine: Machine, folder: Path, order: Order) -> list[Step]:
    """What it takes for the service to run as ordered; nothing, when it does.

    Args:
        machine: the host.
        folder: with the files of the order.
        order: what is wanted.

    Raises:
        InputError: it cannot be met on this host.
    """
    origin = origin_at(folder / order.wheel)
    units = units_there(machine)
    if units and UNIT not in units:
        if order.config or order.model:
            raise InputError(
                "this host has a unit for each camera (fer-edge@...): leave --config and --model out, and change"
                " theirs there"
            )
        return upgrade_steps(machine, origin)
    config = folder / order.config if order.config else None
    if order.model is not None and config is None:
        theirs = config_path(machine, None)
        text = theirs.read_text("utf-8") if theirs.is_file() else example()
        config = folder / "config.toml"
        config.write_text(fitted(text, str(theirs), model=order.model), "utf-8")
    wishes = Wishes(
        config=config,
        password_file=folder / order.password if order.password else None,
        model=folder / order.model_file if order.model_file else None,
        replace=True,
    )
    return install_steps(machine, wishes, origin)


def _say(line: str) -> None:
    with suppress(BrokenPipeError):  # nobody listens any more, and what was done is to be taken back all the same
        print(line, flush=True)  # noqa: T201 - for the deployer


def _end_with_the_connection() -> None:
    """Be interrupted when whoever asked for this has gone; the connection is the standard input."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # a group of its own, with all that it starts
    signal.signal(signal.SIGINT, _interrupt)
    threading.Thread(target=wait, daemon=True).start()


def _interrupt(*_: object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # once: what is taken back then is not to be stopped
    os.killpg(0, signal.SIGTERM)  # pip's own children, too
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
