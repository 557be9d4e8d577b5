"""The archive behind a model file, where its card, labels and second stage are."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import DAMAGED_ZIP, InputError, ModelError, first_line
from fer_edge.modelcard.schema import AnyCard, ClassifierCard, DetectorCard, RefinerCard
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.validation import explain

if TYPE_CHECKING:
    from collections.abc import Sequence


CARD_NAME: Final = "fer_edge.json"
LABELS_NAME: Final = "labels.txt"
REFINER_NAME: Final = "refiner.tflite"  # the second stage of a face detector, in the same archive
_MAX_CARD_BYTES: Final = 1 << 20
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first date a zip can hold: same bytes every time
_KINDS: Final = {
    ClassifierCard: "a classifier of faces",
    DetectorCard: "a face detector",
    RefinerCard: "the second stage of a face detector",
}


# Made here, by one thread: msgspec crashes where two are the first to decode a type.
_DECODER: Final = msgspec.json.Decoder(AnyCard)


def read_any_card(path: Path) -> AnyCard:
    """Read the card from a ``.tflite`` or ``.keras`` file, whatever the model does.

    Raises:
        ModelError: there is no such file, or it has no card, or a damaged one.
    """
    ensure_file(path)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(CARD_NAME) as member:
            text = member.read(_MAX_CARD_BYTES)
    except (*DAMAGED_ZIP, KeyError, OSError) as error:
        raise ModelError(
            f"{path}: no model card in it; the file was cut short or was not made by `fer-edge convert`"
            " (a .tflite) or `fer-edge train` (a .keras): make it again with that command,"
            " or say what a .tflite of others takes by `fer-edge card set`"
        ) from error
    try:
        card: AnyCard = _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: damaged model card ({explain(error, AnyCard).message}); make the model again"
        ) from error
    return card


def read_card(path: Path) -> ClassifierCard:
    """Read a classifier's card from a ``.tflite`` or ``.keras`` file.

    Raises:
        ModelError: there is no such file, it has no card, or a damaged one, or it is no classifier.
    """
    card = read_any_card(path)
    if not isinstance(card, ClassifierCard):
        raise ModelError(f"{path}: {_KINDS[type(card)]}; give a classifier here, such as edge.tflite")
    return card


def ensure_file(path: Path) -> None:
    """Refuse a model that is not there.

    Raises:
        ModelError: there is no such file, or it is a folder, a device or a pipe.
    """
    if not path.is_file():
        raise ModelError(f"{path}: {'not a file' if path.exists() else 'no such model file'}")


def is_detector(path: Path) -> bool:
    """Whether a file says of itself that it finds faces."""
    try:
        return isinstance(read_any_card(path), DetectorCard)
    except ModelError:
        return False


def read_detector_card(path: Path) -> DetectorCard:
    """Read a face detector's card from a ``.tflite`` or ``.keras`` file.

    Raises:
        ModelError: there is no such file, it has no card, or a damaged one, or it finds no faces.
    """
    card = read_any_card(path)
    if not isinstance(card, DetectorCard):
        raise ModelError(f"{path}: {_KINDS[type(card)]}; give a face detector here, such as faces.tflite")
    return card


def is_refiner(path: Path) -> bool:
    """Whether a file says of itself that it is the second stage of a face detector."""
    try:
        return isinstance(read_any_card(path), RefinerCard)
    except ModelError:
        return False


def read_refiner_card(path: Path) -> RefinerCard:
    """Read the card of a face detector's second stage from its ``.keras`` file.

    Raises:
        ModelError: there is no such file, it has no card, or a damaged one, or it is something else.
    """
    card = read_any_card(path)
    if not isinstance(card, RefinerCard):
        raise ModelError(f"{path}: {_KINDS[type(card)]}; give what `fer-edge train-refiner` made")
    return card


def write_card(path: Path, card: AnyCard) -> None:
    """Add a card to a model file that has none; the file is replaced whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(with_card(path.read_bytes(), card))


