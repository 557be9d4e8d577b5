"""The card a model file carries, so that nothing on the device is configured twice.

A card is ``fer_edge.json`` and ``labels.txt`` in a zip archive appended to the
``.tflite`` file: any unzip tool reads it and every runtime ignores it.  A ``.keras``
file is a zip archive already and holds the same members.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import numpy as np

from fer_edge.errors import ModelError
from fer_edge.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

CARD_NAME: Final = "fer_edge.json"
LABELS_NAME: Final = "labels.txt"
_MAX_CARD_BYTES: Final = 1 << 20
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first date a zip can hold: same bytes every time

Positive = Annotated[int, msgspec.Meta(gt=0)]


class InputSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes: pixel values 0..255 become ``pixel * scale + offset``.

    Attributes:
        height: rows of the face picture.
        width: columns of the face picture.
        channels: 1 for grey, 3 for colour.
        scale: factor from a pixel value to the model's real-valued input.
        offset: what is added after the factor.
    """

    height: Positive
    width: Positive
    channels: Literal[1, 3] = 1
    scale: Annotated[float, msgspec.Meta(gt=0)]
    offset: float

    def normalise(self, faces: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Real-valued input of shape (n, height, width, channels) for faces, 0..255, of shape (n, height, width)."""
        real = faces.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        return np.repeat(real[..., None], self.channels, axis=-1)


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is, takes, says, scored and was made by.

    Attributes:
        schema: version of this structure.
        task: what the model does.
        name: name of the model, from its recipe.
        labels: names of the outputs, in order.
        input: what it takes.
        flatbuffer_sha256: of what comes before the card in a ``.tflite``, as hexadecimal digits; empty in a ``.keras``.
        scores: measured results by name, each 0..1 unless the name says otherwise.
        made_by: the commands that made the file, in order.
        data: what it was trained on.
        note: what a user should know.
    """

    schema: Literal[1] = 1
    task: Literal["expression"] = "expression"
    name: str
    labels: Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]
    input: InputSpec
    flatbuffer_sha256: str = ""
    scores: dict[str, float] = {}
    made_by: tuple[str, ...] = ()
    data: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        """Check what one field alone does not tell."""
        if len(set(self.labels)) != len(self.labels):
            message = "a label twice"
            raise ValueError(message)


def read_card(path: Path) -> Card:
    """Read the card from a ``.tflite`` or ``.keras`` file.

    Raises:
        ModelError: there is no such file, or it has no card, or a damaged one.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such model file")
    try:
        with zipfile.ZipFile(path) as archive, archive.open(CARD_NAME) as member:
            text = member.read(_MAX_CARD_BYTES)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, RuntimeError) as error:
        raise ModelError(
            f"{path}: no model card in it; the file was cut short or was not made by `fer-edge convert`"
            " (a .tflite) or `fer-edge train` (a .keras): make it again with that command"
        ) from error
    try:
        return msgspec.json.decode(text, type=Card)
    except msgspec.DecodeError as error:
        raise ModelError(f"{path}: damaged model card ({error}); make the model again") from error


def write_card(path: Path, card: Card) -> None:
    """Add a card to a model file that has none; the file is replaced whole or not at all."""
    content = io.BytesIO()
    content.write(path.read_bytes())
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        text = msgspec.json.format(msgspec.json.encode(card), indent=1)
        archive.writestr(zipfile.ZipInfo(CARD_NAME, _EPOCH), text)
        archive.writestr(zipfile.ZipInfo(LABELS_NAME, _EPOCH), "".join(f"{label}\n" for label in card.labels))
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())


def model_bytes(path: Path) -> bytes:
    """The flatbuffer of a ``.tflite`` file, without the archive behind it."""
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            end = min((info.header_offset for info in archive.infolist()), default=len(data))
    except zipfile.BadZipFile:
        return data
    return data[:end]
