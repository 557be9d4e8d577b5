"""The model card: a description that travels inside the model file.

A device reads labels, input size and thresholds from the card, so nothing has to be configured twice.

The card is the file ``fer_edge.json``, beside ``labels.txt`` for a classifier, in a zip archive appended to the
``.tflite`` file.  Any unzip tool can read it, and every TFLite runtime ignores it.  A ``.keras`` file is a zip archive
already and holds the same members.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import numpy as np

from fer_edge.geometry import NO_MARGIN, CropSpec
from fer_edge.modelcard.card_labels import label_problem
from fer_edge.modelcard.pixel_statistics import PixelStatistics
from fer_edge.modelcard.selftest import SelfTest

if TYPE_CHECKING:
    import numpy.typing as npt

# Scale and offset from a pixel, 0..255, to the model's input, by the value range used in training.
INPUT_RANGES: Final = {"0..1": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0), "0..255": (1.0, 0.0)}

# The bounds keep arithmetic finite and memory bounded, whoever wrote the card.
Side = Annotated[int, msgspec.Meta(gt=0, le=1024)]
Real = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Line = Annotated[str, msgspec.Meta(max_length=1000)]
Remark = Annotated[str, msgspec.Meta(max_length=100_000)]


class PixelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How pixel values, 0..255, become a model's input: ``pixel * scale + offset``.

    Attributes:
        channels: 1 for grey, 3 for colour.
        scale: factor from a pixel value to the model's real-valued input.
        offset: value added after scaling.
    """

    channels: Literal[1, 3] = 1
    scale: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    offset: Real

    @property
    def pixels(self) -> npt.NDArray[np.float32]:
        """The real value of each of the 256 pixel values."""
        return np.arange(256, dtype=np.float32) * np.float32(self.scale) + np.float32(self.offset)

    def normalize(self, images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Convert images, 0..255, of shape (n, rows, columns) to input of shape (n, rows, columns, channels)."""
        real = images.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        return np.repeat(real[..., None], self.channels, axis=-1)


class InputSpec(PixelSpec, frozen=True, kw_only=True):
    """The input of a classifier.

    Attributes:
        height: rows of the face image.
        width: columns of the face image.
    """

    height: Side
    width: Side


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, tag_field="task"):
    """The fields that every model card has; ``task`` gives the kind of model.

    Attributes:
        schema: version of this structure.
        name: name of the model, from its recipe.
        flatbuffer_sha256: hash of the ``.tflite`` content before the card, as hexadecimal digits; empty in a
            ``.keras``.
        self_test: expected outputs for known images; None in a ``.keras``, and if they were not recorded.
        scores: measured results by name, each 0..1 unless the name says otherwise.
        made_by: the commands that made the file, in order.
        data: the training data.
        note: remarks for users of the model.
    """

    schema: Literal[1] = 1
    name: Line
    flatbuffer_sha256: Line = ""
    self_test: SelfTest | None = None
    scores: dict[Line, Real] = {}
    made_by: tuple[Remark, ...] = ()
    data: Remark = ""
    note: Remark = ""

    @property
    def task(self) -> str:
        """The kind of model, as the card's ``task`` field spells it."""
        return str(self.__struct_config__.tag)


class ClassifierCard(ModelCard, frozen=True, kw_only=True, tag="expression"):
    """The card of an expression classifier.

    Attributes:
        labels: names of the outputs, in order.
        input: size and pixel values of the input.
        pixels: statistics of the training faces; None if they were not recorded.
    """

    labels: tuple[str, ...]
    input: InputSpec
    pixels: PixelStatistics | None = None

    def __post_init__(self) -> None:
        """Reject labels that cannot be told apart, or cannot be printed."""
        if problem := label_problem(self.labels):
            raise ValueError(problem)


class RefinerCard(ModelCard, frozen=True, kw_only=True, tag="faces-refiner"):
    """The card of a face detector's second stage.

    Attributes:
        input: pixel values of the input.
        side: rows and columns of the input, which is a square.
        extent: side of that square in the image, relative to the longer side of the first stage's box.
        min_score: lowest first-stage score, 0..1, of the boxes that the second stage checks.
        threshold: lowest combined score of both stages, 0..1, of a face.
        crop_spec: how to crop the detected boxes so that they look like FER-2013's images.
    """

    input: PixelSpec
    side: Side
    extent: Annotated[float, msgspec.Meta(ge=0.1, le=100)]
    min_score: Share
    threshold: Share
    crop_spec: CropSpec = NO_MARGIN

    def __post_init__(self) -> None:
        """Reject a crop that cannot be made."""
        _check_crop(self.crop_spec)


class DetectorCard(ModelCard, frozen=True, kw_only=True, tag="faces"):
    """The card of a face detector.

    Attributes:
        input: pixel values of the input; an image of any size is padded to a multiple of the largest stride.
        strides: distance in pixels between neighbouring cells of each level, finest level first.
        threshold: lowest score of a face, 0..1.
        smallest_face: side of the smallest face that is found reliably, in pixels of the input.
        crop_spec: how to crop the detected boxes so that they look like FER-2013's images.
        refiner: card of the second stage, which then gives the final scores; None without a second stage.
    """

    input: PixelSpec
    strides: Annotated[
        tuple[Annotated[int, msgspec.Meta(gt=0, le=128)], ...], msgspec.Meta(min_length=1, max_length=8)
    ] = (8, 16, 32)
    threshold: Share = 0.5
    smallest_face: Annotated[float, msgspec.Meta(ge=1, le=64)] = 12.0
    crop_spec: CropSpec = NO_MARGIN
    refiner: RefinerCard | None = None

    def __post_init__(self) -> None:
        """Reject a crop that cannot be made."""
        _check_crop(self.crop_spec)


def _check_crop(spec: CropSpec) -> None:
    if not (0.1 <= spec.scale <= 10 and -10 <= spec.shift <= 10):
        message = f"crop_spec is a square of {spec.scale:g} times the box, moved by {spec.shift:g}"
        raise ValueError(message)


AnyCard = ClassifierCard | DetectorCard | RefinerCard
