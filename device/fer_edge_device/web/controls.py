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
        history: the file of the history; None without one.
    """

    node: str
    switch: Callable[[bool], bool]
    restart: Callable[[], None]
    history: Path | None
