"""Read and write files in buckets and on web servers, through fsspec."""

from __future__ import annotations

import errno
import importlib.util
import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fer_edge.errors import DataError, InputError, MissingExtraError, first_line
from fer_edge.tagging.input import tempdirs
from fer_edge.tagging.input.address_password import with_password
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.file_kinds import is_system_name
from fer_edge.utils.worker import report_progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fer_edge.utils.file_kinds import LeftOut

_WEB: Final = ("http://", "https://")
_PARALLEL_FETCHES: Final = 16
_TIMEOUT_S: Final = 60  # without a byte from a server


class RemoteFile(NamedTuple):
    """A file at an address.

    Attributes:
        display_name: the address without passwords.
        address: the address.
        fingerprint: text that changes when the file does; empty if the server does not tell.
        error: why the file cannot be read; empty if it can.
    """

    display_name: str
    address: str
    fingerprint: str = ""
    error: str = ""


def is_address(text: str) -> bool:
    """Return whether a text is ``scheme://...``, and not a path."""
    return re.match(r"[a-z][a-z0-9+.-]+://", text) is not None


def check_address(address: str) -> None:
    """Check that a package for addresses of this kind is installed.

    Raises:
        MissingExtraError: fsspec is not installed.
        InputError: the scheme is unknown, or the package that reads it is not installed.
    """
    if importlib.util.find_spec("fsspec") is None:
        raise MissingExtraError("fsspec", "remote")
    import fsspec  # noqa: PLC0415 - an extra

    scheme = address.partition("://")[0]
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:  # such as "Please install gcsfs to access Google Storage"
        raise InputError(f"{scheme}://: {first_line(error)}") from error
    except ValueError as error:
        raise InputError(
            f"{without_secrets(address)}: an unknown kind of address; use s3://, gs:// or https://"
        ) from error


def find(address: str, endings: tuple[str, ...], left_out: LeftOut) -> Iterator[RemoteFile]:
    """List the files at an address.

    Args:
        address: the address of a file, a folder, or a pattern.
        endings: the endings of files that are taken from a folder.
        left_out: counts what is left out of a folder.

    Yields:
        The files, in order of their names; an address that cannot be listed is one file with an error.
    """
    try:
        with _as_data_error(address):
            yield from _list_files(address, endings, left_out)
    except DataError as error:
        yield RemoteFile(without_secrets(address), address, error=str(error))


def fetch_all(addresses: Sequence[str], folder: Path, max_bytes: int) -> list[Path | DataError]:
    """Fetch several files at a time; see `fetch`.

    Returns:
        For each address the fetched file, or the error.
    """

    def fetch_one(address: str, number: int) -> Path | DataError:
        path = folder / str(number)
        try:
            fetch(address, path, max_bytes)
        except DataError as error:
            return error
        return path

    with ThreadPoolExecutor(_PARALLEL_FETCHES) as threads:
        return list(threads.map(fetch_one, addresses, itertools.count()))


def fetch(address: str, destination: Path, max_bytes: int) -> None:
    """Copy a remote file to this machine.

    Args:
        address: the address of the file.
        destination: the file to write.
        max_bytes: the largest size; the transfer stops some blocks beyond it.

    Raises:
        DataError: the file cannot be read, is too large, or does not fit on the disk.
    """
    from fsspec import Callback  # noqa: PLC0415 - an extra

    def check_size(size: int | None, fetched: int, **_: object) -> None:
        report_progress()
        if max(size or 0, fetched) > max_bytes:
            raise tempdirs.size_error(without_secrets(address), max_bytes)

    with _as_data_error(address):
        files, path = _open(address)
        files.get_file(path, str(destination), callback=Callback(hooks={"size": check_size}))


def put(file: Path, address: str) -> None:
    """Copy a file of this machine to an address.

    Raises:
        InputError: it cannot be written there.
    """
    with _as_data_error(address):
        files, path = _open(address)
        files.put_file(str(file), path)


