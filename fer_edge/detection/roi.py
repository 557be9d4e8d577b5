"""Searching for a face near its last position: a region of interest, scaled to one size for faces of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.geometry import largest_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    import numpy.typing as npt

    from fer_edge.geometry import Box, Face

# Measured by benchmarks/follow.py.
ROI_SIDE: Final = 96  # pixels of the detector's input
ROI_SCALE: Final = 1.6  # relative to the face's longer side, so that a face may move by a third of it between frames
ROI_SCORE_RATIO: Final = 0.6  # lower threshold in a region, relative to the usual one: a face is likely to be there

_MIN_REGION: Final = 16  # pixels


class Region(NamedTuple):
    """A part of an image.

    Attributes:
        part: view of the image.
        x: first column of the part in the image.
        y: first row of the part in the image.
        size: rows and columns to which the part is scaled.
    """

    part: npt.NDArray[np.uint8]
    x: int
    y: int
    size: tuple[int, int]

    @classmethod
    def around(cls, gray: npt.NDArray[np.uint8], box: Box) -> Region | None:
        """Return the region around a face's last position, or None if its centre is outside the image.

        Args:
            gray: uint8 image of shape (rows, columns).
            box: last position of the face, in pixels of the image.
        """
        rows, columns = gray.shape
        side = max(round(ROI_SCALE * max(box.width, box.height)), _MIN_REGION)
        centre = box.x + box.width / 2, box.y + box.height / 2
        if not (0 <= centre[0] <= columns and 0 <= centre[1] <= rows):
            return None
        # At an edge, the region is moved into the image, so that it nearly always has the same size.
        x, y = (
            max(0, min(round(at - side / 2), length - side)) for at, length in zip(centre, (columns, rows), strict=True)
        )
        part = gray[y : y + side, x : x + side]
        factor = ROI_SIDE / side
        return cls(part, x, y, (max(1, round(part.shape[0] * factor)), max(1, round(part.shape[1] * factor))))

    def to_image(self, faces: Iterable[Face]) -> Iterator[Face]:
        """Convert faces from pixels of the part to pixels of the image."""
        for face in faces:
            box = face.box._replace(x=face.box.x + self.x, y=face.box.y + self.y)
            yield face._replace(box=box, landmarks=face.landmarks and face.landmarks.translate(self.x, self.y))


def search_roi(
    gray: npt.NDArray[np.uint8],
    box: Box,
    find: Callable[[npt.NDArray[np.uint8], tuple[int, int]], Iterator[Face]],
) -> list[Face]:
    """Find the faces in the region around a box.

    Args:
        gray: uint8 image of shape (rows, columns).
        box: last position of a face, in pixels of the image.
        find: function that scales a part of the image to a number of rows and columns and finds the faces in it.

    Returns:
        The faces, in pixels of the image, largest first.
    """
    region = Region.around(gray, box)
    return largest_first(region.to_image(find(region.part, region.size))) if region else []
