from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import InputError
from fer_edge.tagging.input.address_password import PASSWORD, PASSWORD_FILE, use_password_file, with_password

if TYPE_CHECKING:
    from pathlib import Path


def test_takes_the_password_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "a/b:c@d")
    assert with_password("https://me@host:8080/a/b.jpg?x=1") == "https://me:a%2Fb%3Ac%40d@host:8080/a/b.jpg?x=1"
    for address in ("https://host/a@b.jpg", "https://me:own@host/a.jpg", "s3://bucket/key", "https://@host/a"):
        assert with_password(address) == address


def test_takes_the_password_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PASSWORD_FILE, "replaced")
    file = tmp_path / "password"
    file.write_text("secret\n")
    use_password_file(file)
    assert with_password("https://me@host/") == "https://me:secret@host/"
    file.write_text("\n")
    with pytest.raises(InputError, match="password: contains no password"):
        use_password_file(file)
    with pytest.raises(InputError, match="none: cannot be read"):
        use_password_file(tmp_path / "none")


def test_without_a_password_the_address_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)
    monkeypatch.delenv(PASSWORD_FILE, raising=False)
    assert with_password("https://me@host/a.jpg") == "https://me@host/a.jpg"
