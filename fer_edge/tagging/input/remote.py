"""Addresses: images and tables in buckets and on web servers, through fsspec."""

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
from fer_edge.utils.atomic_file import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WEB: Final = ("http://", "https://")
_AT_ONCE: Final = 16  # files fetched
_SILENT_S: Final = 60  # after which a server is given up


class Found(NamedTuple):
    """A file far away.

    Attributes:
        path: what to call it, without what may be secret in its address.
        address: where it is.
        stamp: changes when it does, where the place tells.
        error: why it cannot be had; empty where it may be.
    """

    path: str
    address: str
    stamp: str = ""
    error: str = ""


def is_address(text: str) -> bool:
    """Whether it is ``scheme://...``, and not a path."""
    return re.match(r"[a-z][a-z0-9+.-]+://", text) is not None


def check(address: str) -> None:
    """Find out early that nothing here reads such an address.

    Raises:
        MissingExtraError: fsspec, or the package that reads such addresses, is not installed.
        InputError: nobody knows such addresses.
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
            f"{shown(address)}: an unknown kind of address; s3://, gs:// and https:// are known"
        ) from error


def find(address: str, endings: tuple[str, ...]) -> Iterator[Found]:
    """The files at an address: of a folder or a pattern those with known endings, in order; else it itself."""
    try:
        with _as_data_error(address):
            yield from _files(address, endings)
    except DataError as error:
        yield Found(shown(address), address, error=str(error))


def fetch_all(addresses: Sequence[str], folder: Path, most: int) -> list[Path | DataError]:
    """Copy files from far away, some at once: where each is now, or why it is not; else as `fetch`."""

    def fetched(address: str, number: int) -> Path | DataError:
        path = folder / str(number)
        try:
            fetch(address, path, most)
        except DataError as error:
            return error
        return path

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(fetched, addresses, itertools.count()))


def fetch(address: str, to: Path, most: int) -> None:
    """Copy a file from far away.

    Args:
        address: where it is.
        to: where it is written.
        most: bytes that it may have; no more than some blocks beyond them are fetched.

    Raises:
        DataError: it cannot be had, is larger, or has no room here.
    """
    from fsspec import Callback  # noqa: PLC0415 - an extra

    def check_size(size: int | None, fetched: int, **_: object) -> None:
        if max(size or 0, fetched) > most:
            raise tempdirs.too_large(shown(address), most)

    with _as_data_error(address):
        files, path = _opened(address)
        files.get_file(path, str(to), callback=Callback(hooks={"size": check_size}))


def put(file: Path, address: str) -> None:
    """Copy a file to far away.

    Raises:
        InputError: it cannot be written there.
    """
    with _as_data_error(address):
        files, path = _opened(address)
        files.put_file(str(file), path)


@contextmanager
def arriving(place: str) -> Iterator[Path]:
    """A file of this machine that takes its place, at a path or an address, when it is whole; raises InputError."""
    if not is_address(place):
        with replacing(Path(place)) as temporary:
            yield temporary
        return
    with tempdirs.folder() as folder:
        path = folder / f"table{Path(place).suffix}"
        yield path
        put(path, place)


def matches(pattern: str) -> list[str]:
    """The addresses of the files that a pattern stands for; raises InputError where that cannot be told."""
    with _as_data_error(pattern):
        files, path = _opened(pattern)
        return [files.unstrip_protocol(name) for name in files.glob(path)]


def remove(address: str) -> None:
    """Take a file away; raises InputError."""
    with _as_data_error(address):
        files, path = _opened(address)
        files.rm_file(path)


def exists(address: str) -> bool:
    """Whether there is a file; raises InputError where that cannot be told."""
    with _as_data_error(address):
        files, path = _opened(address)
        return bool(files.exists(path))


def shown(address: str) -> str:
    """An address without what may be secret in it."""
    if not is_address(address):
        return address
    scheme, _, rest = address.partition("://")
    if scheme in {"http", "https"}:
        rest = rest.partition("?")[0]
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"


def _files(address: str, endings: tuple[str, ...]) -> Iterator[Found]:
    files, path = _opened(address)
    if address.startswith(_WEB):
        yield Found(shown(address), address)
    elif any(mark in path for mark in "*?["):
        for name, detail in sorted(files.glob(path, detail=True).items()):
            if detail["type"] == "file":
                yield _found(files.unstrip_protocol(name), detail)
    elif files.isdir(path):
        yield from _inside(files, path, endings)
    else:
        yield _found(address, files.info(path))


def _inside(files: Any, folder: str, endings: tuple[str, ...]) -> Iterator[Found]:  # noqa: ANN401 - fsspec has no types
    for detail in sorted(files.ls(folder, detail=True), key=lambda detail: str(detail["name"])):
        name = detail["name"]
        if detail["type"] == "directory" and name.rstrip("/") != folder.rstrip("/"):
            yield from _inside(files, name, endings)
        elif detail["type"] == "file" and name.lower().endswith(endings):
            yield _found(files.unstrip_protocol(name), detail)


def _found(address: str, detail: dict[str, Any]) -> Found:
    changed = detail.get("ETag") or detail.get("LastModified") or detail.get("mtime") or ""
    return Found(shown(address), address, f"{detail.get('size')}-{changed}")


def _opened(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra

    options: dict[str, object] = {"use_listings_cache": False}
    if address.startswith(_WEB):
        from aiohttp import ClientTimeout  # noqa: PLC0415 - an extra

        # Else a video must be there within five minutes.
        options["client_kwargs"] = {"timeout": ClientTimeout(total=None, sock_connect=_SILENT_S, sock_read=_SILENT_S)}
    files, path = url_to_fs(address, **options)
    return files, path


@contextmanager
def _as_data_error(address: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise tempdirs.no_room(shown(address), error) from error
        raise DataError(f"{shown(address)}: cannot be reached ({_reason(address, error)})") from error


def _reason(address: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    # It may name the address in another spelling, and with it what is secret there.
    return re.sub(r"[a-z][a-z0-9+.-]*://[^\s'\")]*", shown(address), first_line(error))
