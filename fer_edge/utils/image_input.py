"""Checking and converting the images that users pass in, as paths or arrays."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import cv2
import numpy as np

from fer_edge.errors import InputError
from fer_edge.utils.arguments import check_path, describe_value
from fer_edge.utils.image_io import read_colour, read_gray

if TYPE_CHECKING:
    import numpy.typing as npt

    StrPath = str | os.PathLike[str]
    # OpenCV's types do not say which numbers an image holds; what is not uint8 is refused when it is given.
    ImageLike = StrPath | npt.NDArray[np.integer[Any] | np.floating[Any]]

Channels = Literal["bgr", "rgb"]

_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib shortens :// to :/
_MAX_16_BIT: Final = 65535


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
    check_channels(channels)
    if isinstance(image, str | os.PathLike):
        return read_gray(_path(image, name))
    checked = check_image(image, name)
    if checked.ndim == 2:
        return checked
    code = cv2.COLOR_BGR2GRAY if channels == "bgr" else cv2.COLOR_RGB2GRAY
    return np.asarray(cv2.cvtColor(checked, code), np.uint8)


def load_bgr(image: object, name: str = "image", channels: Channels = "bgr") -> npt.NDArray[np.uint8]:
    """Read or convert an image to BGR, uint8 of shape (rows, columns, 3); see `load_gray`."""
    check_channels(channels)
    if isinstance(image, str | os.PathLike):
        return read_colour(_path(image, name))
    checked = check_image(image, name)
    if checked.ndim == 3 and channels == "bgr":
        return checked
    code = cv2.COLOR_GRAY2BGR if checked.ndim == 2 else cv2.COLOR_RGB2BGR
    return np.asarray(cv2.cvtColor(checked, code), np.uint8)


def check_channels(channels: object) -> None:
    """Raise InputError unless the order of the channels is ``bgr`` or ``rgb``."""
    if not isinstance(channels, str) or channels not in {"bgr", "rgb"}:
        raise InputError(f"channels: {describe_value(channels)} is not an order of colours; give 'bgr' or 'rgb'")


def check_image(image: object, name: str = "image") -> npt.NDArray[np.uint8]:
    """Check that an object is one image.

    Args:
        image: the object.
        name: its name in error messages.

    Returns:
        The image, contiguous and of shape (rows, columns) or (rows, columns, 3).

    Raises:
        InputError: the object is not a uint8 array of shape (rows, columns), (rows, columns, 1) or
            (rows, columns, 3), or it is empty.
    """
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
        remedy = (
            "; decode an encoded image with cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)"
            if isinstance(image, bytes | bytearray | memoryview)
            else ""
        )
        raise InputError(f"{name}: {kind.__name__} is neither a path nor a NumPy array of uint8{remedy}")
    if isinstance(image, np.ma.MaskedArray):
        raise InputError(f"{name}: a masked array; replace the masked pixels, for example image.filled(0)")
    if image.dtype != np.uint8:
        if not image.size:
            raise InputError(f"{name}: empty, its shape is {image.shape}")
        raise InputError(f"{name}: values of type {image.dtype}, but pixels are uint8, 0..255; {_remedy(image)}")
    return image


def _path(path: str | os.PathLike[str], name: str) -> Path:
    text = check_path(path, name)
    if _ADDRESS.match(text):
        raise InputError(
            f"{name}: {describe_value(text)} is an address; only fer_edge.tag and `fer-edge tag` take those"
        )
    return Path(text)


def _remedy(image: npt.NDArray[Any]) -> str:
    """Return how to convert an array of another type to uint8."""
    kind = image.dtype.kind
    if kind == "b":
        return "a mask is not an image: mask.astype(np.uint8) * 255"
    if kind == "O":
        return "images of different sizes go into a list"
    return _scaling(image) if kind in "fiu" else "give numbers"


def _scaling(image: npt.NDArray[Any]) -> str:
    """Return how to bring numbers to 0..255, chosen by their range."""
    kind, low, high = image.dtype.kind, image.min(), image.max()
    if kind == "f" and 0 <= low <= high <= 1:
        return "for values 0..1 use (image * 255).astype(np.uint8)"
    if 0 <= low <= high <= 255:
        return "for values 0..255 use image.astype(np.uint8)"
    if kind != "f" and 0 <= low <= high <= _MAX_16_BIT:
        return "for 16-bit images use (image // 257).astype(np.uint8)"
    return "scale the values to 0..255, then use image.astype(np.uint8)"


def _wrong_shape(shape: tuple[int, ...]) -> str:
    """Describe what is wrong with the shape of an array, and how to correct it."""
    if len(shape) == 3 and shape[-1] in {2, 4}:
        order = ", with channels='rgb' if the image is RGBA" if shape[-1] == 4 else ""
        return f"shape {shape} has an alpha channel; leave it out: image[..., :{shape[-1] - 1}]{order}"
    if len(shape) == 3 and shape[0] in {1, 3, 4}:
        return (
            f"shape {shape} is not that of one image; if the channels come first, give image.transpose(1, 2, 0);"
            " for several grey images, give list(images)"
        )
    expected = "an image is (rows, columns) or (rows, columns, 3)"
    if len(shape) == 3:
        return f"shape {shape} is not that of one image: {expected}; give several grey images as list(images)"
    return f"shape {shape} is not that of an image: {expected}"
