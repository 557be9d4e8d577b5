from __future__ import annotations

import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import DataError, InputError
from fer_edge.tagging.selected_face import SelectedFace
from fer_edge_device.collect.encryption import Decryption, Encryption, make_identity

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli
    from tests.device.collect.conftest import Collecting

FACE = SelectedFace(
    png=b"png",
    time=1_800_000_000.0,
    node="hall",
    model="edge-12345678",
    emotion="happy",
    scores={"happy": 0.5, "sad": 0.4},
    reason="uncertain",
    group="a-1",
)


def test_command_makes_a_private_file_and_prints_what_to_configure(cli: Cli, tmp_path: Path) -> None:
    path, config = tmp_path / "key.txt", tmp_path / "config.toml"
    result = cli("collect", "key", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = path.read_text().splitlines()[-1]
    assert secret.startswith("AGE-SECRET-KEY-1")
    assert secret not in result.stdout + result.stderr
    config.write_text(result.stdout)
    cli("config", "--config", config, "--check")
    assert f'\npublic_key = "{result.stdout.split(chr(34))[1]}"' in cli("config", "--config", config).stdout
    again = cli("collect", "key", path, status=2)
    assert "exists already" in again.stderr
    assert path.read_text().splitlines()[-1] == secret
    nowhere = cli("collect", "key", tmp_path / "none" / "key.txt", status=2)
    assert nowhere.stderr == f"fer-edge: {tmp_path}/none: no such folder; make it first\n"


def test_configuration_needs_a_good_key_and_never_repeats_a_private_one(cli: Cli, collecting: Collecting) -> None:
    secret = collecting.identity.read_text().splitlines()[-1]
    for public_key, expected in (
        ("", "collect.enabled needs collect.public_key"),
        (secret, "collect.public_key must be a public key of age"),
        (collecting.public_key[:-1] + ("q" if collecting.public_key[-1] != "q" else "p"), "mistyped or cut off"),
    ):
        config = collecting.configure(public_key=public_key)
        for command in (("config", "--check"), ("run", "--full-speed")):
            result = cli(*command, "--config", config, status=2)
            assert expected in result.stdout + result.stderr
            assert secret not in result.stdout + result.stderr
            assert len(result.stderr.splitlines()) <= 2


def test_only_the_private_key_opens_a_face(collecting: Collecting, tmp_path: Path) -> None:
    encrypted = Encryption(collecting.public_key).encrypt(FACE)
    assert Decryption(collecting.identity).decrypt(encrypted, "face") == FACE
    make_identity(tmp_path / "other")
    for identity, content in (
        (tmp_path / "other", encrypted),
        (collecting.identity, encrypted[:-1]),
        (collecting.identity, b""),
    ):
        with pytest.raises(DataError, match="face: encrypted for another key, or damaged"):
            Decryption(identity).decrypt(content, "face")
    (tmp_path / "none").write_text("# nothing\n")
    with pytest.raises(InputError, match="holds no private key"):
        Decryption(tmp_path / "none")
    (tmp_path / "damaged").write_text(collecting.identity.read_text()[:-10])
    with pytest.raises(InputError, match="not an identity file") as raised:
        Decryption(tmp_path / "damaged")
    assert "SECRET" not in str(raised.value)


@pytest.mark.skipif(shutil.which("age") is None, reason="needs age: sudo apt install age")
def test_the_program_age_reads_and_writes_the_same(collecting: Collecting, tmp_path: Path) -> None:
    path = tmp_path / "face.age"
    path.write_bytes(Encryption(collecting.public_key).encrypt(FACE))
    content = subprocess.run(["age", "-d", "-i", collecting.identity, path], check=True, capture_output=True).stdout  # noqa: S607
    assert b'"emotion":"happy"' in content
    other = tmp_path / "by-age-keygen"
    subprocess.run(["age-keygen", "-o", other], check=True, capture_output=True)  # noqa: S607
    public_key = other.read_text().splitlines()[1].removeprefix("# public key: ")
    encrypt = ["age", "-r", public_key]
    encrypted = subprocess.run(encrypt, input=content, check=True, capture_output=True).stdout
    assert Decryption(other).decrypt(encrypted, "face") == FACE
