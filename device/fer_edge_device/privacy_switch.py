"""The privacy switch on disk: a node that was switched off is still off after a restart."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)


class PrivacySwitch:
    """Whether frames may be processed, kept beside the outbox.

    While the switch is off, a file exists. Its content is never read, so it cannot be damaged. Damage to the outbox
    does not switch a node on.

    Attributes:
        path: the file.
    """

    def __init__(self, outbox: Path) -> None:
        """Use the switch beside an outbox.

        Args:
            outbox: path of the outbox.
        """
        self.path = outbox.with_name(f"{outbox.name}.off")

    @property
    def on(self) -> bool:
        """Whether frames may be processed. If the disk fails, the switch counts as off."""
        try:
            self.path.lstat()
        except OSError as error:
            return isinstance(error, FileNotFoundError | NotADirectoryError)
        return False

    def save(self, *, on: bool) -> bool:
        """Save the switch. If it cannot be saved, log a warning.

        Returns:
            Whether it is saved, and will survive a power cut.
        """
        if on == self.on:
            return True
        try:
            if on:
                self.path.unlink()
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.touch(0o600)
            self._sync_folder()
        except OSError as error:
            logger.warning(
                "%s: cannot save the privacy switch (%s); it holds only until the next start."
                " Fix the problem and switch again",
                self.path,
                error.strerror,
            )
            return False
        return True

    def _sync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
