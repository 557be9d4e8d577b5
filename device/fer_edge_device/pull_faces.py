"""``fer-edge collect pull``: bring collected faces from a host over the user's own ssh, and decrypt them here."""

from __future__ import annotations

import io
import re
import shlex
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from fer_edge.errors import DataError
from fer_edge_device.collect.folder import FILE_NAME
from fer_edge_device.install.ssh import SshConnection, SshError, check_hosts, connect_advice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fer_edge.tagging.output.face_folder import FaceFolder
    from fer_edge_device.collect.encryption import Decryption

_BATCH: Final = 100  # files that are brought at a time
FILE_BYTES: Final = 200_000  # of a crop of 160 x 160 pixels, with everything around it
_LIST_BYTES: Final = 20_000_000
_SERVICE_FOLDERS: Final = "/var/lib/fer-edge/collected /var/lib/fer-edge@*/collected"
# A bare system may have no sudo; see deploy.sh.
_SUDO: Final = '[ "$(id -u)" != 0 ] || sudo() { shift; "$@"; }; '


@dataclass(slots=True)
class PullSummary:
    """What was brought from a host.

    Attributes:
        faces: number of faces that are new here.
        known: number of faces that were here before.
        deleted: number of faces that were deleted there.
        too_large: number of files there that are too large for a crop, and were passed over.
        problems: a line for each file that could not be used.
    """

    faces: int = 0
    known: int = 0
    deleted: int = 0
    too_large: int = 0
    problems: list[str] = field(default_factory=list)


def pull(
    host: str,
    decryption: Decryption,
    folder: FaceFolder,
    *,
    source: str | None = None,
    delete: bool = False,
    ssh_config: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> PullSummary:
    """Bring the faces that are not in a folder yet. After an interruption, the same call continues.

    Args:
        host: ``user@host`` or a name from ssh's configuration.
        decryption: decrypts the faces, on this machine.
        folder: where they go.
        source: the folder on the host; None means those of the service.
        delete: whether to delete there what has safely arrived here.
        ssh_config: a configuration file for ssh; None means the user's.
        on_progress: called with the number of faces that are done, and of all.

    Raises:
        InputError: ssh is missing, the host name is invalid, or the folder cannot be written to.
        SshError: the connection or a command there failed.
        FerEdgeError: the disk is full.
    """
    check_hosts([host])
    summary = PullSummary()
    with tempfile.TemporaryDirectory(prefix="fer-edge-") as sockets:  # a short path, as a socket needs
        connection = SshConnection(host, Path(sockets), ssh_config)
        try:
            _connect(connection)
            paths = _list(connection, source, "! -size")
            summary.too_large = len(_list(connection, source, "-size"))
            known = [path for path in paths if _local_name(path) in folder]
            summary.known = len(known)
            new = sorted({*paths} - {*known})
            for batch in _batches(new):
                arrived = _bring(connection, batch, decryption, folder, summary)
                on_progress(min(summary.faces + len(summary.problems), len(new)), len(new))
                if delete:
                    summary.deleted += _delete(connection, arrived)
            if delete:
                for batch in _batches(known):
                    summary.deleted += _delete(connection, batch)
        except SshError as error:
            raise SshError(f"{host}: {error}") from error
        finally:
            connection.close()
    return summary


def _connect(connection: SshConnection) -> None:
    if error := connection.connect():
        raise SshError(f"{error}; {connect_advice(error, connection.host)}")


def _batches(paths: list[PurePosixPath]) -> Iterator[list[PurePosixPath]]:
    return (paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH))


def _list(connection: SshConnection, source: str | None, size: str) -> list[PurePosixPath]:
    """Return the paths of all files of faces on the host, the oldest first.

    Args:
        connection: to the host.
        source: the folder there; None means those of the service.
        size: the test of `find` for files that are larger than a crop can be, as it is or negated.
    """
    folders = _SERVICE_FOLDERS if source is None else shlex.quote(source)
    # The shell of root expands the pattern, because nobody else may look into these folders.
    tests = f'-maxdepth 1 -type f -name "*.age" {size} +{FILE_BYTES}c'
    script = f'for each in {folders}; do [ ! -d "$each" ] || find "$each/" {tests}; done'
    output = connection.read(f"{_SUDO}sudo -n sh -c {shlex.quote(script)}", _LIST_BYTES).decode("utf-8", "replace")
    found = map(PurePosixPath, output.splitlines())
    return sorted({path for path in found if FILE_NAME.fullmatch(path.name)}, key=lambda path: path.name)


def _bring(
    connection: SshConnection,
    paths: Sequence[PurePosixPath],
    decryption: Decryption,
    folder: FaceFolder,
    summary: PullSummary,
) -> list[PurePosixPath]:
    """Bring and decrypt some faces, and return the paths of those that are safely here."""
    by_name = {str(path).lstrip("/"): path for path in paths}
    # What expired meanwhile is missing, and makes tar fail, which is no problem.
    command = f"tar -cf - -C / -- {shlex.join(by_name)} 2>/dev/null || true"
    content = connection.read(f"{_SUDO}sudo -n sh -c {shlex.quote(command)}", _BATCH * (FILE_BYTES + 2048) + 20_480)
    faces, arrived = {}, []
    for name, encrypted in _members(content):
        if name not in by_name:
            continue
        path = by_name[name]
        try:
            face = decryption.decrypt(encrypted, f"{connection.host}: {path.name}")
            folder.check(_local_name(path), face)
        except DataError as error:
            summary.problems.append(str(error))
            continue
        faces[_local_name(path)] = face
        arrived.append(path)
    if faces:
        folder.add(faces)
        summary.faces += len(faces)
    return arrived


def _members(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files in a tar, as far as it is complete."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for info in archive:
                file = archive.extractfile(info) if info.isreg() and info.size <= FILE_BYTES else None
                if file:
                    yield info.name, file.read()
    except tarfile.TarError:
        return


def _delete(connection: SshConnection, paths: Sequence[PurePosixPath]) -> int:
    if paths:
        connection.read(f"{_SUDO}sudo -n rm -f -- {shlex.join(map(str, paths))}", FILE_BYTES)
    return len(paths)


def _local_name(path: PurePosixPath) -> str:
    return re.sub(r"\.age$", ".png", path.name)
