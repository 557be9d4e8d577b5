"""The interfaces of face detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fer_edge.geometry import Box, CropSpec, Face


class FaceDetector(Protocol):
    """A face detector."""

    @property
    def crop_spec(self) -> CropSpec:
        """How to crop the detected boxes so that they look like FER-2013's images."""
        ...

    def detect(self, gray: npt.NDArray[np.uint8]) -> list[Face]:
        """Find the faces in an image.

        Args:
            gray: uint8 image of shape (rows, columns), at least one pixel.

        Returns:
            The faces, largest first.

        Raises:
            InputError: the image has another type or shape.
        """
        ...


class TrackingDetector(FaceDetector, Protocol):
    """A face detector that can save time in videos by searching only parts of some frames."""

    def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
        """Find the faces in an image.

        Args:
            gray: uint8 image of shape (rows, columns), at least one pixel.
            coarse: find only faces that are at least twice as large as the smallest wanted, in a quarter of the time.

        Returns:
            The faces, largest first.

        Raises:
            InputError: the image has another type or shape.
        """
        ...

    def detect_in_roi(self, gray: npt.NDArray[np.uint8], box: Box) -> list[Face]:
        """Find a face near its expected position.

        Faces with lower scores are accepted than in `detect`.

        Args:
            gray: uint8 image of shape (rows, columns), at least one pixel.
            box: expected position of the face, in pixels of the image.

        Returns:
            The faces near the box, largest first.

        Raises:
            InputError: the image has another type or shape.
        """
        ...

    def roi_cost(self, shape: tuple[int, ...]) -> float:
        """Return the cost of `detect_in_roi` relative to that of `detect` without ``coarse``.

        It is counted rather than measured, so that it is the same whenever a video is played.

        Args:
            shape: rows and columns of the image.
        """
        ...
