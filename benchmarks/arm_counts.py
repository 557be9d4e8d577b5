"""Counts of executed instructions, as the plugin of `benchmarks/arm.py` writes them."""

from __future__ import annotations

import bisect
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Counts:
    """Numbers of executed instructions.

    Attributes:
        total: all of them.
        vector: those on vectors and floats.
        dot: dot products, which are among ``vector``.
        memory: loads and stores.
        by_address: all of them, by the address of their block of code.
    """

    total: float = 0
    vector: float = 0
    dot: float = 0
    memory: float = 0
    by_address: Counter[int] = field(default_factory=Counter)

    def add(self, address: int, runs: int, kinds: list[int]) -> None:
        """Add the runs of a block of code, of which ``kinds`` says how many instructions of each kind it has."""
        instructions, vector, dot, memory = kinds
        self.total += runs * instructions
        self.vector += runs * vector
        self.dot += runs * dot
        self.memory += runs * memory
        self.by_address[address] += runs * instructions

    def minus(self, other: Counts) -> Counts:
        """Return the difference."""
        by_address = Counter(self.by_address)
        by_address.subtract(other.by_address)
        return Counts(
            self.total - other.total,
            self.vector - other.vector,
            self.dot - other.dot,
            self.memory - other.memory,
            by_address,
        )

    def per(self, times: int) -> Counts:
        """Return the counts of one of a number of runs."""
        by_address = Counter({address: round(count / times) for address, count in self.by_address.items()})
        return Counts(self.total / times, self.vector / times, self.dot / times, self.memory / times, by_address)


def read_counts(path: Path) -> dict[int, Counts]:
    """Read what was executed before each mark, since the one before it."""
    marks: dict[int, Counts] = {}
    counts = Counts()
    for line in path.read_text("ascii").splitlines():
        first, *rest = line.split()
        if first == "mark":
            marks[int(rest[0])] = counts
            counts = Counts()
        else:
            runs, *kinds = map(int, rest)
            counts.add(int(first, 16), runs, kinds)
    return marks


@dataclass(frozen=True)
class _Mapping:
    """A part of a file in memory."""

    start: int
    end: int
    offset: int
    path: Path


class Symbols:
    """Names the functions at the addresses of an emulated process."""

    def __init__(self, maps: str) -> None:
        """Prepare.

        Args:
            maps: the process's ``/proc/self/maps``.
        """
        self._mappings = [
            _Mapping(*_edges(parts[0]), int(parts[2], 16), Path(parts[5]))
            for parts in map(str.split, maps.splitlines())
            if len(parts) > 5 and "x" in parts[1] and parts[5].startswith("/")
        ]
        self._functions: dict[Path, tuple[list[int], list[str]]] = {}

    def largest(self, counts: Counts, number: int) -> list[tuple[str, int]]:
        """Return the functions that executed the most instructions, with their counts."""
        by_name: Counter[str] = Counter()
        for address, count in counts.by_address.items():
            by_name[self._name(address)] += count
        return by_name.most_common(number)

    def _name(self, address: int) -> str:
        for mapping in self._mappings:
            if mapping.start <= address < mapping.end:
                addresses, names = self._functions_of(mapping.path)
                i = bisect.bisect_right(addresses, address - mapping.start + mapping.offset) - 1
                return f"{mapping.path.name}: {names[i] if i >= 0 else '?'}"
        return "?"

    def _functions_of(self, path: Path) -> tuple[list[int], list[str]]:
        """Return the offsets in a file at which functions start, and their names."""
        if path not in self._functions:
            segments = list(_segments(path))
            found = []
            for line in [*_lines("nm", "--defined-only", path), *_lines("nm", "-D", "--defined-only", path)]:
                parts = line.split()
                if len(parts) == 3 and parts[1] in "tTwWi" and not parts[2].startswith("$"):
                    at = int(parts[0], 16)
                    found += [
                        (at - start + offset, parts[2]) for offset, start, size in segments if 0 <= at - start < size
                    ]
            found.sort()
            self._functions[path] = ([at for at, _ in found], [name for _, name in found])
        return self._functions[path]


def _edges(span: str) -> tuple[int, int]:
    start, end = span.split("-")
    return int(start, 16), int(end, 16)


def _segments(path: Path) -> Iterator[tuple[int, int, int]]:
    """Yield offset in the file, address and size of each part that is loaded."""
    for line in _lines("readelf", "-lW", path):
        parts = line.split()
        if parts and parts[0] == "LOAD":
            yield int(parts[1], 16), int(parts[2], 16), int(parts[4], 16)


def _lines(tool: str, *arguments: str | Path) -> list[str]:
    done = subprocess.run([f"aarch64-linux-gnu-{tool}", *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.splitlines()
