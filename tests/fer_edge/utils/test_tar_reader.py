from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import DataError
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.tar_reader import tar_members

from .memory import bounded_memory

if TYPE_CHECKING:
    from collections.abc import Callable

PACKERS = (bytes, gzip.compress, bz2.compress, lzma.compress)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.USTAR_FORMAT)


def tarred(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def contents(path: Path, archive: bytes) -> list[tuple[int, str, bytes]]:
    path.write_bytes(archive)
    return [(member.position, member.name, member.read(1 << 20)) for member in tar_members(path)]


@pytest.mark.parametrize("pack", PACKERS)
def test_reads_archives_of_every_compression(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    long = "x" * 200 + ".png"
    archive = tarred(("a.png", b"abc"), (long, b"z" * 2000), ("é.png", b""))
    expected = [(0, "a.png", b"abc"), (1, long, b"z" * 2000), (2, "é.png", b"")]
    assert contents(tmp_path / "a.tar", pack(archive)) == expected
    # Packed in two parts, as `cat a.gz b.gz` does, and padded.
    assert contents(tmp_path / "b.tar", pack(archive[:700]) + pack(archive[700:]) + bytes(512)) == expected


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_refuses_headers_of_gigabytes(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "bomb.tar.xz"
    with lzma.open(path, "wb", preset=0) as file:
        file.write(header("x", 1 << 30, kind))
        for _ in range(64):
            file.write(bytes(1 << 20))
    with bounded_memory(), pytest.raises(UnpackError, match="headers are too large"):
        list(tar_members(path))


def test_refuses_many_headers_before_one_member(tmp_path: Path) -> None:
    many = b"".join(header("x", 512, tarfile.GNUTYPE_LONGNAME) + b"y" * 512 for _ in range(2000))
    with pytest.raises(UnpackError):
        contents(tmp_path / "a.tar", many + tarred(("a", b"")))


def test_refuses_streams_that_unpack_to_far_more_than_their_size(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb") as file:
        file.write(header("a.png", 1 << 30))
        for _ in range(128):
            file.write(bytes(1 << 20))
    with pytest.raises(UnpackError, match="100 times its size"):
        list(tar_members(path))


def test_does_not_go_back_in_a_loop(tmp_path: Path) -> None:
    """A header may say that the next member lies before it."""
    pax = b"%d size=%d\n" % (len(b"19 size=-1024000000\n"), -1024000000)
    archive = header("p", len(pax), tarfile.XHDTYPE) + pax.ljust(512, b"\0") + header("a.png", 0)
    with pytest.raises(UnpackError):
        contents(tmp_path / "a.tar", archive + tarred(("b.png", b"x")))


@pytest.mark.parametrize("archive", [b"", b"x", b"\x1f\x8b\x08\0", b"BZh9junk", b"\xfd7zXZ\0junk"])
def test_reports_every_damage_as_one_error(tmp_path: Path, archive: bytes) -> None:
    with pytest.raises(UnpackError) as caught:
        contents(tmp_path / "a.tar", archive)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_leaves_out_links_and_sparse_files(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert contents(tmp_path / "a.tar", file.getvalue()) == []


def test_refuses_a_device() -> None:
    with pytest.raises(DataError, match="device, pipe or socket"):
        list(tar_members(Path("/dev/zero")))
