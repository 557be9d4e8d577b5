"""The zip archive behind a model's flatbuffer: writing a card, and reading and keeping the other members."""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import re
import zipfile
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import DataError, ModelError
from fer_edge.modelcard.card_labels import by_number
from fer_edge.modelcard.schema import AnyCard, ClassifierCard, DetectorCard
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.bounded_file import open_regular, read_bytes
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.limits import CARD_BYTES, MODEL_BYTES, TEXT_BYTES
from fer_edge.utils.zip_reader import ZipReader, open_zip

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CARD_NAME: Final = "fer_edge.json"
LABELS_NAME: Final = "labels.txt"
REFINER_NAME: Final = "refiner.tflite"  # the second stage of a face detector, in the same archive
_LEVEL: Final = 9  # of compression
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first date that a zip can hold, so that the bytes are always the same


def write_card(path: Path, card: AnyCard) -> None:
    """Add a card to a model file that has none; the file is replaced completely or left unchanged."""
    with replacing(path) as temporary:
        temporary.write_bytes(with_card(path.read_bytes(), card))


def with_card(model: bytes, card: AnyCard, attached: Sequence[tuple[zipfile.ZipInfo, bytes]] = ()) -> bytes:
    """Return a model file's content with a card appended.

    The same arguments always give the same bytes, with the same zlib.

    Args:
        model: content of the file without a card.
        card: the card to append.
        attached: other members of the archive, as `attached_members` returns them.
    """
    content = io.BytesIO()
    content.write(model)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        for info, data in attached:
            archive.writestr(info, data)
        text = msgspec.json.format(msgspec.json.encode(card), indent=1)
        # Put each row of a self-test's numbers on one line; no other part of a card matches this pattern.
        text = re.sub(rb"\[\n[\s\d,.e+-]+\]", lambda row: b"".join(row[0].split()), text)
        # The history of a model repeats itself: a card shrinks to a quarter.
        archive.writestr(zipfile.ZipInfo(CARD_NAME, _EPOCH), text, zipfile.ZIP_DEFLATED, _LEVEL)
        if isinstance(card, ClassifierCard):
            archive.writestr(zipfile.ZipInfo(LABELS_NAME, _EPOCH), "".join(f"{label}\n" for label in card.labels))
    return content.getvalue()


def has_card(path: Path) -> bool:
    """Return whether a model file contains a card, damaged or not."""
    try:
        with open_zip(path) as archive:
            if archive.find(CARD_NAME) is not None:
                return True
    except UnpackError:
        pass
    except DataError:
        return False
    return _names_card(path)


def _names_card(path: Path) -> bool:
    """Return whether a file contains the name of the card; if its archive cannot be read, the card is damaged."""
    with open_regular(path, ModelError) as file:
        if not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:  # a .keras may be larger than memory
            return content.rfind(CARD_NAME.encode()) >= 0


def with_refiner(detector: bytes, card: DetectorCard, refiner: bytes) -> bytes:
    """Return the content of a face detector's file with its second stage and card appended.

    The same arguments always give the same bytes.

    Args:
        detector: flatbuffer of the first stage.
        card: card of the detector, including the refiner's card.
        refiner: flatbuffer of the second stage.
    """
    return with_card(detector, card, [(zipfile.ZipInfo(REFINER_NAME, _EPOCH), refiner)])


def read_model(path: Path) -> bytes:
    """Read a whole model file.

    Raises:
        ModelError: the file is missing, is not a regular file, or is too large.
    """
    return read_bytes(path, MODEL_BYTES, ModelError)


def card_text(path: Path) -> bytes | None:
    """Read the card in a ``.tflite`` or ``.keras`` file, without decoding it; None if there is no card.

    Raises:
        ModelError: the file cannot be read, or the card is damaged or too large.
    """
    reason = "its archive does not list it"
    try:
        with open_zip(path, ModelError) as archive:
            if member := archive.find(CARD_NAME):
                return member.read(CARD_BYTES)
    except UnpackError as error:
        reason = str(error)
    if has_card(path):
        raise ModelError(f"{path}: damaged model card ({reason}); copy or make the model again")
    return None


def refiner_bytes(path: Path) -> bytes:
    """Read the flatbuffer of a face detector's second stage from its ``.tflite`` file.

    Raises:
        ModelError: the second stage is missing or damaged.
    """
    try:
        member = _open_archive(read_model(path)).find(REFINER_NAME)
        if member is not None:
            return member.read(MODEL_BYTES)
        reason = ""
    except UnpackError as error:
        reason = f" ({error})"
    raise ModelError(
        f"{path}: the card describes a second stage, but {REFINER_NAME} is missing from the file or damaged{reason};"
        " copy or make the file again"
    )


def model_bytes(path: Path) -> bytes:
    """Read the flatbuffer of a ``.tflite`` file, without the archive behind it."""
    data = read_model(path)
    try:
        return data[: _open_archive(data).start]
    except UnpackError:
        return data


def check_flatbuffer(path: Path, card: AnyCard, flatbuffer: bytes) -> None:
    """Compare a flatbuffer with the hash on its card; older runtimes crash the process on a damaged one.

    Raises:
        ModelError: the hash differs.
    """
    if card.flatbuffer_sha256 not in {"", hashlib.sha256(flatbuffer).hexdigest()}:
        raise ModelError(f"{path}: damaged, the content does not match its card; copy or make the file again")


def attached_members(path: Path) -> list[tuple[zipfile.ZipInfo, bytes]]:
    """Read the members of the archive behind a ``.tflite`` other than the card and its labels.

    Returns:
        An empty list if the file has no archive.

    Raises:
        ModelError: a member is damaged, or they are too large.
    """
    data = read_model(path)
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return []
    left = MODEL_BYTES
    attached = []
    try:
        archive = _open_archive(data)
        for member in archive.members:
            if member.name not in {CARD_NAME, LABELS_NAME}:
                content = member.read(left)
                left -= len(content)
                attached.append((archive.attributes(member), content))
    except UnpackError as error:
        raise ModelError(
            f"{path}: the archive behind the model is damaged ({error}); copy or make the file again"
        ) from error
    return attached


def attached_labels(path: Path) -> tuple[str, ...]:
    """Read the labels from standard TFLite metadata: the only text file in the archive, with or without numbers.

    Returns:
        The labels in the order of their numbers; an empty tuple if there is no such file.
    """
    try:
        texts = [member for member in _open_archive(read_model(path)).members if member.name.endswith(".txt")]
        text = texts[0].read(TEXT_BYTES).decode("utf-8-sig", errors="replace") if len(texts) == 1 else ""
    except UnpackError:
        return ()
    return by_number([line.strip() for line in text.splitlines() if line.strip()])


def _open_archive(model: bytes) -> ZipReader:
    """Open the archive behind a flatbuffer.

    Raises:
        UnpackError: there is none, or a damaged one.
    """
    return ZipReader(io.BytesIO(model))
