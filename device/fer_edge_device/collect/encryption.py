"""Encryption for one public key, in the format of age (age-encryption.org/v1)."""

from __future__ import annotations

import importlib.util
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from fer_edge.errors import DataError, InputError, MissingExtraError, printable
from fer_edge.tagging.selected_face import SelectedFace
from fer_edge.utils.bounded_file import read_text

if TYPE_CHECKING:
    from pathlib import Path

    from pyrage import x25519


def need_encryption() -> None:
    """Refuse to continue without the library.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec("pyrage") is None:
        raise MissingExtraError("pyrage", "collect")


class Encryption:
    """Encrypts for a public key; nobody without its private key can read the result."""

    def __init__(self, public_key: str) -> None:
        """Read the key.

        Raises:
            MissingExtraError: the library is not installed.
            InputError: the key is damaged.
        """
        need_encryption()
        import pyrage  # noqa: PLC0415 - an extra, for which only users of collect should wait

        try:
            self._recipient = pyrage.x25519.Recipient.from_str(public_key)
        except pyrage.RecipientError as error:
            raise InputError(
                "collect.public_key: mistyped or cut off; copy what `fer-edge collect key` printed"
            ) from error

    def encrypt(self, face: SelectedFace) -> bytes:
        """Return a face as JSON, encrypted."""
        import pyrage  # noqa: PLC0415 - see __init__

        encrypted: bytes = pyrage.encrypt(msgspec.json.encode(face), [self._recipient])
        return encrypted


class Decryption:
    """Decrypts with the private keys of an identity file."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            MissingExtraError: the library is not installed.
            InputError: the file cannot be read, or has no private key of age.
        """
        need_encryption()
        import pyrage  # noqa: PLC0415 - see Encryption

        lines = [line.strip() for line in read_text(path).splitlines()]
        try:
            self._identities: list[x25519.Identity] = [
                pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")
            ]
        except pyrage.IdentityError as error:
            # Never the line itself: it may be a private key.
            raise InputError(f"{printable(str(path))}: not an identity file of age, or a damaged one") from error
        if not self._identities:
            raise InputError(f"{printable(str(path))}: holds no private key of age")

    def decrypt(self, encrypted: bytes, name: str) -> SelectedFace:
        """Return the face in the content of a file.

        Args:
            encrypted: the content.
            name: name of the file, for errors.

        Raises:
            DataError: it was encrypted for another key, or is damaged.
        """
        import pyrage  # noqa: PLC0415 - see Encryption

        try:
            return msgspec.json.decode(pyrage.decrypt(encrypted, self._identities), type=SelectedFace)
        except pyrage.DecryptError as error:
            raise DataError(f"{name}: encrypted for another key, or damaged") from error
        except (msgspec.MsgspecError, RecursionError) as error:
            raise DataError(f"{name}: not a face that fer-edge has collected") from error


def make_identity(path: Path) -> str:
    """Make a private key, write it into a new file that only this user can read, and return its public key.

    Raises:
        MissingExtraError: the library is not installed.
        InputError: the file exists already, or cannot be written.
    """
    need_encryption()
    import pyrage  # noqa: PLC0415 - see Encryption

    identity = pyrage.x25519.Identity.generate()
    public_key = str(identity.to_public())
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    try:
        # Exclusively, because overwriting a private key would make all that it opens unreadable.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise InputError(f"{printable(str(path))}: exists already, and is never overwritten; choose another") from error
    except FileNotFoundError as error:
        raise InputError(f"{printable(str(path.parent))}: no such folder; make it first") from error
    except OSError as error:
        raise InputError(f"{printable(str(path))}: cannot be written ({error.strerror})") from error
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"# created: {created}\n# public key: {public_key}\n{identity}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise InputError(f"{printable(str(path))}: cannot be written ({error.strerror})") from error
    return public_key
