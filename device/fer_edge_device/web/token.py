"""The token that opens the page from other machines: made at the first start, kept in a private file."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError, printable
from fer_edge.utils.bounded_file import read_text

if TYPE_CHECKING:
    from fer_edge_device.config.settings import WebSettings

logger = logging.getLogger(__name__)

_HASH: Final = "sha256:"  # begins a token of which only the hash is kept
_MIN_LENGTH: Final = 12
_CREDENTIAL: Final = "web-token"


def is_hash(text: str) -> bool:
    """Return whether a text is only the hash of a token."""
    return text.startswith(_HASH)


class Token:
    """The secret, of which only the hash is held."""

    def __init__(self, text: str, source: str) -> None:
        """Take over a token.

        Args:
            text: the token, or ``sha256:`` and the hexadecimal hash of one.
            source: where it is from, for an error.

        Raises:
            InputError: it is too short, or no hash.
        """
        try:
            self._digest = bytes.fromhex(text.removeprefix(_HASH)) if is_hash(text) else digest(text)
        except ValueError:
            self._digest = b""
        if len(self._digest) != hashlib.sha256().digest_size or len(text) < _MIN_LENGTH:
            raise InputError(
                f"{source}: give a token of at least {_MIN_LENGTH} characters, or sha256: and its hash in hexadecimal"
            )

    def matches(self, text: str) -> bool:
        """Return whether a text is the token; takes the same time for every text."""
        return hmac.compare_digest(digest(text), self._digest)


def read_token(settings: WebSettings, path: Path, *, make: bool = False) -> tuple[str, str]:
    """Return the token and where it is from: the configured file, a systemd credential, or the state folder.

    Args:
        settings: the section of the configuration.
        path: the file in the state folder.
        make: whether to make it there if it is missing.

    Raises:
        InputError: the file cannot be read or written, or there is none.
    """
    if settings.token_file:
        return _read(Path(settings.token_file)), f"web.token_file {printable(settings.token_file)}"
    credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), _CREDENTIAL)
    if "CREDENTIALS_DIRECTORY" in os.environ and credential.is_file():
        return _read(credential), f"the systemd credential {_CREDENTIAL}"
    if not path.exists():
        if not make:
            raise InputError(
                f"{printable(str(path))}: there is no token yet; a page that other machines can open makes it when it"
                " starts. Name the node with --node, or its file with --config"
            )
        _make(path)
    return _read(path), printable(str(path))


def _read(path: Path) -> str:
    text = read_text(path, InputError).strip()
    if path.stat().st_mode & stat.S_IROTH and not is_hash(text):
        logger.warning("%s: other users can read the token; run: chmod 600 %s", *[printable(str(path))] * 2)
    return text


def _make(path: Path) -> None:
    """Write a new token, which only this user can read."""
    try:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="ascii") as file:  # of mode 0600
            file.write(f"{secrets.token_urlsafe(24)}\n")
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileExistsError):  # another process was quicker
                os.link(file.name, path)
    except OSError as error:
        raise InputError(f"{printable(str(path))}: cannot be written ({error.strerror}); set web.token_file") from error


def digest(text: str) -> bytes:
    """Return the SHA-256 hash of a secret."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
