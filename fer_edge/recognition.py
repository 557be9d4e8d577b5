"""The result of recognition: the faces of one image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from fer_edge.drawing import draw_summary, encode_png
from fer_edge.errors import DataError
from fer_edge.expression import Expression
from fer_edge.utils.image_input import load_bgr

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from fer_edge.utils.image_input import Channels


class Recognition(Sequence[Expression]):
    """The faces of one image, largest first: a sequence of `Expression`.

    A notebook displays it as the image with boxes and a bar for each score.

    Attributes:
        path: file of the image; None if the image was an array.
    """

    __slots__ = ("_channels", "_faces", "_source", "path")

    def __init__(self, source: object, faces: Iterable[Expression], channels: Channels = "bgr") -> None:
        """Create a result.

        Args:
            source: path or array of the image.
            faces: the faces of the image, largest first.
            channels: order of the channels of a colour array.
        """
        self._source, self._faces, self._channels = source, tuple(faces), channels
        self.path = Path(source) if isinstance(source, str | os.PathLike) else None

    @property
    def image(self) -> npt.NDArray[np.uint8]:
        """The image as a uint8 BGR array of shape (rows, columns, 3).

        A file is read each time. If the image was a BGR array, this is the same array and not a copy.

        Raises:
            DataError: the file cannot be read any more.
        """
        return load_bgr(self._source, channels=self._channels)

    @overload
    def __getitem__(self, index: int) -> Expression: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Expression]: ...
    def __getitem__(self, index: int | slice) -> Expression | Sequence[Expression]:
        """Return the face at an index, or a tuple of faces for a slice."""
        return self._faces[index]

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self._faces)

    def __repr__(self) -> str:
        """Return the image's name with the emotion of each face."""
        source = self._source
        name = str(self.path) if self.path else "array of shape {}".format(getattr(source, "shape", "unknown"))
        faces = (
            ", ".join(
                f"{face.shown_emotion} {face.score:.0%}" if face.reliable else face.shown_emotion for face in self
            )
            or "no face"
        )
        return f"<Recognition of {name}: {faces}>"

    def _repr_png_(self) -> bytes | None:
        """Return the PNG that a notebook displays; None if the image cannot be read any more."""
        try:
            return encode_png(draw_summary(self.image, self))
        except DataError:
            return None
