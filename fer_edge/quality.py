"""The quality of a face in an image, and whether it is enough to tell the expression.

Size, sharpness, roll and yaw are the terms of ISO/IEC 29794-5, which rates face images. ``benchmarks/face_quality.py``
measures the limits: below those of size and sharpness, ``edge`` loses more than a quarter of its right answers. Faces
that are turned by 40 degrees and more are rare in FER-2013: 14 of 25 are right there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Final

import cv2
import msgspec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fer_edge.geometry import Face, Landmarks

UNCLEAR: Final = "unclear"  # is shown and counted in place of an emotion that cannot be told
MIN_SIZE: Final = 24.0  # pixels
MAX_YAW: Final = 40.0  # degrees
MIN_SHARPNESS: Final = 0.06

# Distance of the tip of the nose from the plane of the eyes and the mouth, relative to half the distance of the pupils.
_NOSE_LENGTH: Final = 0.8

Pixels = Annotated[float, msgspec.Meta(extra={"unit": "px"}, extra_json_schema={"minimum": 0})]
Degrees = Annotated[float, msgspec.Meta(extra={"unit": "°"})]
Positive = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0})]


class FaceQuality(msgspec.Struct, frozen=True):
    """How well a face can be seen.

    Attributes:
        size: longer side of the face, in pixels of the image that was searched.
        roll: clockwise rotation of the line through the eyes, in degrees; None if the eyes are not known.
        yaw: how far the head is turned, in degrees; above 0 towards the right side of the image; None if unknown.
        sharpness: variance of the Laplacian of the classifier's input, relative to the variance of its pixels; low for
            blur, and for a small face that was enlarged.
    """

    size: Pixels
    roll: Degrees | None
    yaw: Degrees | None
    sharpness: Positive

    def suffices(self) -> bool:
        """Return whether the expression can be told: the face is neither too small, too turned nor too blurred."""
        return (
            self.size >= MIN_SIZE and self.sharpness >= MIN_SHARPNESS and (self.yaw is None or abs(self.yaw) <= MAX_YAW)
        )


def measure_quality(face: Face, crop: npt.NDArray[np.uint8]) -> FaceQuality:
    """Measure the quality of a face.

    Args:
        face: the face, in pixels of the image.
        crop: the classifier's input that was cut out for it, uint8 of shape (height, width).
    """
    yaw = None if face.landmarks is None else estimate_yaw(face.landmarks)
    return FaceQuality(
        size=round(max(face.box.width, face.box.height), 1),
        roll=None if face.landmarks is None else round(math.degrees(face.roll), 1),
        yaw=None if yaw is None else round(yaw, 1),
        sharpness=round(measure_sharpness(crop), 4),
    )


def measure_sharpness(crop: npt.NDArray[np.uint8]) -> float:
    """Compute the variance of the Laplacian (Pech-Pacheco et al. 2000), relative to the variance of the pixels."""
    laplacian: Any = cv2.Laplacian(crop, cv2.CV_16S)
    edges = float(cv2.meanStdDev(laplacian)[1][0, 0])
    pixels = float(cv2.meanStdDev(crop)[1][0, 0])
    return (edges / max(pixels, 1.0)) ** 2


def estimate_yaw(landmarks: Landmarks) -> float | None:
    """Estimate how far a head is turned from where the nose lies between the eyes, in degrees.

    Half the distance of the eyes shrinks with the cosine of the angle, and the tip of the nose moves with its sine.
    Beyond 60 degrees the far eye is hidden, and the estimate is too low.

    Returns:
        The angle; above 0 towards the right side of the image; None if both eyes are at the same place.
    """
    left, right, nose = landmarks.left_eye, landmarks.right_eye, landmarks.nose
    across, down = right.x - left.x, right.y - left.y
    squared = across * across + down * down
    if not squared:
        return None
    aside = (nose.x - (left.x + right.x) / 2) * across + (nose.y - (left.y + right.y) / 2) * down
    return math.degrees(math.atan(2 * aside / squared / _NOSE_LENGTH))
