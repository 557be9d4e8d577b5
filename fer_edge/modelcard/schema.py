"""The card a model file carries, so that nothing on the device is configured twice.

A card is ``fer_edge.json``, and a classifier's ``labels.txt``, in a zip archive appended to the
``.tflite`` file: any unzip tool reads it and every runtime ignores it.  A ``.keras``
file is a zip archive already and holds the same members.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import numpy as np

from fer_edge.geometry import NO_MARGIN, CropSpec
from fer_edge.modelcard.selftest import SelfTest

if TYPE_CHECKING:
    import numpy.typing as npt


_SAMPLE: Final = 2000  # faces
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

    def normalise(self, images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Real-valued input of shape (n, rows, columns, channels) for images, 0..255, of shape (n, rows, columns)."""
        real = images.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        return np.repeat(real[..., None], self.channels, axis=-1)


class InputSpec(PixelSpec, frozen=True, kw_only=True):
    """What a classifier takes.

    Attributes:
        height: rows of the face image.
        width: columns of the face image.
    """

    height: Positive
    width: Positive


class PixelStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How a set of face images looks as a whole, to tell whether another set looks like it.

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


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, tag_field="task"):
    """What every model says of itself; its ``task`` says what it does.

    Attributes:
        schema: version of this structure.
        name: name of the model, from its recipe.
        flatbuffer_sha256: of what comes before the card in a ``.tflite``, as hexadecimal digits; empty in a ``.keras``.
        self_test: what it gave for known images; None in a ``.keras``, and where nobody noted it.
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


class ClassifierCard(ModelCard, frozen=True, kw_only=True, tag="expression"):
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
        extent: side of that square in the image, over the longer side of the box that the first stage gives.
        min_score: score of the first stage, 0..1, from which on this one looks at a box.
        threshold: score of both stages together, 0..1, from which on a box is a face.
        crop_spec: how its boxes become the squares that FER-2013's images show.
    """

    input: PixelSpec
    side: Positive
    extent: Annotated[float, msgspec.Meta(gt=0)]
    min_score: Annotated[float, msgspec.Meta(gt=0, le=1)]
    threshold: Annotated[float, msgspec.Meta(gt=0, le=1)]
    crop_spec: CropSpec = NO_MARGIN


class DetectorCard(ModelCard, frozen=True, kw_only=True, tag="faces"):
    """What a face detector is, takes, scored and was made by.

    Attributes:
        input: what becomes of pixels; an image may have any size, filled up to a multiple of the largest stride.
        strides: pixels between neighbouring cells of each level, finest first.
        threshold: score from which on a cell's face counts, 0..1.
        smallest_face: side of the smallest face that it finds surely, in pixels of its input.
        crop_spec: how its boxes become the squares that FER-2013's images show.
        refiner: its second stage, whose score is that of a face then; None where it has none.
    """

    input: PixelSpec
    strides: Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)] = (8, 16, 32)
    threshold: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    smallest_face: Annotated[float, msgspec.Meta(gt=0)] = 12.0
    crop_spec: CropSpec = NO_MARGIN
    refiner: RefinerCard | None = None


AnyCard = ClassifierCard | DetectorCard | RefinerCard
