"""What the page asks of the runner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Controls:
    """What the page can do.

    Attributes:
        node: name of the node.
        switch: switches frames on or off; returns whether that is saved.
        restart: restarts the runner.
        restart_camera: closes and opens the camera; None if the source has none.
        is_connected: returns whether the broker is connected; None if there is none.
        history: the file of the history; None without one.
    """

    node: str
    switch: Callable[[bool], bool]
    restart: Callable[[], None]
    restart_camera: Callable[[], None] | None
    is_connected: Callable[[], bool | None]
    history: Path | None
