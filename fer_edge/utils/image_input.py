"""Checking and converting the images that users pass in, as paths or arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import cv2
import numpy as np

from fer_edge.errors import InputError
from fer_edge.utils.image_io import read_colour, read_gray

if TYPE_CHECKING:
    import numpy.typing as npt

    StrPath = str | os.PathLike[str]
    ImageLike = StrPath | npt.NDArray[np.uint8]

Channels = Literal["bgr", "rgb"]

_REMEDIES: Final = {
    "b": "a mask is not an image: mask.astype(np.uint8) * 255",
    "f": "for values 0..1 use (image * 255).astype(np.uint8)",
    "u": "for 16-bit images use (image // 257).astype(np.uint8)",
    "i": "for values 0..255 use image.astype(np.uint8)",
    "O": "images of different sizes go into a list",
}


def load_gray(image: object, name: str = "image", channels: Channels = "bgr") -> npt.NDArray[np.uint8]:
    """Read or convert an image to grey.

    Args:
        image: a path, or a uint8 array of shape (rows, columns), (rows, columns, 1) or (rows, columns, 3).
        name: name of an array in error messages.
        channels: order of the channels of a colour array.

    Returns:
        uint8 array of shape (rows, columns).

    Raises:
        DataError: the file cannot be read or is not an image.
        InputError: the image is neither a path nor an array of the right type and shape.
    """
    if isinstance(image, str | os.PathLike):
        return read_gray(_path(image, name))
    checked = check_image(image, name, channels)
    if checked.ndim == 2:
        return checked
    code = cv2.COLOR_BGR2GRAY if channels == "bgr" else cv2.COLOR_RGB2GRAY
    return np.asarray(cv2.cvtColor(checked, code), np.uint8)


def load_bgr(image: object, name: str = "image", channels: Channels = "bgr") -> npt.NDArray[np.uint8]:
    """Read or convert an image to BGR, uint8 of shape (rows, columns, 3); see `load_gray`."""
    if isinstance(image, str | os.PathLike):
        return read_colour(_path(image, name))
    checked = check_image(image, name, channels)
    if checked.ndim == 3 and channels == "bgr":
        return checked
    code = cv2.COLOR_GRAY2BGR if checked.ndim == 2 else cv2.COLOR_RGB2BGR
    return np.asarray(cv2.cvtColor(checked, code), np.uint8)


def check_image(image: object, name: str = "image", channels: str = "bgr") -> npt.NDArray[np.uint8]:
    """Check that an object is one image.

    Args:
        image: the object.
        name: its name in error messages.
        channels: order of its channels.

    Returns:
        The image, contiguous and of shape (rows, columns) or (rows, columns, 3).

    Raises:
        InputError: the object is not a uint8 array of shape (rows, columns), (rows, columns, 1) or
            (rows, columns, 3), or it is empty.
    """
    if channels not in {"bgr", "rgb"}:
        raise InputError(f"channels: {channels!r} is not an order of colours; give 'bgr' or 'rgb'")
    array = check_array(image, name)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] == 3):
        raise InputError(f"{name}: {_wrong_shape(array.shape)}")
    if not array.size:
        raise InputError(f"{name}: empty, its shape is {array.shape}")
    return np.ascontiguousarray(array)


def check_array(image: object, name: str) -> npt.NDArray[np.uint8]:
    """Check that an object is a uint8 array of any shape.

    Raises:
        InputError: the object is not an array, or has values of another type.
    """
    if not isinstance(image, np.ndarray):
        kind = type(image)
        if kind.__module__.partition(".")[0] == "PIL":
            raise InputError(f"{name}: a Pillow image; give np.asarray(image.convert('RGB')) and channels='rgb'")
        raise InputError(f"{name}: {kind.__name__} is neither a path nor a NumPy array of uint8")
    if image.dtype != np.uint8:
        if not image.size:
            raise InputError(f"{name}: empty, its shape is {image.shape}")
        remedy = _REMEDIES.get(image.dtype.kind, "give numbers")
        raise InputError(f"{name}: values of type {image.dtype}, but pixels are uint8, 0..255; {remedy}")
    return image


def _path(path: str | os.PathLike[str], name: str) -> Path:
    text = os.fspath(path)
    if not isinstance(text, str) or not text:
        raise InputError(f"{name}: {text!r} is not a path")
    return Path(text)


def _wrong_shape(shape: tuple[int, ...]) -> str:
    """Describe what is wrong with the shape of an array, and how to correct it."""
    if len(shape) == 3 and shape[-1] in {2, 4}:
        return f"shape {shape} has an alpha channel; leave it out: image[..., :{shape[-1] - 1}]"
    if len(shape) == 3 and shape[0] in {1, 3, 4}:
        return f"shape {shape} seems to have its channels first; move them to the end: image.transpose(1, 2, 0)"
    expected = "an image is (rows, columns) or (rows, columns, 3)"
    if len(shape) == 3:
        return f"shape {shape} is not that of one image: {expected}; give several grey images as list(images)"
    return f"shape {shape} is not that of an image: {expected}"
