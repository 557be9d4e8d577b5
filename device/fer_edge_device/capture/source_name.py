"""Parsing the name of a source."""

from __future__ import annotations

import re


def is_camera(source: str) -> bool:
    """Return whether a source is live: a camera of this machine or a stream."""
    return source == "auto" or module_number(source) is not None or is_stream(source) or is_node(source)


def is_stream(source: str) -> bool:
    """Return whether a source is an address."""
    return "://" in source


def is_node(source: str) -> bool:
    """Return whether a source is the number or the path of a video node."""
    return is_number(source) or source.startswith("/dev/")


def is_number(text: str) -> bool:
    """Return whether a text is the number of a video node."""
    return text.isascii() and text.isdecimal() and len(text) < 4


def module_number(source: str) -> int | None:
    """Return the module's number in a source ``picamera2`` or ``picamera2:N``; None for any other source."""
    match = re.fullmatch(r"picamera2(?::([0-9]{1,3}))?", source)
    return int(match[1] or 0) if match else None


def display_name(source: str) -> str:
    """Return the name of a source without what may be secret: of an address, only the scheme and the host."""
    scheme, separator, rest = source.partition("://")
    if separator:
        host, *after = re.split("[/?#]", rest, maxsplit=1)
        # A password may contain any character. With an @ further on, its end is uncertain.
        return f"{scheme}://{'...' if '@' in ''.join(after) else host.rpartition('@')[2]}"
    return scheme.rpartition("@")[2]
