"""Read orientation and date from EXIF blocks (CIPA DC-008) with Pillow."""

from __future__ import annotations

import importlib.util
import warnings
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from fer_edge.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX: Final = b"Exif\0\0"
MAX_BLOCK: Final = 1 << 16  # bytes; a JPEG's segment holds no more
_ORIENTATION, _DATE_TIME, _EXIF_IFD, _DATE_TIME_ORIGINAL = 0x0112, 0x0132, 0x8769, 0x9003


def is_available() -> bool:
    """Return whether Pillow is installed."""
    return importlib.util.find_spec("PIL") is not None


def require_pillow() -> None:
    """Check that EXIF blocks can be read.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    if not is_available():
        raise MissingExtraError("Pillow", "tag")


def read_orientation(block: bytes) -> int:
    """Return the orientation in an EXIF block, 1..8; 1 if it has none.

    Args:
        block: The block, which begins with `PREFIX`, at most `MAX_BLOCK` bytes of which are read.
    """
    main, _ = _read_tags(block)
    orientation = main.get(_ORIENTATION)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def read_date(block: bytes) -> datetime | None:
    """Return when the photo was taken, in the local time of the camera; None if an EXIF block does not tell."""
    main, details = _read_tags(block)
    text = details.get(_DATE_TIME_ORIGINAL) or main.get(_DATE_TIME)
    try:
        return datetime.strptime(str(text)[:19], "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007 - cameras write local time
    except ValueError:
        return None


def _read_tags(block: bytes) -> tuple[Mapping[int, Any], Mapping[int, Any]]:
    """Return the tags of the main directory and of the EXIF directory; none of a malformed block."""
    if not block:
        return {}, {}
    from PIL import Image  # noqa: PLC0415 - an extra

    exif = Image.Exif()
    try:
        with warnings.catch_warnings(action="ignore"):  # Pillow warns of damaged blocks
            exif.load(block[:MAX_BLOCK])
            # Values are decoded here, because decoding may fail too.
            return dict(exif), dict(exif.get_ifd(_EXIF_IFD))
    except Exception:  # noqa: BLE001 - a malformed block makes Pillow raise errors of many kinds
        return {}, {}
