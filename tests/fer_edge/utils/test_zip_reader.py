from __future__ import annotations

import bz2
import io
import struct
import zipfile
from typing import TYPE_CHECKING

import pytest

from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.zip_reader import ZipReader

from .memory import bounded_memory

if TYPE_CHECKING:
    from collections.abc import Callable

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
TEXT = b"".join(b"%d\n" % number for number in range(30_000))


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def read(archive: bytes, max_bytes: int = 1 << 30) -> bytes:
    (member,) = ZipReader(io.BytesIO(archive)).members
    return member.read(max_bytes)


def set_in_headers(archive: bytes, local: int, central: int, value: bytes) -> bytes:
    """Overwrite a field of the only member in both of its headers."""
    changed = bytearray(archive)
    directory = archive.rindex(b"PK\1\2")
    changed[local : local + len(value)] = value
    changed[directory + central : directory + central + len(value)] = value
    return bytes(changed)


@pytest.mark.parametrize("method", METHODS)
def test_reads_members_of_every_method(method: int) -> None:
    archive = zipped(("folder/", b""), ("a.txt", TEXT), ("b.txt", b""), method=method)
    reader = ZipReader(io.BytesIO(b"model" + archive))
    assert [member.name for member in reader.members] == ["a.txt", "b.txt"]
    assert reader.start == len(b"model")
    found = reader.find("a.txt")
    assert found is not None
    assert found.read(len(TEXT)) == TEXT
    with found.open() as file:
        assert file.readline() == b"0\n"
    assert reader.members[1].read(0) == b""
    assert reader.find("c.txt") is None
    with pytest.raises(UnpackError, match="would unpack to"):
        found.read(len(TEXT) - 1)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_gives_no_more_than_the_headers_say(method: int) -> None:
    bomb = zipped(("a", bytes(200 << 20)), method=method)
    lie = set_in_headers(bomb, 22, 24, struct.pack("<I", 1000))
    with bounded_memory(), pytest.raises(UnpackError, match="more than its directory says"):
        read(lie)
    with bounded_memory(), pytest.raises(UnpackError, match="would unpack to 210 MB"):
        read(bomb)


def test_refuses_a_packed_size_larger_than_the_file() -> None:
    bomb = zipped(("a", bytes(200 << 20)))
    with pytest.raises(UnpackError, match="would unpack to"):
        read(set_in_headers(bomb, 18, 20, struct.pack("<I", 0x7FFFFFFF)))


def test_refuses_an_lzma_dictionary_of_gigabytes() -> None:
    archive = zipped(("a", TEXT), method=zipfile.ZIP_LZMA)
    at = archive.index(b"\x05\x00\x5d") + 3
    with pytest.raises(UnpackError, match="too much memory"):
        read(archive[:at] + b"\xff\xff\xff\xff" + archive[at + 4 :])


def test_refuses_a_directory_larger_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_edge.utils.zip_reader.ARCHIVE_DIRECTORY_BYTES", 1 << 17)
    ZipReader(io.BytesIO(zipped(*((f"{number:050}", b"") for number in range(1000)))))
    with pytest.raises(UnpackError, match="directory is larger"):
        ZipReader(io.BytesIO(zipped(*((f"{number:050}", b"") for number in range(2000)))))


def with_empty_name(archive: bytes) -> bytes:
    """Give the only member, whose name has one letter, an empty name."""
    directory, end = archive.rindex(b"PK\1\2"), archive.rindex(b"PK\5\6")
    changed = bytearray(archive)
    changed[directory + 28 : directory + 30] = b"\0\0"
    changed[directory + 30 : directory + 32] = b"\1\0"  # the letter is now part of the extra field
    del changed[directory + 46 + 1 :]
    return bytes(changed) + archive[end:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda whole: set_in_headers(whole, 4, 6, b"\xff\0"), "version"),
        (lambda whole: set_in_headers(whole, 8, 10, b"\x63\0"), "unknown method"),
        (lambda whole: set_in_headers(whole, 6, 8, b"\1\0"), "encrypted"),
        (lambda whole: whole[:60] + bytes(40) + whole[100:], "invalid"),
        (lambda whole: whole[: len(whole) // 2], "not a zip"),
        (lambda whole: b"XX" + whole[2:], "directory is damaged"),
        (lambda _: b"", "not a zip"),
    ],
)
def test_reports_every_damage_as_one_error(change: Callable[[bytes], bytes], reason: str) -> None:
    with pytest.raises(UnpackError, match=reason) as caught:
        read(change(zipped(("a", TEXT))))
    assert "\n" not in str(caught.value)


def test_takes_a_member_without_a_name() -> None:
    reader = ZipReader(io.BytesIO(with_empty_name(zipped(("a", b"xyz")))))
    assert [member.name for member in reader.members] in ([""], [])


def test_ignores_what_bzip2_says_of_itself() -> None:
    """A header that lies about the size meets a stream of a gigabyte."""
    packed = bz2.compress(bytes(1 << 20)) * 64  # concatenated streams count as one member only up to the first end
    archive = zipped(("a", b"x" * 2304), method=zipfile.ZIP_BZIP2)
    inner = archive.index(b"BZh")
    assert len(packed) > 64
    with pytest.raises(UnpackError):
        read(archive[:inner] + packed[: archive.rindex(b"PK\1\2") - inner] + archive[archive.rindex(b"PK\1\2") :])


def test_refuses_members_that_share_their_bytes() -> None:
    """Sixty thousand members of one megabyte that all have the same bytes would unpack to any size."""
    archive = zipped(("a.txt", TEXT))
    at = archive.rindex(b"PK\1\2")
    end = archive.rindex(b"PK\5\6")
    directory = archive[at:end] * 2
    both = archive[:at] + directory + struct.pack("<4s4xHHIIH", b"PK\5\6", 2, 2, len(directory), at, 0)
    with pytest.raises(UnpackError, match="refused, its files share their bytes"):
        ZipReader(io.BytesIO(both))
    assert len(ZipReader(io.BytesIO(zipped(("a", b""), ("b", b""), ("c", b"x")))).members) == 3
