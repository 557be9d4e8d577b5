"""Cheap checks of the arrays that users pass in, so that a wrong one is an error and not a wrong result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

_UINT8: Final = np.dtype(np.uint8)


def check_gray(image: npt.NDArray[np.uint8]) -> None:
    """Check that an image is a uint8 array of shape (rows, columns) with at least one pixel.

    Raises:
        InputError: it is anything else.
    """
    if isinstance(image, np.ndarray) and image.dtype == _UINT8 and image.ndim == 2 and image.size:
        return
    raise InputError(f"{_describe(image)} is not a grey image: give uint8 of shape (rows, columns){_hint(image)}")


def check_crops(faces: npt.NDArray[np.uint8], size: tuple[int, int]) -> None:
    """Check that face crops are a uint8 array of shape (n, height, width); n may be 0.

    Args:
        faces: the crops.
        size: height and width that the classifier takes.

    Raises:
        InputError: they are anything else.
    """
    if isinstance(faces, np.ndarray) and faces.dtype == _UINT8 and faces.ndim == 3 and faces.shape[1:] == size:
        return
    height, width = size
    hint = _hint(faces)
    if not hint and isinstance(faces, np.ndarray) and faces.shape == size:
        hint = "; write crop[None] for a single crop"
    raise InputError(
        f"{_describe(faces)} is not a batch of face crops: this classifier takes uint8 of shape"
        f" (n, {height}, {width}){hint}"
    )


def _describe(value: object) -> str:
    if not isinstance(value, np.ndarray):
        return f"a value of type {type(value).__name__}"
    return f"an array of {value.dtype} with shape {value.shape}"


def _hint(value: object) -> str:
    """Return advice on how to convert an array; empty if there is none."""
    if not isinstance(value, np.ndarray):
        return ", as a NumPy array"
    if not value.size:
        return "; this array is empty"
    if value.dtype != _UINT8:
        return "; scale its values to 0..255 and convert it with .astype(np.uint8)"
    if value.ndim > 2 and value.shape[-1] in {3, 4}:
        return "; convert colour to grey first, for example with cv2.cvtColor"
    return ""
