"""Cubic resizing and mirroring of images inside a network, by operators that every runtime has in int8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

_SHARPNESS: Final = -0.75  # OpenCV's parameter of cubic convolution (Keys 1981)


def cubic_matrix(given: int, made: int) -> npt.NDArray[np.float32]:
    """Return the weights of ``given`` pixels in each of ``made`` pixels, of shape (made, given).

    Pixels beyond the border are those at the border.
    """
    centres = (np.arange(made) + 0.5) * given / made - 0.5
    matrix = np.zeros((made, given))
    for tap in range(-1, 3):
        at = np.floor(centres) + tap
        np.add.at(matrix, (np.arange(made), np.clip(at, 0, given - 1).astype(int)), _cubic(np.abs(centres - at)))
    return np.asarray(matrix, np.float32)


def _cubic(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    a = _SHARPNESS
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.asarray(np.where(distance <= 1, near, far), np.float64)


def resize_cubic(images: keras.KerasTensor, side: int, *, offset: float = 0.0) -> keras.KerasTensor:
    """Resize grey images by cubic convolution, and add a number.

    It is two convolutions over whole columns and rows, which every runtime has in int8; no runtime has cubic resizing.

    Args:
        images: shape (n, size, size, 1).
        side: side of the result in pixels.
        offset: the number.
    """
    matrix = cubic_matrix(int(images.shape[1]), side)
    x = _multiply_columns(images, matrix, "resize_columns", 0.0)
    return _multiply_columns(x, matrix, "resize_rows", offset)


def mirror(images: keras.KerasTensor) -> keras.KerasTensor:
    """Return the mirror images of square grey images, by a convolution like those of `resize_cubic`."""
    from keras import layers

    size = int(images.shape[1])
    turned = layers.Permute((2, 1, 3), name="mirror_sides")(images)
    return _multiply_columns(turned, np.eye(size, dtype=np.float32)[::-1], "mirror", 0.0)


def _multiply_columns(
    x: keras.KerasTensor, matrix: npt.NDArray[np.float32], name: str, offset: float
) -> keras.KerasTensor:
    """Multiply a matrix by the columns of each image, of shape (n, height, width, 1), and transpose the result."""
    from keras import layers

    made, given = matrix.shape
    layer = layers.Conv2D(made, (given, 1), dtype="float32", trainable=False, name=name)
    x = layer(x)  # of shape (n, 1, width, made)
    layer.set_weights([matrix.T.reshape(given, 1, 1, made), np.full(made, offset, np.float32)])
    return layers.Permute((2, 3, 1), name=f"{name}_turned")(x)
