"""Errors that a user can act on.

Every message says what is wrong, where, and what to do. The command line prints it as one line and exits with the
status of the class.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

_LOGIN: Final = re.compile(r"(\w:/+)[^\s/:]*:\S*@")
# A password may contain any character, so everything to the end of the address is hidden; the text around the address
# stays.
_PARAMETER: Final = re.compile(
    r"(\w:/+\S*?(?:pas\w*|pwd|psw|pw|secret|token|key|auth|sig|signature|credential|session|jwt)=)"
    r"\S*?(?=[\"')\],;:]*(?:\s|$))",
    re.IGNORECASE,
)
# Some addresses are secrets themselves: a part of the path follows a word such as "token", or is a long mix of letters
# and digits, as the keys of streams and webhooks are.
_WEB_ADDRESS: Final = re.compile(r"\b(?:https?|rtmp\w?|rtsps?|srt|wss?):/+[^\s/]+/\S+", re.IGNORECASE)
_NAMED_SECRET: Final = re.compile(
    r"(/(?:\w*token|\w*key|secret|password|auth|webhook)/)[^/?#\"')\],;:]+", re.IGNORECASE
)
_RANDOM_PART: Final = re.compile(r"(?<=/)(?=[\w~=-]*\d)(?=[\w~=-]*[A-Za-z])[\w~=-]{16,}(?=[/?#\"')\],;:]|$)")


# Control characters and what turns the direction of a text or hides in it; terminals obey some of them.
_UNSHOWABLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\uffff]"
)


def one_line(text: str) -> str:
    """Return a text that a terminal shows in one line, whoever wrote it: it escapes all other characters."""
    return _UNSHOWABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's class name if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def hide_passwords(text: str) -> str:
    """Hide the passwords in a text.

    In each address, ``...`` replaces the user name and password, every parameter from the first password on, and the
    parts of a path that look like a secret. A single slash after the scheme is recognized too, because `pathlib`
    shortens ``//`` to ``/``.
    """
    return _WEB_ADDRESS.sub(_hide_parts, hide_named_passwords(text))


def hide_named_passwords(text: str) -> str:
    """Hide the passwords in a text that an address names as such: logins and parameters, but no parts of a path."""
    return _PARAMETER.sub(r"\1...", _LOGIN.sub(r"\1...@", text))


def _hide_parts(address: re.Match[str]) -> str:
    return _RANDOM_PART.sub("...", _NAMED_SECRET.sub(r"\1...", address[0]))


class FerEdgeError(Exception):
    """Base class of all errors that fer-edge raises on purpose."""

    exit_status: ClassVar[int] = 1

    def __str__(self) -> str:
        """Return the message in one line, with all passwords hidden."""
        return one_line(hide_passwords(super().__str__()))


class InputError(FerEdgeError):
    """Raised when an argument, option or file from the user cannot be used."""

    exit_status = 2


class DataError(InputError):
    """Raised when a dataset or an image cannot be read."""


class ModelError(InputError):
    """Raised when a model file is missing, damaged or of the wrong kind."""


class RuntimeMismatchError(FerEdgeError):
    """Raised when a model's outputs on this machine differ from those recorded on its card."""


class SourceError(InputError):
    """Raised when a camera, video or folder of frames cannot be opened."""


class SourceLostError(FerEdgeError):
    """Raised when a source stops delivering frames before its end."""


class BrokerError(FerEdgeError):
    """Raised when an MQTT broker cannot be reached or refuses a request."""


class ServiceError(FerEdgeError):
    """Raised when the service cannot be installed, changed or queried."""


class MissingExtraError(InputError):
    """Raised when a command needs packages that are not installed.

    Attributes:
        extra: the optional dependency group that contains them; empty if none does.
    """

    def __init__(self, packages: str, extra: str, *requirements: str) -> None:
        """Create the error.

        Args:
            packages: the missing packages, in words.
            extra: the optional dependency group that contains them.
            requirements: what to install; by default, the whole extra.
        """
        from fer_edge.extras import extra_requirements, install_command  # noqa: PLC0415 - slow

        command = install_command(requirements or extra_requirements(extra))
        super().__init__(f"this needs {packages}, not installed here: {command}")
        self.extra = extra


def printable(text: str) -> str:
    """Return a text that can be encoded as UTF-8; the name of a file may contain bytes that cannot."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
