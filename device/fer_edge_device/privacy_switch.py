"""The privacy switch on disk: a node that was switched off is off after every restart."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)


class PrivacySwitch:
    """Whether frames may be looked at, kept beside the outbox.

    While they may not, there is a file. Nothing is read from it, so nothing in it can be damaged, and what befalls
    the outbox does not switch a node on.
    """

    def __init__(self, outbox: Path) -> None:
        """Find what an earlier run kept.

        Args:
            outbox: the path of the outbox.
        """
        self._path = outbox.with_name(f"{outbox.name}.off")

    @property
    def on(self) -> bool:
        """Whether frames may be looked at; a disk that fails does not switch a node on."""
        try:
            self._path.lstat()
        except OSError as error:
            return isinstance(error, FileNotFoundError | NotADirectoryError)
        return False

    def keep(self, *, on: bool) -> None:
        """Keep it; it outlives a power cut when this returns, and where the disk would not have it, that is said."""
        if on == self.on:
            return
        try:
            if on:
                self._path.unlink()
            else:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.touch()
            self._synchronise_folder()
        except OSError as error:
            logger.warning(
                "%s: the switch cannot be kept (%s); it holds until the next start. Mend that and throw it again",
                self._path,
                error.strerror,
            )

    def _synchronise_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
