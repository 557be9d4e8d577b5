"""Errors that a user can act on.

Every message says what was wrong, where, and what to do.  The command line prints it
as one line and exits with the status that the class carries.
"""

from __future__ import annotations

import lzma
import re
import zipfile
import zlib
from typing import ClassVar, Final

# What `zipfile` raises, besides OSError, of an archive that is damaged, encrypted or packed in a way it does not know.
DAMAGED_ZIP: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)

_LOGIN: Final = re.compile(r"(\w:/+)[^\s/:]*:\S*@")
# To the end of the address, for a password may hold any character; what stands around an address stays.
_PARAMETER: Final = re.compile(
    r"(\w:/+\S*?(?:pas\w*|pwd|psw|pw|secret|token|key|auth)=)\S*?(?=[\"')\],;:]*(?:\s|$))", re.IGNORECASE
)


def first_line(error: BaseException) -> str:
    """What an error of somebody else's code says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def without_passwords(text: str) -> str:
    """A text with ``...`` for user and password in each address, and for parameters from the first that is a password.

    As a path, an address has one slash.
    """
    return _PARAMETER.sub(r"\1...", _LOGIN.sub(r"\1...@", text))


class FerEdgeError(Exception):
    """Base of all errors that fer-edge raises on purpose."""

    exit_status: ClassVar[int] = 1

    def __str__(self) -> str:
        """The message, with nothing in it that must not be told."""
        return without_passwords(super().__str__())


class InputError(FerEdgeError):
    """Raised when what the user gave cannot be used as it is."""

    exit_status = 2


class DataError(InputError):
    """Raised when a dataset or an image cannot be read."""


class ModelError(InputError):
    """Raised when a model file is missing, damaged or of the wrong kind."""


class RuntimeMismatchError(FerEdgeError):
    """Raised when a model gives other scores on this machine than where its card was written."""


class SourceError(InputError):
    """Raised when a camera, video or folder of frames cannot be opened."""


class SourceLostError(FerEdgeError):
    """Raised when a source that gave frames gives no more of them, without having ended."""


class BrokerError(FerEdgeError):
    """Raised when an MQTT broker cannot be reached, or refuses what it is asked for."""


class ServiceError(FerEdgeError):
    """Raised when the service cannot be installed, changed or asked about."""


class MissingExtraError(InputError):
    """Raised when a command needs packages that are not installed.

    Attributes:
        extra: the optional dependency group that brings them.
    """

    def __init__(self, what: str, extra: str) -> None:
        """Say that ``what`` is missing and that ``extra`` brings it."""
        super().__init__(f'this needs {what}, not installed here: pip install "fer-edge[{extra}]"')
        self.extra = extra


def printable(text: str) -> str:
    """Text that can be written as UTF-8, which the name of a file need not be."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
