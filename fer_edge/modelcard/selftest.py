"""A model's expected outputs for known images, with which a device checks its runtime."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_IMAGE_COUNT: Final = 12
Element = Annotated[int, msgspec.Meta(ge=-(1 << 40), le=1 << 40)] | Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """A model's outputs for known images, recorded when its card was written.

    The runtime of a device must compute nearly the same outputs.

    Attributes:
        pattern: name of the test images; see `images`.
        outputs: stored output elements for each image, integers if the output is quantized.
        tolerance: largest accepted difference of an element, in the same unit; kernels round differently.
    """

    pattern: Literal["waves"] = "waves"
    outputs: tuple[tuple[Element, ...], ...]
    tolerance: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] | Annotated[float, msgspec.Meta(ge=0, le=1e12)]

    @classmethod
    def from_outputs(cls, outputs: npt.NDArray[np.float32], tolerance: float, *, quantized: bool) -> SelfTest:
        """Record a model's outputs.

        Args:
            outputs: stored output elements for `images`, of shape (images, elements).
            tolerance: largest accepted difference of an element; rounded to whole steps if the output is quantized.
            quantized: whether the output is quantized.
        """
        rows = tuple(tuple(int(value) if quantized else round(value, 5) for value in row) for row in outputs.tolist())
        return cls(outputs=rows, tolerance=round(tolerance) if quantized else tolerance)

    def max_difference(self, outputs: npt.NDArray[np.float32]) -> float:
        """Return the largest difference between an output and the recorded one; infinity if the shapes differ."""
        if {len(row) for row in self.outputs} != set(outputs.shape[1:]):
            return math.inf
        expected = np.array(self.outputs, np.float32)
        return float(np.abs(outputs - expected).max()) if outputs.shape == expected.shape else math.inf

    @staticmethod
    def images(height: int, width: int) -> npt.NDArray[np.uint8]:
        """Draw the twelve test images, uint8 of shape (12, height, width).

        Only integer arithmetic is used, so the images are identical on every machine.
        """
        rows, columns = np.arange(height) * 512 // height, np.arange(width) * 512 // width
        waves = [
            _triangle_wave((k + 1) * columns + _triangle_wave((k + 2) * rows)[:, None]) for k in range(_IMAGE_COUNT)
        ]
        return np.stack(waves).astype(np.uint8)


def _triangle_wave(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Evaluate a wave of period 512 that rises from 0 to 255 and falls back."""
    return np.minimum(values % 512, 511 - values % 512)
