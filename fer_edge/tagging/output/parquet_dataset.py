"""A Parquet dataset: a folder of parts, near or far, each of which is written at once or not at all."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import FerEdgeError, printable
from fer_edge.tagging.input import remote
from fer_edge.tagging.output import table_writer
from fer_edge.tagging.output.table_writer import Maker, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_ROWS: Final = 10_000
_NAME: Final = "faces-{:06d}.parquet"

_PATTERN: Final = "faces-??????.parquet"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part before it is written.

    Attributes:
        dataset: the folder.
        number: of the part within it, from 0.
        rows: its rows.
        maker: with what they were made.
    """

    dataset: str
    number: int
    rows: tuple[Row, ...]
    maker: Maker


def is_dataset(table: str) -> bool:
    """Whether a table is to be a folder of parts: it ends in a slash."""
    return table.endswith("/")


def name(dataset: str, number: int) -> str:
    """The path or address of a part; whoever writes it again, writes over it."""
    return f"{dataset}{_NAME.format(number)}"


def write_part(part: Part) -> None:
    """Write one part, in whatever process or machine."""
    place = name(part.dataset, part.number)
    with remote.arriving(place) as temporary, table_writer.writing(temporary, part.maker) as table:
        for row in part.rows:
            table.append(row)


def write(
    dataset: str,
    rows: Iterable[Row],
    maker: Maker,
    each: Callable[[Callable[[Part], None], Iterable[Part]], Iterable[None]],
) -> None:
    """Write all parts of a dataset.

    Args:
        dataset: the folder, with a slash at its end.
        rows: all of them, in order.
        maker: with what they were made.
        each: has a function done with each of some things, as `map` does it.

    Raises:
        FerEdgeError: a part was written where this machine does not see it.
    """
    _clear(dataset)
    written = sum(1 for _ in each(write_part, _parts(dataset, rows, maker)))
    if len(there(dataset)) != written:
        raise FerEdgeError(
            f"{printable(remote.shown(dataset))}: parts that workers wrote there are not to be seen from here; choose a"
            " disk that all share or an address; the same command goes on"
        )


def there(dataset: str) -> list[str]:
    """The paths or addresses of the parts that are there."""
    if remote.is_address(dataset):
        return remote.matches(dataset + _PATTERN)
    return [str(path) for path in Path(dataset).glob(_PATTERN)]


def _parts(dataset: str, rows: Iterable[Row], maker: Maker) -> Iterator[Part]:
    dataset = dataset if remote.is_address(dataset) else f"{Path(dataset).absolute()}/"
    rows = iter(rows)
    for number in itertools.count():
        some = tuple(itertools.islice(rows, _ROWS))
        if not some:
            return
        yield Part(dataset=dataset, number=number, rows=some, maker=maker)


def _clear(dataset: str) -> None:
    for part in there(dataset):
        if remote.is_address(part):
            remote.remove(part)
        else:
            Path(part).unlink()
