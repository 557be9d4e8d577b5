"""Walking through decoded JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def dictionaries(content: object) -> Iterator[dict[str, Any]]:
    """Yield every dictionary of decoded JSON, however deep it lies."""
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        if isinstance(one, dict):
            waiting += one.values()
            yield one
