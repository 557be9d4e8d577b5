"""The folder of collected faces: one encrypted file a face, which the time of the face names."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.utils.atomic_file import make_private_folder, replacing
from fer_edge_device.state_folder import find_state_file, state_file, trial_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fer_edge_device.config.settings import CollectSettings

SUFFIX: Final = ".age"
FILE_NAME: Final = re.compile(r"(?P<milliseconds>\d{13})-[0-9a-f]{8}\.age")
_TEMPORARY: Final = re.compile(r"\.\d{13}-[0-9a-f]{8}-[0-9a-f]{8}\.age")
_DAY_S: Final = 86_400


class NotWantedError(Exception):
    """Raised when a face must not be kept any more."""


class CollectFolder:
    """The faces in a folder; nothing is created before the first one is added.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        """Use a folder.

        Args:
            path: the folder.
        """
        self.path = path

    def exists(self) -> bool:
        """Return whether the folder is there, as far as this user can see."""
        try:
            return self.path.is_dir()
        except OSError:
            return False

    def times(self) -> list[float]:
        """Return when each face was seen, in seconds since 1970, the oldest first.

        Raises:
            OSError: the folder cannot be read.
        """
        return sorted(_time(name) for name in self._names(FILE_NAME))

    def size(self) -> int:
        """Return the size of all faces, in bytes.

        Raises:
            OSError: the folder cannot be read.
        """
        return sum((self.path / name).stat().st_size for name in self._names(FILE_NAME))

    def add(self, content: bytes, time: float, is_wanted: Callable[[], bool]) -> None:
        """Add a face.

        Args:
            content: the encrypted face.
            time: when it was seen, in seconds since 1970.
            is_wanted: asked when all is written, just before the face appears in the folder.

        Raises:
            NotWantedError: it was not wanted any more, and nothing was kept.
            InputError: the folder cannot be created or written to.
            FerEdgeError: the disk is full.
            OSError: the disk failed.
        """
        make_private_folder(self.path)
        path = self.path / f"{int(time * 1000):013d}-{secrets.token_hex(4)}{SUFFIX}"
        with replacing(path) as temporary:
            with temporary.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # which may take long, so that the question comes after it
            if not is_wanted():
                raise NotWantedError
        if not is_wanted():
            path.unlink(missing_ok=True)
            raise NotWantedError

    def delete_unfinished(self) -> None:
        """Delete what a power cut has left of a face that was being written.

        Raises:
            OSError: it cannot be deleted.
        """
        for name in self._names(_TEMPORARY):
            (self.path / name).unlink(missing_ok=True)

    def delete_expired(self, max_days: float) -> int:
        """Delete faces that are older, also those of a clock that was as far ahead, and return their number.

        Raises:
            OSError: a face cannot be deleted.
        """
        now = clock.time()
        return self._delete(name for name in self._names(FILE_NAME) if abs(now - _time(name)) > max_days * _DAY_S)

    def delete_all(self) -> int:
        """Delete everything, also the folder, and return the number of faces.

        Raises:
            OSError: a face cannot be deleted.
        """
        self.delete_unfinished()
        count = self._delete(self._names(FILE_NAME))
        with contextlib.suppress(OSError):  # it does not exist, or holds files of somebody else
            self.path.rmdir()
        return count

    def _names(self, pattern: re.Pattern[str]) -> list[str]:
        try:
            return sorted(path.name for path in self.path.iterdir() if pattern.fullmatch(path.name))
        except FileNotFoundError:
            return []

    def _delete(self, names: Iterable[str]) -> int:
        count = 0
        for name in names:
            (self.path / name).unlink(missing_ok=True)
            count += 1
        return count


def collect_folder(settings: CollectSettings, node: str, *, is_trial: bool = False) -> CollectFolder:
    """Return the folder of a node.

    Args:
        settings: the section of the configuration.
        node: the node's name.
        is_trial: whether a trial of another source uses it.

    Raises:
        InputError: the user has no home folder.
    """
    path = Path(settings.path) if settings.path else state_file(*_names(node))
    return CollectFolder(trial_file(path) if is_trial else path)


def find_collect_folders(settings: CollectSettings, node: str, config: Path) -> list[CollectFolder]:
    """Return the folders of a node and of its trials, for another command than `fer-edge run`.

    Args:
        settings: as for `collect_folder`.
        node: likewise.
        config: the configuration's file; see `find_state_file`.

    Raises:
        InputError: the user has no home folder.
    """
    path = Path(settings.path) if settings.path else find_state_file(*_names(node), config)
    return [CollectFolder(path), CollectFolder(trial_file(path))]


def _names(node: str) -> tuple[str, str, str]:
    return "collected", f"{node}-collected", "collect.path"


def _time(name: str) -> float:
    return int(name.partition("-")[0]) / 1000
