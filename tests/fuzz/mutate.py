"""Mutate bytes as damaged disks, cut downloads and hostile people do."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

_NUMBERS: Final = (
    0,
    1,
    2,
    3,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFF0,
    0xFFFFFFFF,
)
_TEXTS: Final = (
    b"\0",
    b"\n",
    b"\x1b[2J",
    b"-1",
    b"1e999",
    b"NaN",
    b"9" * 400,
    b"[" * 3000,
    b'{"a":' * 500,
    b"\xff\xfe",
    b"=1+1",
    b"../",
)


def mutate(data: bytes, generator: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Return a mutant of some bytes.

    Args:
        data: the bytes.
        generator: decides everything, so that the same seed gives the same mutant.
        others: other inputs, pieces of which may be inserted.
    """
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 1, 2, 3, 8, 32))):
        generator.choice(_MUTATIONS)(changed, generator)
    if others and generator.random() < 0.05:
        other = generator.choice(others)
        at, start = _place(changed, generator), generator.randrange(len(other) + 1)
        changed[at:at] = other[start : start + generator.randrange(1, 2000)]
    return bytes(changed)


def _place(data: bytearray, generator: random.Random) -> int:
    """Return a position, more often near an end, where headers and directories are."""
    size = max(len(data), 1)
    kind = generator.random()
    if kind < 0.4:
        return generator.randrange(min(size, 512))
    if kind < 0.7:
        return max(size - 1 - generator.randrange(min(size, 2048)), 0)
    return generator.randrange(size)


def _flip(data: bytearray, generator: random.Random) -> None:
    if data:
        data[_place(data, generator)] ^= 1 << generator.randrange(8)


def _set_byte(data: bytearray, generator: random.Random) -> None:
    if data:
        data[_place(data, generator)] = generator.randrange(256)


def _set_number(data: bytearray, generator: random.Random) -> None:
    form = generator.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    number = generator.choice(_NUMBERS) & (1 << 8 * struct.calcsize(form)) - 1
    at = _place(data, generator)
    data[at : at + struct.calcsize(form)] = struct.pack(form, number)


def _delete(data: bytearray, generator: random.Random) -> None:
    at = _place(data, generator)
    del data[at : at + generator.choice((1, 2, 4, 16, 300))]


def _cut(data: bytearray, generator: random.Random) -> None:
    del data[_place(data, generator) :]


def _repeat(data: bytearray, generator: random.Random) -> None:
    at, size = _place(data, generator), generator.choice((1, 4, 32, 500))
    data[at:at] = data[at : at + size] * generator.choice((1, 2, 50))


def _insert_text(data: bytearray, generator: random.Random) -> None:
    at = _place(data, generator)
    data[at : at + generator.choice((0, 1, 4))] = generator.choice(_TEXTS)


_MUTATIONS: Final[tuple[Callable[[bytearray, random.Random], None], ...]] = (
    *(_flip, _flip, _set_byte, _set_byte, _set_number, _set_number),
    *(_delete, _cut, _repeat, _insert_text),
)
