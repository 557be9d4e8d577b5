"""Checks of a machine, and their findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fer_edge.errors import FerEdgeError, first_line
from fer_edge_device.config.settings import Config

Level = Literal["ok", "warning", "failure"]
CheckFunction = Callable[[Config], "Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check.

    Attributes:
        level: ``ok``; ``warning`` for something that works but needs attention; ``failure``.
        message: the state of what was checked.
        advice: what to do; empty if nothing is to be done, or if the message says it.
        name: the name of the check.
    """

    level: Level
    message: str
    advice: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A check and how long it may take.

    Attributes:
        function: runs the check. An exception from it counts as a failure.
        timeout: in seconds.
        timeout_advice: what to do when the check takes longer.
    """

    function: CheckFunction
    timeout: float = 30.0
    timeout_advice: str = "the machine may be overloaded or its disk may be failing; see `dmesg`"


def run_check(function: CheckFunction, config: Config) -> Finding:
    """Run a check in this process and turn an exception into a failure."""
    try:
        return function(config)
    except FerEdgeError as error:  # its message says what to do
        return Finding("failure", str(error))
    except Exception as error:  # noqa: BLE001 - the other checks must run all the same
        return Finding("failure", f"the check failed ({type(error).__name__}: {first_line(error)})", "please report it")
