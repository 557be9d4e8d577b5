"""Grey images from the bytes that a V4L2 camera sends, without a conversion to colour.

Measured by benchmarks/camera_decoding.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.errors import DataError
from fer_edge.utils.image_io import decode_gray

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

_JPEG: Final = {"MJPG", "JPEG"}
_JPEG_START: Final = b"\xff\xd8"
# Formats that hold the luma of each pixel: bytes per pixel, and the place of the luma among them (linux/videodev2.h).
_PACKED: Final = {"YUYV": (2, 0), "YVYU": (2, 0), "UYVY": (2, 1), "VYUY": (2, 1), "GREY": (1, 0)}
_PLANAR: Final = {"NV12", "NV21", "YU12", "YV12"}  # the luma comes first, as a plane

KNOWN: Final = _JPEG | _PACKED.keys() | _PLANAR
"""The formats that `decode_luma` knows."""


def decode_luma(
    data: npt.NDArray[np.uint8], pixel_format: str, width: int, height: int, reduced: int
) -> npt.NDArray[np.uint8] | None:
    """Return the grey image in a frame as a camera sends it.

    Args:
        data: uint8 array of any shape.
        pixel_format: one of `KNOWN`.
        width: width of the camera's frames, in pixels.
        height: height of the camera's frames, in pixels.
        reduced: factor by which to shrink Motion JPEG: 1, 2, 4 or 8. Other formats are not shrunk.

    Returns:
        A new uint8 array of shape (rows, columns); None if the frame is damaged.
    """
    data = data.reshape(-1)
    if pixel_format in _JPEG:
        return _decode_jpeg(data, reduced)
    bytes_per_pixel, place = _PACKED.get(pixel_format, (1, 0))
    size = width * height * bytes_per_pixel
    if not size or data.size < size:  # a part was lost on the way
        return None
    luma = data[:size].reshape(height, width, bytes_per_pixel)[:, :, place]
    return np.array(luma, order="C")


def _decode_jpeg(data: npt.NDArray[np.uint8], reduced: int) -> npt.NDArray[np.uint8] | None:
    image = data.tobytes()
    if not image.startswith(_JPEG_START):
        return None
    try:
        return decode_gray(image, "frame", reduced)
    except DataError:
        return None
