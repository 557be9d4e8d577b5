"""Finding faces in grey images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fer_edge.detection.roi import Region
from fer_edge.geometry import Box, CropSpec, Face, landmarks, largest_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt

    from fer_edge.detection.postprocess import RawDetections


class FaceDetector(Protocol):
    """Anything that finds faces."""

    @property
    def crop_spec(self) -> CropSpec:
        """How its boxes become the squares that FER-2013's images show."""
        ...

    def detect(self, gray: npt.NDArray[np.uint8]) -> list[Face]:
        """Faces in a uint8 grey image of shape (rows, columns), largest first."""
        ...


class TrackingDetector(FaceDetector, Protocol):
    """One that need not look everywhere in every frame of a video."""

    def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
        """Faces in a uint8 grey image of shape (rows, columns), largest first.

        Args:
            gray: the image.
            coarse: look only for faces twice as large as the smallest wanted, and larger, in a quarter of the time.
        """
        ...

    def detect_in_roi(self, gray: npt.NDArray[np.uint8], box: Box) -> list[Face]:
        """Faces around ``box``, in pixels of the image, where one was a moment ago: less sure ones, too."""
        ...


def reduced_size(
    shape: tuple[int, ...], min_face: int | None, window: float, *, coarse: bool = False
) -> tuple[int, int, float]:
    """How far an image is shrunk until the smallest wanted face just fills a detector's window.

    Args:
        shape: rows and columns of the image.
        min_face: side of the smallest face to find, in pixels; a sixteenth of the image's longer side without.
        window: side of the smallest face that the detector finds.
        coarse: as though the smallest wanted were twice as large.

    Returns:
        Rows and columns of the small image, and the side of the smallest face in the large one.
    """
    smallest = max((min_face or max(shape) // 16) * (2 if coarse else 1), window)
    rows, columns = (max(1, round(side * window / smallest)) for side in shape)
    return rows, columns, smallest


def faces_in_roi(
    gray: npt.NDArray[np.uint8],
    box: Box,
    find: Callable[[npt.NDArray[np.uint8], tuple[int, int]], Iterator[Face]],
) -> list[Face]:
    """Faces in the region around a box, in pixels of the whole image, largest first.

    Args:
        gray: uint8 grey image of shape (rows, columns).
        box: where a face was.
        find: finds faces in a part of the image that it brings to so many rows and columns.
    """
    region = Region.around(gray, box)
    return largest_first(region.placed(find(region.part, region.size))) if region else []


def faces_within(cells: RawDetections, shape: tuple[int, ...], smallest: float) -> Iterator[Face]:
    """Faces in an image, cut at its edges.

    Args:
        cells: in pixels of the image, one of each face.
        shape: its rows and columns.
        smallest: longer side of the smallest face, in pixels.
    """
    for (x, y, width, height), score, five in zip(
        cells.boxes.tolist(), cells.scores.tolist(), cells.landmarks, strict=True
    ):
        left, right = (min(max(value, 0.0), float(shape[1])) for value in (x, x + width))
        top, bottom = (min(max(value, 0.0), float(shape[0])) for value in (y, y + height))
        if right > left and bottom > top and max(width, height) >= smallest:
            yield Face(Box(left, top, right - left, bottom - top), score, landmarks(five))