@contextmanager
def writing(destination: str) -> Iterator[Path]:
    """Yield a local file to write; at the end it moves to its destination as a whole.

    Args:
        destination: a path or an address.

    Raises:
        InputError: the destination cannot be written.
    """
    if not is_address(destination):
        with replacing(Path(destination)) as temporary:
            yield temporary
        return
    with tempdirs.folder() as folder:
        path = folder / f"table{Path(destination).suffix}"
        yield path
        put(path, destination)


def expand_pattern(pattern: str) -> list[str]:
    """Return the addresses that match a pattern.

    Raises:
        InputError: the place cannot be listed.
    """
    with _as_data_error(pattern):
        files, path = _open(pattern)
        return [files.unstrip_protocol(name) for name in files.glob(path)]


def delete(address: str) -> None:
    """Delete a file.

    Raises:
        InputError: it cannot be deleted.
    """
    with _as_data_error(address):
        files, path = _open(address)
        files.rm_file(path)


def exists(address: str) -> bool:
    """Return whether a file exists.

    Raises:
        InputError: the server does not tell.
    """
    with _as_data_error(address):
        files, path = _open(address)
        return bool(files.exists(path))


def without_secrets(address: str) -> str:
    """Return an address without its user, password and query; a path stays as it is."""
    if not is_address(address):
        return address
    scheme, _, rest = address.partition("://")
    if scheme in {"http", "https"}:
        rest = rest.partition("?")[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _list_files(address: str, endings: tuple[str, ...], left_out: LeftOut) -> Iterator[RemoteFile]:
    files, path = _open(address)
    if address.startswith(_WEB):
        yield RemoteFile(without_secrets(address), address)
    elif any(mark in path for mark in "*?["):
        for name, detail in sorted(files.glob(path, detail=True).items()):
            if detail["type"] == "file":
                yield _remote_file(files.unstrip_protocol(name), detail)
    elif files.isdir(path):
        yield from _walk(files, path, endings, left_out)
    else:
        yield _remote_file(address, files.info(path))


def _walk(
    files: Any,  # noqa: ANN401 - fsspec has no types
    folder: str,
    endings: tuple[str, ...],
    left_out: LeftOut,
) -> Iterator[RemoteFile]:
    for detail in sorted(files.ls(folder, detail=True), key=lambda detail: str(detail["name"])):
        name = detail["name"]
        if name.rstrip("/") == folder.rstrip("/"):
            continue
        if is_system_name(name.rstrip("/").rpartition("/")[2]):
            left_out.system += 1
        elif detail["type"] == "directory":
            yield from _walk(files, name, endings, left_out)
        elif detail["type"] == "file" and name.lower().endswith(endings):
            yield _remote_file(files.unstrip_protocol(name), detail)
        else:
            left_out.add_other_kind(name)


def _remote_file(address: str, detail: dict[str, Any]) -> RemoteFile:
    version = detail.get("ETag") or detail.get("LastModified") or detail.get("mtime") or ""
    return RemoteFile(without_secrets(address), address, f"{detail.get('size')}-{version}")


def _open(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra

    options: dict[str, object] = {"use_listings_cache": False}
    if address.startswith(_WEB):
        from aiohttp import ClientTimeout  # noqa: PLC0415 - an extra

        # The default limits the whole transfer to five minutes, too short for a video.
        options["client_kwargs"] = {"timeout": ClientTimeout(total=None, sock_connect=_TIMEOUT_S, sock_read=_TIMEOUT_S)}
    files, path = url_to_fs(with_password(address), **options)
    return files, path


@contextmanager
def _as_data_error(address: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise tempdirs.write_error(without_secrets(address), error) from error
        raise DataError(f"{without_secrets(address)}: cannot be reached ({_reason(address, error)})") from error


def _reason(address: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    # The message may contain the address in another spelling, with its password.
    return re.sub(r"[a-z][a-z0-9+.-]*://[^\s'\")]*", without_secrets(address), first_line(error))
