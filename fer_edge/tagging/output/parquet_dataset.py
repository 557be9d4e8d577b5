"""Write a Parquet dataset: a local or remote folder of parts, each of which is written completely or not at all."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import FerEdgeError, printable
from fer_edge.tagging.input import remote
from fer_edge.tagging.output.columns import FaceRow, Provenance
from fer_edge.tagging.output.table_writer import open_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_ROWS_PER_PART: Final = 10_000
_NAME: Final = "faces-{:06d}.parquet"
_PATTERN: Final = "faces-??????.parquet"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part that is to be written.

    Attributes:
        dataset: the folder, with a slash at its end.
        number: number of the part in the dataset, from 0.
        rows: its rows.
        provenance: what made the rows.
    """

    dataset: str
    number: int
    rows: tuple[FaceRow, ...]
    provenance: Provenance


def is_dataset(table: str) -> bool:
    """Return whether the name of a table means a folder of parts: it ends in a slash."""
    return table.endswith("/")


def part_name(dataset: str, number: int) -> str:
    """Return the path or address of a part; writing it again replaces it."""
    return f"{dataset}{_NAME.format(number)}"


def write_part(part: Part) -> None:
    """Write one part, in any process or on any machine."""
    name = part_name(part.dataset, part.number)
    with remote.writing(name) as temporary, open_table(temporary, part.provenance) as table:
        for row in part.rows:
            table.append(row)


def write_dataset(
    dataset: str,
    rows: Iterable[FaceRow],
    provenance: Provenance,
    map_function: Callable[[Callable[[Part], None], Iterable[Part]], Iterable[None]],
) -> None:
    """Write all parts of a dataset, and delete the parts of an earlier one.

    Args:
        dataset: the folder, with a slash at its end.
        rows: all rows, in order.
        provenance: what made the rows.
        map_function: calls a function with each of some arguments, as `map` does.

    Raises:
        FerEdgeError: a worker wrote a part to a disk that this machine does not share.
    """
    _delete_parts(dataset)
    written = sum(1 for _ in map_function(write_part, _split(dataset, rows, provenance)))
    if len(list_parts(dataset)) != written:
        raise FerEdgeError(
            f"{printable(remote.without_secrets(dataset))}: this machine does not see the parts that workers wrote;"
            " choose a disk that all share, or an address; the same command continues"
        )


def list_parts(dataset: str) -> list[str]:
    """Return the paths or addresses of the parts that exist."""
    if remote.is_address(dataset):
        return remote.expand_pattern(dataset + _PATTERN)
    return [str(path) for path in Path(dataset).glob(_PATTERN)]


def _split(dataset: str, rows: Iterable[FaceRow], provenance: Provenance) -> Iterator[Part]:
    dataset = dataset if remote.is_address(dataset) else f"{Path(dataset).absolute()}/"
    rows = iter(rows)
    for number in itertools.count():
        batch = tuple(itertools.islice(rows, _ROWS_PER_PART))
        if not batch:
            return
        yield Part(dataset=dataset, number=number, rows=batch, provenance=provenance)


def _delete_parts(dataset: str) -> None:
    for part in list_parts(dataset):
        if remote.is_address(part):
            remote.delete(part)
        else:
            Path(part).unlink()
