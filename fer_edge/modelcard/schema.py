"""The model card: a description that travels inside the model file.

A device reads labels, input size and thresholds from the card, so nothing has to be configured twice.

The card is the file ``fer_edge.json``, beside ``labels.txt`` for a classifier, in a zip archive appended to the
``.tflite`` file. Any unzip tool can read it, and every TFLite runtime ignores it. A ``.keras`` file is a zip archive
already and holds the same members.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

import msgspec
import numpy as np

from fer_edge.geometry import NO_MARGIN, CropSpec
from fer_edge.modelcard.card_labels import label_problem
from fer_edge.modelcard.pixel_statistics import PixelStatistics
from fer_edge.modelcard.selftest import SelfTest

if TYPE_CHECKING:
    import numpy.typing as npt


class PixelMapping(NamedTuple):
    """How pixels become the input of a classifier: ``pixel * scale + offset``.

    Attributes:
        scale: factor.
        offset: value added after scaling.
        per_image: whether each image is standardized before; see `InputSpec`.
    """

    scale: float
    offset: float
    per_image: bool = False


INPUT_RANGES: Final = {
    "0..1": PixelMapping(1 / 255, 0.0),
    "-1..1": PixelMapping(1 / 127.5, -1.0),
    "0..255": PixelMapping(1.0, 0.0),
    "per-image": PixelMapping(1.0, 0.0, per_image=True),
}

_MIN_SHARE: Final = 1e-9  # and its distance from 1: shares beyond have no finite log odds that matter

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
    def formula(self) -> str:
        """What becomes of a pixel, for people."""
        return f"pixel * {self.scale:g} + {self.offset:g}"

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
        per_image: whether each image is standardized first: its mean is subtracted from its pixels, and they are
            divided by their standard deviation. ``scale`` and ``offset`` apply to the result.
    """

    height: Side
    width: Side
    per_image: bool = False

    @classmethod
    def from_mapping(cls, mapping: PixelMapping, *, height: int, width: int, channels: Literal[1, 3]) -> InputSpec:
        """Return the input of images of some size and channels."""
        return cls(height=height, width=width, channels=channels, **mapping._asdict())

    @property
    def mapping(self) -> PixelMapping:
        """How pixels become the input."""
        return PixelMapping(self.scale, self.offset, self.per_image)

    @property
    def formula(self) -> str:
        """What becomes of a pixel, for people."""
        if not self.per_image:
            return super().formula
        rest = "" if (self.scale, self.offset) == (1, 0) else f" * {self.scale:g} + {self.offset:g}"
        return f"(pixel - mean of the image) / deviation of the image{rest}"

    def normalize(self, images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Convert images; see `PixelSpec`."""
        if not self.per_image:
            return super().normalize(images)
        mean, deviation = _mean_and_deviation(images)
        real = (images - mean[:, None, None]) / deviation[:, None, None] * self.scale + self.offset
        return np.repeat(real.astype(np.float32)[..., None], self.channels, axis=-1)

    def pixels_of_each(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the real value of each pixel value, shape (n, 256), in each of n images that are standardized."""
        mean, deviation = _mean_and_deviation(images)
        real = (np.arange(256) - mean[:, None]) / deviation[:, None] * self.scale + self.offset
        return real.astype(np.float32)


def _mean_and_deviation(
    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and standard deviation, each of shape (n,), of the pixels of n images.

    In an image of one brightness, the deviation is that of one differing pixel, as in TensorFlow's
    ``per_image_standardization``.
    """
    pixels = images.reshape(len(images), -1)
    deviation = pixels.std(axis=1, dtype=np.float64)
    return pixels.mean(axis=1, dtype=np.float64), np.maximum(deviation, pixels.shape[1] ** -0.5)


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
        licence: terms of use of the model, best as an SPDX identifier, and what restricts them.
        note: remarks for users of the model.
    """

    schema: Literal[1] = 1
    name: Line
    flatbuffer_sha256: Line = ""
    self_test: SelfTest | None = None
    scores: dict[Line, Real] = {}
    made_by: tuple[Remark, ...] = ()
    data: Remark = ""
    licence: Line = ""
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


class ScoreCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """What a detector's score says of precision: Platt scaling of its log odds (Platt 1999).

    ``precision = sigmoid(slope * log(score / (1 - score)) + intercept)``

    Attributes:
        slope: factor on the log odds of the score.
        intercept: log odds of the precision at a score of 0.5.
    """

    slope: Annotated[float, msgspec.Meta(ge=0.01, le=100)]
    intercept: Annotated[float, msgspec.Meta(ge=-100, le=100)]

    def precision_at(self, score: float) -> float:
        """Return the expected precision, 0..1, of boxes with a score, 0..1."""
        return _sigmoid(self.slope * _log_odds(score) + self.intercept)

    def score_at(self, precision: float) -> float:
        """Return the score, 0..1, of boxes with an expected precision, 0..1."""
        return _sigmoid((_log_odds(precision) - self.intercept) / self.slope)


class DetectorCard(ModelCard, frozen=True, kw_only=True, tag="faces"):
    """The card of a face detector.

    Attributes:
        input: pixel values of the input; an image of any size is padded to a multiple of the largest stride.
        strides: distance in pixels between neighbouring cells of each level, finest level first.
        threshold: lowest score of a face, 0..1, before calibration.
        calibration: what a score says of precision; None if it was not measured.
        smallest_face: side of the smallest face that is found reliably, in pixels of the input.
        crop_spec: how to crop the detected boxes so that they look like FER-2013's images.
        refiner: card of the second stage, which then gives the final scores; None without a second stage.
    """

    input: PixelSpec
    strides: Annotated[
        tuple[Annotated[int, msgspec.Meta(gt=0, le=128)], ...], msgspec.Meta(min_length=1, max_length=8)
    ] = (8, 16, 32)
    threshold: Share = 0.5
    calibration: ScoreCalibration | None = None
    smallest_face: Annotated[float, msgspec.Meta(ge=1, le=64)] = 12.0
    crop_spec: CropSpec = NO_MARGIN
    refiner: RefinerCard | None = None

    def __post_init__(self) -> None:
        """Reject a crop that cannot be made."""
        _check_crop(self.crop_spec)

    @property
    def min_score(self) -> float:
        """The threshold as a calibrated score, 0..1."""
        return self.calibration.precision_at(self.threshold) if self.calibration else self.threshold


def _log_odds(share: float) -> float:
    share = min(max(share, _MIN_SHARE), 1 - _MIN_SHARE)
    return math.log(share / (1 - share))


def _sigmoid(log_odds: float) -> float:
    # Written with a negative exponent only, which cannot overflow.
    small = math.exp(-abs(log_odds))
    return 1 / (1 + small) if log_odds >= 0 else small / (1 + small)


def _check_crop(spec: CropSpec) -> None:
    if not (0.1 <= spec.scale <= 10 and -10 <= spec.shift <= 10):
        message = f"crop_spec is a square of {spec.scale:g} times the box, moved by {spec.shift:g}"
        raise ValueError(message)


AnyCard = ClassifierCard | DetectorCard | RefinerCard
