"""What a reader of input from elsewhere is to the fuzzer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader.

    Attributes:
        name: file name of its inputs.
        seeds: inputs that it reads.
        read: reads a file; raises `FerEdgeError` and nothing else.
        cost: how many times longer it takes than the quick ones.
        needs_tensorflow: whether it loads TensorFlow.
    """

    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    cost: int = 1
    needs_tensorflow: bool = False


def is_one_line(message: str) -> bool:
    """Return whether a message is one line that a terminal can show."""
    return bool(message) and not re.search(r"[\x00-\x1f\x7f-\x9f]", message) and "internal error" not in message
