"""Statistics of a set of face images, for comparing one set with another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_SAMPLE_SIZE: Final = 2000  # faces
_MAX_BRIGHTNESS_DIFFERENCE: Final = 45  # of 255; the parts of FER-2013 differ by less than 3
# Lowest and highest accepted ratio to the expected value.
_RATIO_LIMITS: Final = {"contrast": (0.5, 2.0), "roughness": (0.4, 2.5)}


class PixelStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Overall statistics of a set of face images.

    Attributes:
        brightness: mean of all pixels, 0..255.
        contrast: standard deviation of the pixels of a face, averaged over the faces.
        roughness: mean difference between horizontally adjacent pixels; high for noise, low for blur.
    """

    brightness: float
    contrast: float
    roughness: float

    @classmethod
    def from_faces(cls, faces: npt.NDArray[np.uint8]) -> PixelStatistics:
        """Compute the statistics of grey faces.

        Args:
            faces: array of shape (n, height, width), n at least 1; of more than 2,000 faces, a sample is used.
        """
        sample = faces[:: max(len(faces) // _SAMPLE_SIZE, 1)].astype(np.float32)
        return cls(
            brightness=round(float(sample.mean()), 2),
            contrast=round(float(sample.std(axis=(1, 2)).mean()), 2),
            roughness=round(float(np.abs(np.diff(sample, axis=2)).mean()), 2),
        )

    def differences(self, expected: PixelStatistics) -> list[str]:
        """Describe each large difference from the expected statistics; return an empty list if there is none."""
        found = []
        if abs(self.brightness - expected.brightness) > _MAX_BRIGHTNESS_DIFFERENCE:
            found.append(f"brightness {self.brightness:.0f} where {expected.brightness:.0f} was expected")
        for name, (lowest, highest) in _RATIO_LIMITS.items():
            own, other = getattr(self, name), getattr(expected, name)
            if not lowest * other <= own <= highest * other:
                found.append(f"{name} {own:.1f} where {other:.1f} was expected")
        return found
