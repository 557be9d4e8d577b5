"""What a model gave for known images, so that a device can check its runtime."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_TEST_IMAGES: Final = 12


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """What a model gave for known images where its card was written; a device's runtime must give about the same.

    Attributes:
        pattern: which images: see `images`.
        outputs: stored elements of the output for each image, integers where the output is quantised.
        tolerance: most that an element may differ, in the same unit: kernels round differently.
    """

    pattern: Literal["waves"] = "waves"
    outputs: tuple[tuple[int | float, ...], ...]
    tolerance: Annotated[int, msgspec.Meta(ge=0)] | Annotated[float, msgspec.Meta(ge=0)]

    @classmethod
    def of(cls, given: npt.NDArray[np.float32], tolerance: float, *, quantised: bool) -> SelfTest:
        """What a model gave here.

        Args:
            given: stored elements for `images`, of shape (images, elements).
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
    def images(height: int, width: int) -> npt.NDArray[np.uint8]:
        """Twelve images, uint8 of shape (12, height, width), by integers alone and so the same everywhere."""
        rows, columns = np.arange(height) * 512 // height, np.arange(width) * 512 // width
        waves = [_triangle((k + 1) * columns + _triangle((k + 2) * rows)[:, None]) for k in range(_TEST_IMAGES)]
        return np.stack(waves).astype(np.uint8)


def _triangle(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A wave of period 512 that goes from 0 to 255 and back."""
    return np.minimum(values % 512, 511 - values % 512)
