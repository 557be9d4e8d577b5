"""Reading the card of a model file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from fer_edge.errors import ModelError
from fer_edge.modelcard.archive import card_text
from fer_edge.modelcard.schema import AnyCard, ClassifierCard, DetectorCard, RefinerCard
from fer_edge.utils.validation import explain

if TYPE_CHECKING:
    from pathlib import Path

CardT = TypeVar("CardT", ClassifierCard, DetectorCard, RefinerCard)

_DESCRIPTION: Final[dict[type[AnyCard], str]] = {
    ClassifierCard: "an expression classifier",
    DetectorCard: "a face detector",
    RefinerCard: "the second stage of a face detector",
}
_ADVICE: Final[dict[type[AnyCard], str]] = {
    ClassifierCard: "give a classifier here, such as edge.tflite",
    DetectorCard: "give a face detector here, such as faces.tflite",
    RefinerCard: "give the model that `fer-edge train-refiner` made",
}
# Created when the module is imported, by one thread: msgspec crashes if two threads are the first to decode a type.
_DECODER: Final = msgspec.json.Decoder(AnyCard)


def read_any_card(path: Path) -> AnyCard:
    """Read the card of a ``.tflite`` or ``.keras`` file of any kind.

    Raises:
        ModelError: the file is missing, or its card is missing or damaged.
    """
    ensure_file(path)
    text = card_text(path)
    if text is None:
        raise ModelError(
            f"{path}: no model card in it; the file was cut short or was not made by `fer-edge convert`"
            " (a .tflite) or `fer-edge train` (a .keras): make it again with that command,"
            " or add a card to a .tflite from elsewhere with `fer-edge card set`"
        )
    try:
        card: AnyCard = _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: damaged model card ({explain(error, AnyCard).message}); make the model again"
        ) from error
    except RecursionError as error:
        raise ModelError(f"{path}: damaged model card (it is nested too deeply); make the model again") from error
    return card


def read_card(path: Path, kind: type[CardT]) -> CardT:
    """Read the card of a ``.tflite`` or ``.keras`` file of one kind.

    Args:
        path: the model file.
        kind: the expected class of card.

    Raises:
        ModelError: the file is missing, its card is missing or damaged, or the model is of another kind.
    """
    card = read_any_card(path)
    if not isinstance(card, kind):
        raise ModelError(f"{path}: {_DESCRIPTION[type(card)]}; {_ADVICE[kind]}")
    return card


def is_model_of(path: Path, kind: type[AnyCard]) -> bool:
    """Return whether a file has a readable card of one kind."""
    try:
        return isinstance(read_any_card(path), kind)
    except ModelError:
        return False


def ensure_file(path: Path) -> None:
    """Check that a model file exists.

    Raises:
        ModelError: there is no such file, or the path is a folder, a device or a pipe.
    """
    if not path.is_file():
        raise ModelError(f"{path}: {'not a file' if path.exists() else 'no such model file'}")
