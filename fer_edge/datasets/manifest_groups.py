"""The groups of faces in ``manifest.json``, which a review writes beside the class folders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.datasets.class_folders import MANIFEST
from fer_edge.errors import DataError, first_line
from fer_edge.utils.bounded_file import read_bytes

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES: Final = 1 << 30


class _Face(msgspec.Struct):
    """What is used of a face: its path in the folder, and what it stays together with."""

    file: str
    group: str = ""


class _Manifest(msgspec.Struct):
    """What is used of a manifest."""

    faces: list[_Face]


def has_manifest(folder: Path) -> bool:
    """Return whether a review has written a dataset folder."""
    return (folder / MANIFEST).is_file()


def read_groups(folder: Path) -> dict[str, str]:
    """Return the group of each face of a dataset folder, by its path in the folder; empty if it belongs to none.

    Raises:
        DataError: the manifest cannot be read.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(read_bytes(path, _MAX_BYTES), type=_Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(
            f"{path}: not the manifest of a review ({first_line(error)}); export the review again"
        ) from error
    return {face.file: face.group for face in manifest.faces}
