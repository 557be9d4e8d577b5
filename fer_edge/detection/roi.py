"""Looking for a face where it was a moment ago: a small part of the image, at one size whatever the face's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import numpy.typing as npt

    from fer_edge.geometry import Box, Face

# Measured by benchmarks/follow.py.
SIDE: Final = 128  # pixels of what the detector looks at
REACH: Final = 1.6  # of the face's longer side: it may move by a third of that between two frames
ROI_SCORE_RATIO: Final = 0.6  # of the score that a face must have to be found: one that was there is likely to be there


class Region(NamedTuple):
    """A part of an image.

    Attributes:
        part: view of the image.
        x: its first column.
        y: its first row.
        size: rows and columns to bring it to.
    """

    part: npt.NDArray[np.uint8]
    x: int
    y: int
    size: tuple[int, int]

    @classmethod
    def around(cls, gray: npt.NDArray[np.uint8], box: Box) -> Region | None:
        """The part of a uint8 grey image in which to look for a face that was at ``box``; None outside of it."""
        rows, columns = gray.shape
        side = max(round(REACH * max(box.width, box.height)), 16)
        middle = box.x + box.width / 2, box.y + box.height / 2
        if not (0 <= middle[0] <= columns and 0 <= middle[1] <= rows) or not gray.size:
            return None
        # At an edge it goes on in the image, so that it has one size nearly always.
        x, y = (
            max(0, min(round(at - side / 2), length - side)) for at, length in zip(middle, (columns, rows), strict=True)
        )
        part = gray[y : y + side, x : x + side]
        factor = SIDE / side
        return cls(part, x, y, (max(1, round(part.shape[0] * factor)), max(1, round(part.shape[1] * factor))))

    def placed(self, faces: Iterable[Face]) -> Iterator[Face]:
        """Faces in the part as faces in the image."""
        for face in faces:
            box = face.box._replace(x=face.box.x + self.x, y=face.box.y + self.y)
            yield face._replace(box=box, landmarks=face.landmarks and face.landmarks.moved(self.x, self.y))
