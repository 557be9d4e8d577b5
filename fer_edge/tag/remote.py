"""Addresses: pictures and tables in buckets and on web servers, through fsspec."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fer_edge.errors import DataError, InputError, MissingExtraError, first_line
from fer_edge.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WEB: Final = ("http://", "https://")


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


def read(addresses: Sequence[str]) -> list[bytes | DataError]:
    """The content of files of one kind of address, fetched at once where the kind allows."""
    paths: list[str] = []
    content: dict[str, object] = {}
    try:
        for address in addresses:
            files, path = _opened(address)
            paths.append(path)
        content = files.cat(paths, on_error="return")
    except Exception as error:  # noqa: BLE001 - each kind has errors of its own
        return [DataError(f"{shown(address)}: cannot be read ({_reason(address, error)})") for address in addresses]
    return [_bytes(address, content.get(path)) for address, path in zip(addresses, paths, strict=True)]


def fetch(address: str, to: Path) -> None:
    """Copy a file from far away; raises DataError."""
    with _as_data_error(address):
        files, path = _opened(address)
        files.get_file(path, str(to))


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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"table{Path(place).suffix}")
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

    files, path = url_to_fs(address, use_listings_cache=False)
    return files, path


def _bytes(address: str, content: object) -> bytes | DataError:
    if isinstance(content, bytes):
        return content
    return DataError(f"{shown(address)}: cannot be read ({_reason(address, content)})")


@contextmanager
def _as_data_error(address: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{shown(address)}: cannot be reached ({_reason(address, error)})") from error


def _reason(address: str, error: object) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    what = first_line(error) if isinstance(error, BaseException) else "no such file"
    return what.replace(address, shown(address))
