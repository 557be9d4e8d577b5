"""Bring faces over a real sshd, from a folder that stands for the root of a host."""

from __future__ import annotations

import csv
import hashlib
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from fer_edge.review.face_folder import read_face_folder
from fer_edge.utils.image_io import read_gray
from fer_edge_device.collect.encryption import Encryption, make_identity
from tests.device.brokers import wait_for
from tests.device.collect.test_run import EVERY_FACE
from tests.device.install.ssh_hosts import private_sshd, script
from tests.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Cli
    from tests.device.collect.conftest import Collecting


@dataclass(frozen=True)
class Host:
    """A host that ssh reaches as ``pi``: its state folders, and the configuration for ssh."""

    state: Path
    ssh_config: Path


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Start an sshd for a host whose folder stands for its root."""
    folder = tmp_path / "pi"
    made = Host(folder / "root/var/lib", tmp_path / "ssh_config")
    for path in (made.state, folder / "bin"):
        path.mkdir(parents=True)
    script(folder / "bin/sudo", '[ "$1" = -n ] || exit 1\nshift\nexec "$@"')
    script(
        folder / "shell",
        f"export PATH={folder}/bin:/usr/bin:/bin\n"
        f'exec sh -c "$(printf %s "$SSH_ORIGINAL_COMMAND" | sed "s# /var/lib/fer-edge# {made.state}/fer-edge#g")"',
    )
    with private_sshd(tmp_path) as start:
        start("pi")
        with made.ssh_config.open("a") as file:
            file.write("Host gone\n HostName 127.0.0.1\n Port 1\n")
        yield made


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "faces.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_faces_of_all_cameras_arrive_once_and_are_deleted_on_request(
    cli: Cli, collecting: Collecting, host: Host, tmp_path: Path
) -> None:
    cli("run", "--config", collecting.configure(**EVERY_FACE), "--full-speed")
    faces = {path.stem: face for path, face in zip(collecting.files(), collecting.faces(), strict=True)}
    folders = [host.state / "fer-edge/collected", host.state / "fer-edge@door/collected"]
    for folder in folders:
        folder.mkdir(parents=True)
    for number, path in enumerate(collecting.files()):
        shutil.copy(path, folders[number % 2])
    make_identity(tmp_path / "other")
    other_key = (tmp_path / "other").read_text().splitlines()[1].removeprefix("# public key: ")
    strange = folders[0] / "1800000000000-ffffffff.age"
    strange.write_bytes(Encryption(other_key).encrypt(next(iter(faces.values()))))
    into = tmp_path / "faces"
    options = ("pi", "--identity", collecting.identity, "--into", into, "--ssh-config", host.ssh_config)
    result = cli("collect", "pull", *options, status=1)
    assert f"pi: {len(faces)} new faces, 0 known" in result.stdout
    assert result.stderr.splitlines() == [f"fer-edge: pi: {strange.name}: encrypted for another key, or damaged"]
    rows = rows_of(into)
    assert {row["file"] for row in rows} == {f"{name}.png" for name in faces}
    for row in rows:
        face, path = faces[row["file"].removesuffix(".png")], into / row["file"]
        assert path.read_bytes() == face.png
        assert row["sha256"] == hashlib.sha256(face.png).hexdigest()
        assert (row["node"], row["emotion"], row["reason"], row["group"]) == (
            "test",
            face.emotion,
            face.reason,
            face.group,
        )
        assert float(row["score_happy"]) == pytest.approx(face.scores["happy"], abs=1e-4)
        assert row["time"].endswith("Z")
        assert 48 <= read_gray(path).shape[0] <= 160
    review = read_face_folder(into)
    assert review.skipped == ()
    assert {face.prediction.reason for face in review.faces} == {row["reason"] for row in rows}
    lost = into / rows[0]["file"]
    lost.unlink()
    again = cli("collect", "pull", *options, "--delete", status=1).stdout
    assert f"pi: 1 new face, {len(faces) - 1} known, {len(faces)} deleted there" in again
    assert lost.exists()
    assert rows_of(into) == rows
    assert [path for folder in folders for path in folder.iterdir()] == [strange], "only what arrived is deleted"


def test_an_interrupted_pull_continues(collecting: Collecting, cli: Cli, host: Host, tmp_path: Path) -> None:
    cli("run", "--config", collecting.configure(**EVERY_FACE, max_faces=2), "--full-speed")
    source = collecting.files()[0]
    folder = tmp_path / "my crops"
    folder.mkdir()
    for number in range(350):
        shutil.copy(source, folder / f"{1_800_000_000_000 + number}-0a1b2c3d.age")
    into = tmp_path / "faces"
    options: list[str | Path] = ["pi", "--from", folder, "--identity", collecting.identity, "--into", into]
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "fer_edge.cli",
        "collect",
        "pull",
        *options,
        "--ssh-config",
        host.ssh_config,
    ]
    with Process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for((into / "faces.csv").exists, "some faces arrive")
        process.send_signal(signal.SIGINT)
        assert process.stderr
        assert "Traceback" not in process.stderr.read()
    arrived = len(rows_of(into))
    assert arrived >= 100
    result = cli("collect", "pull", *options, "--ssh-config", host.ssh_config)
    assert f"{350 - arrived} new faces, {arrived} known" in result.stdout
    assert len({row["file"] for row in rows_of(into)}) == len([*into.glob("*.png")]) == 350


def test_what_is_wrong_is_one_line(collecting: Collecting, cli: Cli, host: Host, tmp_path: Path) -> None:
    into, ssh = tmp_path / "faces", ("--ssh-config", host.ssh_config)
    options = ("--identity", collecting.identity, "--into", into, *ssh)
    result = cli("collect", "pull", "gone", "pi", *options, status=1)
    assert "fer-edge: gone: " in result.stderr
    assert "is it switched on" in result.stderr
    assert "pi: 0 new faces, 0 known" in result.stdout
    assert not into.exists()
    assert "not a host" in cli("collect", "pull", "x y", *options, status=2).stderr
    wrong = ("--identity", host.ssh_config, "--into", into, *ssh)
    assert "not an identity file" in cli("collect", "pull", "pi", *wrong, status=2).stderr
    into.mkdir()
    (into / "faces.csv").write_text("a,b\n1,2\n")
    assert "not a table of faces" in cli("collect", "pull", "pi", *options, status=2).stderr


def test_a_host_cannot_write_elsewhere_or_fill_the_disk(
    collecting: Collecting, cli: Cli, host: Host, tmp_path: Path
) -> None:
    folder = host.state / "fer-edge/collected"
    folder.mkdir(parents=True)
    (folder / "1800000000000-0a1b2c3d.age").symlink_to("/etc/passwd")
    (folder / "1800000000001-0a1b2c3d.age").write_bytes(b"\0" * 300_000)
    (folder / "1800000000002-0a1b2c3d.age").write_bytes(b"\0" * 60_000_000)  # more than a batch may have
    (folder / "..evil.age").write_bytes(b"x")
    into = tmp_path / "faces"
    options = ("pi", "--identity", collecting.identity, "--into", into, "--ssh-config", host.ssh_config)
    result = cli("collect", "pull", *options)
    assert "pi: 0 new faces, 0 known" in result.stdout
    assert result.stderr == "fer-edge: warning: pi: passed over 2 files of more than 200 kB, which no crop has\n"
    assert not into.exists()
