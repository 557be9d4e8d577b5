"""What `fer-edge tag` shows while it works."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fer_edge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fer_edge.tagging.worker import Looked

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """What ``1s``, ``500ms``, ``2m`` or ``0.5`` says, in seconds.

    Raises:
        InputError: it says nothing of the kind.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", text.strip())
    value = float(found[1]) * _UNITS[found[2] or "s"] if found else 0.0
    if value <= 0:
        raise InputError(f"--every {text}: give a time as 1s, 500ms or 2m")
    return value


@contextmanager
def display(inputs: Sequence[str], *, quiet: bool) -> Iterator[Callable[[Looked | None], None]]:
    """Show how far it is on a terminal, and nothing elsewhere; gives what is to be called after each image."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from fer_edge.tagging.input.sources import count

    console = Console(stderr=True)
    columns = (
        TextColumn("tagging"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} images/s, {task.fields[faces]} faces, {task.fields[errors]} errors"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("tagging", total=None, rate=0.0, faces=0, errors=0)
        if not progress.disable:
            threading.Thread(target=lambda: progress.update(task, total=count(inputs)), daemon=True).start()
        faces = errors = 0

        def seen(looked: Looked | None) -> None:
            nonlocal faces, errors
            for sighting in looked.sightings if looked else ():
                faces += sighting.face is not None
                errors += bool(sighting.error)
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed or 0.0
            progress.update(task, advance=1, rate=speed, faces=faces, errors=errors)

        yield seen
