"""A readers-writer lock: many threads hold it together, or one thread holds it alone."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Gate:
    """A readers-writer lock, in which the thread that wants it alone has priority."""

    def __init__(self) -> None:
        """Start unlocked."""
        self._condition = threading.Condition()
        self._inside = 0
        self._wait_alone = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold the lock together with others."""
        with self._condition:
            self._condition.wait_for(lambda: not self._wait_alone)
            self._inside += 1
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock alone."""
        with self._condition:
            self._wait_alone += 1
            self._condition.wait_for(lambda: not self._inside)
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._wait_alone -= 1
            self._leave()

    def _leave(self) -> None:
        with self._condition:
            self._inside -= 1
            self._condition.notify_all()
