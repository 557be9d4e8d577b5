"""What the page asks of the runner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fer_edge_device.history.rows import Period


@dataclass(frozen=True)
class Controls:
    """What the page can do.

    Attributes:
        node: name of the node.
        switch: switches frames on or off; returns whether that is saved.
        restart: restarts the runner.
        read_history: returns the hours since a time in seconds since 1970; None without a history.
    """

    node: str
    switch: Callable[[bool], bool]
    restart: Callable[[], None]
    read_history: Callable[[float], list[Period]] | None
