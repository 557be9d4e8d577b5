"""Write the list of errors: a CSV of paths and what went wrong with them."""

from __future__ import annotations

import csv
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from fer_edge.tagging.output.csv_cells import guard_cell
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.bounded_file import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_HEAD: Final = ("path", "error")


def is_error_list(path: Path) -> bool:
    """Return whether a file is a list of errors, or empty."""
    head = ",".join(_HEAD).encode()
    with open_regular(path) as file:
        return file.read(len(head)) in {head, b""}


@contextmanager
def open_error_list(path: Path | None) -> Iterator[Callable[[str, str], object]]:
    """Yield a function that adds a path and its error to the list; without a path it does nothing."""
    if path is None:
        yield lambda _path, _error: None
        return
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(_HEAD)
        yield lambda image, error: writer.writerow((guard_cell(image), guard_cell(error)))
