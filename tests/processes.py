"""Processes that tests start."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, AnyStr

if TYPE_CHECKING:
    from types import TracebackType


class Process(subprocess.Popen[AnyStr]):
    """A process that ends with a test that fails; without this, leaving the block would wait for it for ever."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind:
            self.kill()
        super().__exit__(kind, value, traceback)
