"""The values that a model's pixels had in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fer_edge.errors import InputError
from fer_edge.modelcard.schema import INPUT_RANGES, PixelMapping


@dataclass(frozen=True, slots=True)
class PixelValues:
    """How a pixel, 0..255, becomes a model's input: ``pixel * scale + offset``.

    Attributes:
        name: what to call it, such as ``-1..1``.
        option: the options of ``fer-edge convert`` that say so.
        scale: factor, one for all channels or one for each.
        offset: value added after scaling, as many.
        per_image: whether each image is standardized before.
    """

    name: str
    option: str
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    per_image: bool = False

    @property
    def is_uniform(self) -> bool:
        """Whether all channels are treated alike."""
        return len(set(self.scale)) == 1 and len(set(self.offset)) == 1

    @property
    def mapping(self) -> PixelMapping:
        """What the card says; the model itself does what differs from channel to channel."""
        scale, offset = (self.scale[0], self.offset[0]) if self.is_uniform else (1.0, 0.0)
        return PixelMapping(scale, offset, self.per_image)


_NAMES: Final = {"per-image": "standardized image by image"}
RANGES: Final = {
    name: PixelValues(_NAMES.get(name, name), f"--input-range {name}", (one.scale,), (one.offset,), one.per_image)
    for name, one in INPUT_RANGES.items()
}
# Mean and deviation of ImageNet's pixels in the order red, green, blue, of pixels 0..1; and the means in the order
# blue, green, red, of pixels 0..255, that Caffe's networks subtract (Keras: preprocess_input of VGG and ResNet).
_IMAGENET: Final = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE: Final = (103.939, 116.779, 123.68)


def normalized(means: tuple[float, ...], deviations: tuple[float, ...], input_range: str = "0..255") -> PixelValues:
    """Return what ``(pixel - mean) / deviation`` gives, of pixels in a range.

    Args:
        means: subtracted from each channel; one for all or one for each.
        deviations: by which each channel is divided afterwards; as many, or one for all.
        input_range: range of the pixels before, such as ``0..1``.

    Raises:
        InputError: their numbers differ, a deviation is not above 0, or the range is ``per-image``.
    """
    count = max(len(means), len(deviations))
    if {len(means), len(deviations)} - {1, count} or count not in {1, 3}:
        raise InputError(
            f"--input-mean has {len(means)} values and --input-std {len(deviations)}; give one, or three for a model of"
            " colour images"
        )
    if min(deviations) <= 0:
        raise InputError(f"--input-std {min(deviations):g}: give a value above 0")
    scale, offset, per_image = INPUT_RANGES[input_range]
    if per_image:
        raise InputError(
            f"--input-range {input_range}: each image has its own mean and deviation; leave --input-mean and"
            " --input-std out"
        )
    pairs = [(means[i % len(means)], deviations[i % len(deviations)]) for i in range(count)]
    spelled = [",".join(f"{value:g}" for value in values) for values in (means, deviations)]
    option = f"--input-mean {spelled[0]} --input-std {spelled[1]}"
    if input_range != "0..255":
        option = f"--input-range {input_range} {option}"
    return PixelValues(
        f"standardized by mean {spelled[0]} and deviation {spelled[1]}",
        option,
        tuple(scale / deviation for _, deviation in pairs),
        tuple((offset - mean) / deviation for mean, deviation in pairs),
    )


def usual_values(channels: int, mean: float, deviation: float) -> list[PixelValues]:
    """Return the values that are usual for a model of so many channels.

    Args:
        channels: 1 or 3.
        mean: mean of the training faces' pixels, 0..255.
        deviation: their standard deviation.
    """
    found = [*RANGES.values(), normalized((round(mean, 1),), (round(max(deviation, 1.0), 1),))]
    if channels == 3:
        found += [normalized(*_IMAGENET, "0..1"), normalized(_CAFFE, (1.0,))]
    return found
