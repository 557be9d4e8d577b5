"""Deletion of collected faces that are too old, also while none are collected."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from fer_edge_device.collect.folder import CollectFolder

logger = logging.getLogger(__name__)

_INTERVAL_S: Final = 600.0
_CLOSE_S: Final = 1.0


class Expiry:
    """Deletes expired faces from a thread of its own, at once and then every ten minutes."""

    def __init__(self, folder: CollectFolder, max_days: float) -> None:
        """Start the thread.

        Args:
            folder: the faces.
            max_days: age in days at which a face is deleted.
        """
        self._folder, self._max_days = folder, max_days
        self._closing = threading.Event()
        self._problem = ""
        # A daemon: a disk that hangs must not keep the process from exiting.
        self._thread = threading.Thread(target=self._run, name="collect expiry", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while True:
            try:
                if count := self._folder.delete_expired(self._max_days):
                    logger.info("%s: deleted %s that expired", self._folder.path, counted(count, "crop"))
                self._problem = ""
            except OSError as error:
                if str(error) != self._problem:
                    self._problem = str(error)
                    logger.warning("%s: expired crops cannot be deleted (%s)", self._folder.path, error.strerror)
            if self._closing.wait(_INTERVAL_S):
                return