def with_card(model: bytes, card: AnyCard, attached: Sequence[tuple[zipfile.ZipInfo, bytes]] = ()) -> bytes:
    """A model file's content with a card behind it, and what else is attached; the same bytes each time."""
    content = io.BytesIO()
    content.write(model)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        for info, data in attached:
            archive.writestr(info, data)
        text = msgspec.json.format(msgspec.json.encode(card), indent=1)
        # A self-test's row of numbers is one line of text; nothing else in a card has such lines.
        text = re.sub(rb"\[\n[\s\d,.e+-]+\]", lambda row: b"".join(row[0].split()), text)
        archive.writestr(zipfile.ZipInfo(CARD_NAME, _EPOCH), text)
        if isinstance(card, ClassifierCard):
            archive.writestr(zipfile.ZipInfo(LABELS_NAME, _EPOCH), "".join(f"{label}\n" for label in card.labels))
    return content.getvalue()


def has_card(path: Path) -> bool:
    """Whether a card is in a model file, be it damaged or not."""
    try:
        with zipfile.ZipFile(path) as archive:
            return CARD_NAME in archive.namelist()
    except (*DAMAGED_ZIP, OSError):
        return False


def refiner_bytes(path: Path) -> bytes:
    """The flatbuffer of a face detector's second stage, from its ``.tflite`` file.

    Raises:
        ModelError: it is not there, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(REFINER_NAME)
    except (*DAMAGED_ZIP, KeyError, OSError) as error:
        raise ModelError(
            f"{path}: its card tells of a second stage, but {REFINER_NAME} is not in it or damaged; copy or make the"
            " file again"
        ) from error


def with_refiner(detector: bytes, card: DetectorCard, refiner: bytes) -> bytes:
    """A face detector's file with its second stage and a card that tells of both; the same bytes each time."""
    return with_card(detector, card, [(zipfile.ZipInfo(REFINER_NAME, _EPOCH), refiner)])


def check_flatbuffer(path: Path, card: AnyCard, flatbuffer: bytes) -> None:
    """Compare a flatbuffer with its hash on the card: older runtimes crash the process on a damaged one.

    Raises:
        ModelError: they do not belong together.
    """
    if card.flatbuffer_sha256 not in {"", hashlib.sha256(flatbuffer).hexdigest()}:
        raise ModelError(f"{path}: damaged, its content is not what its card says; copy or make it again")


def read_labels(given: str) -> tuple[str, ...]:
    """Labels from ``angry,disgust,...``, or from a file with one a line.

    Raises:
        InputError: there are fewer than two, or the file cannot be read.
    """
    file = Path(given)
    try:
        text = given.replace(",", "\n") if "," in given else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--labels {given}: give angry,disgust,... or a file with one a line; there is no such file that can be"
            f" read ({first_line(error)})"
        ) from error
    labels = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(labels) < 2:
        raise InputError(f"--labels {given}: give at least two, as angry,disgust,... or a file with one a line")
    return labels


def attached_by_others(path: Path) -> list[tuple[zipfile.ZipInfo, bytes]]:
    """What is in the archive behind a ``.tflite`` besides a card; nothing where there is no archive.

    Raises:
        ModelError: some of it is damaged.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        return []
    try:
        with archive:
            others = [info for info in archive.infolist() if info.filename not in {CARD_NAME, LABELS_NAME}]
            return [(info, archive.read(info)) for info in others]
    except (*DAMAGED_ZIP, OSError) as error:
        raise ModelError(
            f"{path}: something in the archive behind the model is damaged ({first_line(error)}); copy or make it again"
        ) from error


def attached_labels(path: Path) -> tuple[str, ...]:
    """The labels of a file with TFLite metadata, which are the one text file that is attached; empty without."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".txt")]
            text = archive.read(names[0]).decode(errors="replace") if len(names) == 1 else ""
    except (*DAMAGED_ZIP, OSError):
        return ()
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def model_bytes(path: Path) -> bytes:
    """The flatbuffer of a ``.tflite`` file, without the archive behind it."""
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            end = min((info.header_offset for info in archive.infolist()), default=len(data))
    except zipfile.BadZipFile:
        return data
    return data[:end]
