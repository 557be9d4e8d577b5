"""The password of an address, from the environment or a file, where no other user of the machine can see it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

from fer_edge.errors import InputError
from fer_edge.utils.bounded_file import read_text

PASSWORD: Final = "FER_EDGE_TAG_PASSWORD"  # noqa: S105 - the name of a variable
PASSWORD_FILE: Final = "FER_EDGE_TAG_PASSWORD_FILE"  # noqa: S105 - likewise


def with_password(address: str) -> str:
    """Return an address with the password for its user; unchanged if it names no user, or has a password.

    The variable `PASSWORD` holds the password, or `PASSWORD_FILE` names a file with it. Worker processes inherit both.

    Raises:
        InputError: the file cannot be read or is empty.
    """
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    user, at, place = host.rpartition("@")
    if not at or not user or ":" in user or not (password := _read_password()):
        return address
    return f"{scheme}://{user}:{quote(password, safe='')}@{place}{slash}{path}"


def use_password_file(path: Path) -> None:
    """Take the passwords of this process and of the processes that it starts from a file.

    Raises:
        InputError: the file cannot be read or is empty.
    """
    os.environ[PASSWORD_FILE] = str(path.absolute())
    _read_password()


def _read_password() -> str:
    path = os.environ.get(PASSWORD_FILE)
    if not path:
        return os.environ.get(PASSWORD, "")
    password = read_text(Path(path)).rstrip("\r\n")
    if not password:
        raise InputError(f"{path}: contains no password")
    return password
