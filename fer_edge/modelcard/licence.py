"""Stating the licence of a model on its card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from fer_edge.errors import InputError, ModelError
from fer_edge.modelcard.archive import attached_members, check_flatbuffer, model_bytes, with_card
from fer_edge.modelcard.reader import read_any_card
from fer_edge.utils.atomic_file import replacing

if TYPE_CHECKING:
    from pathlib import Path

_MAX_LENGTH: Final = 1000  # characters, as on the card


def set_licence(path: Path, licence: str) -> None:
    """State the licence on the card of a ``.tflite`` file; everything else in the file stays the same.

    Args:
        path: the file, which is replaced completely or left unchanged.
        licence: terms of use, in one line; empty for none.

    Raises:
        InputError: the licence is not one line, or is too long.
        ModelError: the file is missing or damaged, has no card, or is not a ``.tflite``.
    """
    if not licence.isprintable() or len(licence) > _MAX_LENGTH:
        raise InputError(f"--licence takes one line of at most {_MAX_LENGTH} characters, such as MIT or Apache-2.0")
    card, flatbuffer = read_any_card(path), model_bytes(path)
    if not flatbuffer:
        raise ModelError(f"{path}: not a .tflite; convert the model first, and set the licence of the result")
    check_flatbuffer(path, card, flatbuffer)
    content = with_card(flatbuffer, replace(card, licence=licence), attached_members(path))
    with replacing(path) as temporary:
        temporary.write_bytes(content)
