"""Arrays of faces that lie in a temporary file, so that a dataset may be larger than memory."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from fer_edge.errors import DataError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

CHUNK: Final = 4096  # faces that are copied or hashed at a time


class FaceStore:
    """Collects faces in an unnamed temporary file and returns them as a memory-mapped array.

    Use it as a context manager. The file is closed at the end of the block; the array stays valid.
    """

    def __init__(self, side: int) -> None:
        """Create an empty store for faces of shape (side, side)."""
        self._side = side
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *failure: object) -> None:
        """Close the file."""
        self._file.close()

    def add(self, faces: Iterable[npt.NDArray[np.uint8]]) -> None:
        """Append uint8 faces of shape (side, side).

        Raises:
            InputError: the folder for temporary files is full.
        """
        try:
            self._file.writelines(face.tobytes() for face in faces)
        except OSError as error:
            raise no_space_error(error) from error

    def map_faces(self) -> npt.NDArray[np.uint8]:
        """Return all faces, uint8 of shape (n, side, side), memory-mapped; at least one must have been added."""
        self._file.flush()
        faces: npt.NDArray[np.uint8] = np.memmap(self._file, np.uint8, "r")
        return faces.reshape(-1, self._side, self._side)


def no_space_error(error: OSError) -> InputError:
    """Create the error for a full folder for temporary files."""
    return InputError(
        f"{tempfile.gettempdir()}: no space for the decoded faces ({error.strerror}); set TMPDIR to a folder with"
        " enough space"
    )


def join_faces(parts: Iterable[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]) -> npt.NDArray[np.uint8]:
    """Join rows of several arrays of faces.

    Args:
        parts: arrays of shape (n, side, side), each with the indices of the wanted rows.

    Returns:
        One array, memory-mapped if any of the arrays is.

    Raises:
        DataError: the arrays have faces of different sizes.
    """
    parts = list(parts)
    sides = {faces.shape[1] for faces, _ in parts}
    if len(sides) > 1:
        raise DataError(f"images of different sizes ({', '.join(map(str, sorted(sides)))} pixels) cannot be joined")
    if not any(isinstance(faces, np.memmap) for faces, _ in parts) or not any(len(rows) for _, rows in parts):
        return np.concatenate([faces[rows] for faces, rows in parts])
    with FaceStore(sides.pop()) as store:
        for faces, rows in parts:
            for begin in range(0, len(rows), CHUNK):
                store.add(faces[rows[begin : begin + CHUNK]])
        return store.map_faces()
