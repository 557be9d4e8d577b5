"""The card a model file carries, so that nothing on the device is configured twice.

A card is ``fer_edge.json``, and a classifier's ``labels.txt``, in a zip archive appended to the
``.tflite`` file: any unzip tool reads it and every runtime ignores it.  A ``.keras``
file is a zip archive already and holds the same members.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import numpy as np

from fer_edge.classification.crop import AS_IT_IS, Framing
from fer_edge.errors import DAMAGED_ZIP, InputError, ModelError, first_line
from fer_edge.utils.atomic_file import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

CARD_NAME: Final = "fer_edge.json"
LABELS_NAME: Final = "labels.txt"
REFINER_NAME: Final = "refiner.tflite"  # the second stage of a face detector, in the same archive
_MAX_CARD_BYTES: Final = 1 << 20
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first date a zip can hold: same bytes every time

_SAMPLE: Final = 2000  # faces
_TEST_PICTURES: Final = 12
_BRIGHTNESS: Final = 45  # of 255: FER-2013's own parts lie within 3

# From a pixel, 0..255, to a model's input: factor and offset, by the range in which it was trained.
INPUT_RANGES: Final = {"0..1": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0), "0..255": (1.0, 0.0)}

Positive = Annotated[int, msgspec.Meta(gt=0)]


class PixelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of pixel values, 0..255: ``pixel * scale + offset``.

    Attributes:
        channels: 1 for grey, 3 for colour.
        scale: factor from a pixel value to the model's real-valued input.
        offset: what is added after the factor.
    """

    channels: Literal[1, 3] = 1
    scale: Annotated[float, msgspec.Meta(gt=0)]
    offset: float

    @property
    def pixels(self) -> npt.NDArray[np.float32]:
        """The real value of each of the 256 pixel values."""
        return np.arange(256, dtype=np.float32) * np.float32(self.scale) + np.float32(self.offset)

    def normalise(self, pictures: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Real-valued input of shape (n, rows, columns, channels) for pictures, 0..255, of shape (n, rows, columns)."""
        real = pictures.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        return np.repeat(real[..., None], self.channels, axis=-1)


class InputSpec(PixelSpec, frozen=True, kw_only=True):
    """What a classifier takes.

    Attributes:
        height: rows of the face picture.
        width: columns of the face picture.
    """

    height: Positive
    width: Positive


class PixelStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How a set of face pictures looks as a whole, to tell whether another set looks like it.

    Attributes:
        brightness: mean of all pixels, 0..255.
        contrast: mean over the faces of the standard deviation of their pixels.
        roughness: mean difference of pixels that are neighbours in a row: high for noise, low for blur.
    """

    brightness: float
    contrast: float
    roughness: float

    @classmethod
    def of(cls, faces: npt.NDArray[np.uint8]) -> PixelStatistics:
        """Of grey faces of shape (n, height, width), n at least 1; of 2,000 where there are more."""
        some = faces[:: max(len(faces) // _SAMPLE, 1)].astype(np.float32)
        return cls(
            brightness=round(float(some.mean()), 2),
            contrast=round(float(some.std(axis=(1, 2)).mean()), 2),
            roughness=round(float(np.abs(np.diff(some, axis=2)).mean()), 2),
        )

    def differences(self, other: PixelStatistics) -> list[str]:
        """What is far from another set's, in words; empty where they look alike."""
        found = []
        if abs(self.brightness - other.brightness) > _BRIGHTNESS:
            found.append(f"brightness {self.brightness:.0f} where {other.brightness:.0f} was expected")
        for name, least, most in (("contrast", 0.5, 2.0), ("roughness", 0.4, 2.5)):
            mine, theirs = getattr(self, name), getattr(other, name)
            if not least * theirs <= mine <= most * theirs:
                found.append(f"{name} {mine:.1f} where {theirs:.1f} was expected")
        return found


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """What a model gave for known pictures where its card was written; a device's runtime must give about the same.

    Attributes:
        pattern: which pictures: see `pictures`.
        outputs: stored elements of the output for each picture, integers where the output is quantised.
        tolerance: most that an element may differ, in the same unit: kernels round differently.
    """

    pattern: Literal["waves"] = "waves"
    outputs: tuple[tuple[int | float, ...], ...]
    tolerance: Annotated[int, msgspec.Meta(ge=0)] | Annotated[float, msgspec.Meta(ge=0)]

    @classmethod
    def of(cls, given: npt.NDArray[np.float32], tolerance: float, *, quantised: bool) -> SelfTest:
        """What a model gave here.

        Args:
            given: stored elements for `pictures`, of shape (pictures, elements).
            tolerance: most that an element may differ; a whole number of steps where the output is quantised.
            quantised: whether it is.
        """
        rows = tuple(tuple(int(value) if quantised else round(value, 5) for value in row) for row in given.tolist())
        return cls(outputs=rows, tolerance=round(tolerance) if quantised else tolerance)

    def apart(self, given: npt.NDArray[np.float32]) -> float:
        """The largest difference of an element from what it was; infinity where there are more or fewer."""
        expected = np.array(self.outputs, np.float32)
        return float(np.abs(given - expected).max()) if given.shape == expected.shape else math.inf

    @staticmethod
    def pictures(height: int, width: int) -> npt.NDArray[np.uint8]:
        """Twelve pictures, uint8 of shape (12, height, width), by integers alone and so the same everywhere."""
        rows, columns = np.arange(height) * 512 // height, np.arange(width) * 512 // width
        waves = [_triangle((k + 1) * columns + _triangle((k + 2) * rows)[:, None]) for k in range(_TEST_PICTURES)]
        return np.stack(waves).astype(np.uint8)


def _triangle(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A wave of period 512 that goes from 0 to 255 and back."""
    return np.minimum(values % 512, 511 - values % 512)


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, tag_field="task"):
    """What every model says of itself; its ``task`` says what it does.

    Attributes:
        schema: version of this structure.
        name: name of the model, from its recipe.
        flatbuffer_sha256: of what comes before the card in a ``.tflite``, as hexadecimal digits; empty in a ``.keras``.
        self_test: what it gave for known pictures; None in a ``.keras``, and where nobody noted it.
        scores: measured results by name, each 0..1 unless the name says otherwise.
        made_by: the commands that made the file, in order.
        data: what it was trained on.
        note: what a user should know.
    """

    schema: Literal[1] = 1
    name: str
    flatbuffer_sha256: str = ""
    self_test: SelfTest | None = None
    scores: dict[str, float] = {}
    made_by: tuple[str, ...] = ()
    data: str = ""
    note: str = ""

    @property
    def task(self) -> str:
        """What the model does."""
        return str(self.__struct_config__.tag)


class Card(ModelCard, frozen=True, kw_only=True, tag="expression"):
    """What a classifier of faces is, takes, says, scored and was made by.

    Attributes:
        labels: names of the outputs, in order.
        input: what it takes.
        pixels: how the faces that it was trained on look as a whole; None where nobody noted it.
    """

    labels: Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]
    input: InputSpec
    pixels: PixelStatistics | None = None

    def __post_init__(self) -> None:
        """Check what one field alone does not tell."""
        if len(set(self.labels)) != len(self.labels):
            message = "a label twice"
            raise ValueError(message)


class RefinerCard(ModelCard, frozen=True, kw_only=True, tag="faces-refiner"):
    """What the second stage of a face detector is, takes, scored and was made by.

    Attributes:
        input: what becomes of pixels.
        side: rows and columns of the square that it takes.
        extent: side of that square in the picture, over the longer side of the box that the first stage gives.
        least: score of the first stage, 0..1, from which on this one looks at a box.
        threshold: score of both stages together, 0..1, from which on a box is a face.
        framing: how its boxes become the squares that FER-2013's pictures show.
    """

    input: PixelSpec
    side: Positive
    extent: Annotated[float, msgspec.Meta(gt=0)]
    least: Annotated[float, msgspec.Meta(gt=0, le=1)]
    threshold: Annotated[float, msgspec.Meta(gt=0, le=1)]
    framing: Framing = AS_IT_IS


class DetectorCard(ModelCard, frozen=True, kw_only=True, tag="faces"):
    """What a face detector is, takes, scored and was made by.

    Attributes:
        input: what becomes of pixels; a picture may have any size, filled up to a multiple of the largest stride.
        strides: pixels between neighbouring cells of each level, finest first.
        threshold: score from which on a cell's face counts, 0..1.
        smallest_face: side of the smallest face that it finds surely, in pixels of its input.
        framing: how its boxes become the squares that FER-2013's pictures show.
        refiner: its second stage, whose score is that of a face then; None where it has none.
    """

    input: PixelSpec
    strides: Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)] = (8, 16, 32)
    threshold: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    smallest_face: Annotated[float, msgspec.Meta(gt=0)] = 12.0
    framing: Framing = AS_IT_IS
    refiner: RefinerCard | None = None


AnyCard = Card | DetectorCard | RefinerCard
_KINDS: Final = {
    Card: "a classifier of faces",
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
    except msgspec.DecodeError as error:
        raise ModelError(f"{path}: damaged model card ({error}); make the model again") from error
    return card


def read_card(path: Path) -> Card:
    """Read a classifier's card from a ``.tflite`` or ``.keras`` file.

    Raises:
        ModelError: there is no such file, it has no card, or a damaged one, or it is no classifier.
    """
    card = read_any_card(path)
    if not isinstance(card, Card):
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
        if isinstance(card, Card):
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
