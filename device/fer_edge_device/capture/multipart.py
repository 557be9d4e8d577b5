"""Split a Motion JPEG stream into images, with bounded memory."""

from __future__ import annotations

import re
from typing import Final

MAX_IMAGE: Final = 16 << 20  # bytes; a photo of 24 megapixels in high quality has about 10 million
_MAX_HEAD: Final = 16_384  # bytes from the end of an image to the beginning of the next
_LENGTH: Final = re.compile(rb"(?im)^content-length:[ \t]*(\d{1,12})[ \t]*\r?$")
_BLANK_LINE: Final = re.compile(rb"\r?\n\r?\n")
_BOUNDARY: Final = re.compile(rb"--[^\r\n]")
_NEXT_JPEG: Final = re.compile(rb"(?<=\xff\xd9)(?=\xff\xd8)")
_DELIMITER: Final = re.compile(rb"\r?\n--[^\r\n]")


class TooLargeError(Exception):
    """Raised when a part is too large to be an image of a camera."""


class MultipartReader:
    """Cuts the body of a ``multipart/x-mixed-replace`` response into images (RFC 2046).

    As cameras disagree on the spelling of the boundary, every line that begins with two hyphens counts as one, but
    nothing within the length that a part declares.
    """

    def __init__(self, *, bare: bool = False) -> None:
        """Start without data.

        Args:
            bare: whether the body is one JPEG, or several behind one another, without anything between them.
        """
        self._data = bytearray()
        self._bare, self._ended = bare, False
        self._length: int | None = None  # of the present part, if it declares one
        self._in_part = bare
        self._searched = 0

    def feed(self, data: bytes) -> None:
        """Add bytes of the body."""
        self._data += data

    def end(self) -> bool:
        """Say that the body has ended, and return whether this may complete an image."""
        first, self._ended = not self._ended, True
        return first and self._in_part and bool(self._data)

    def next_image(self) -> bytes:
        """Return the next complete image; empty if more of the body is needed.

        Raises:
            TooLargeError: a part is too large.
        """
        while True:
            if not self._in_part and not self._read_head():
                return b""
            image = self._read_part()
            if image is None:
                return b""
            self._in_part, self._length, self._searched = self._bare, None, 0
            if image:
                return image

    def _read_head(self) -> bool:
        """Read up to the blank line before an image, and return whether it was there."""
        boundary = _BOUNDARY.search(self._data)
        found = boundary and _BLANK_LINE.search(self._data, boundary.end())
        if not found:
            if len(self._data) > _MAX_HEAD:
                raise TooLargeError(f"sends more than {_MAX_HEAD:,} bytes between two images")
            return False
        length = _LENGTH.search(self._data, 0, found.end())
        self._length = int(length[1]) if length else None
        if self._length is not None and self._length > MAX_IMAGE:
            raise TooLargeError(f"announces an image of {self._length:,} bytes; at most {MAX_IMAGE:,} are read")
        del self._data[: found.end()]
        self._in_part, self._searched = True, 0
        return True

    def _read_part(self) -> bytes | None:
        """Return the present part; None if more of the body is needed."""
        if self._length is not None:
            end = self._length if len(self._data) >= self._length else -1
        else:
            found = (_NEXT_JPEG if self._bare else _DELIMITER).search(self._data, self._searched)
            end = found.start() if found else (self._ended and len(self._data)) or -1
        if end > MAX_IMAGE or (end < 0 and len(self._data) > MAX_IMAGE):
            raise TooLargeError(f"sends an image of more than {MAX_IMAGE:,} bytes")
        if end < 0:
            # A delimiter may have arrived in part.
            self._searched = max(len(self._data) - 4, 0)
            return None
        image = bytes(self._data[:end])
        del self._data[:end]
        return image
