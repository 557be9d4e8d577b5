"""Grey images from the bytes that a V4L2 camera sends, without a detour through colour where they hold the luma.

Measured by benchmarks/camera_decoding.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.errors import DataError
from fer_edge.utils.image_io import decode_gray

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

# The formats that OpenCV lets a camera use, by the names of `fer_edge_device.capture.v4l2.format_name`.
_JPEG: Final = {"MJPG", "JPEG"}
_JPEG_START: Final = b"\xff\xd8"
# Formats that hold the luma of each pixel: bytes per pixel, and the place of the luma among them.
_PACKED_LUMA: Final = {"YUYV": (2, 0), "UYVY": (2, 1), "GREY": (1, 0)}
_PLANAR: Final = {"NV12", "NV21", "YU12", "YV12", "411P"}  # the luma comes first, as a plane
# Formats with a grey value of two bytes per pixel: their order, and how many bits are used.
_DEEP: Final = {"Y10": ("<u2", 10), "Y12": ("<u2", 12), "Y16": ("<u2", 16), "Y16-BE": (">u2", 16)}
# Formats with the colours of each pixel: bytes per pixel, and the conversion that OpenCV has for them.
_COLOUR: Final = {
    "BGR3": (3, cv2.COLOR_BGR2GRAY),
    "RGB3": (3, cv2.COLOR_RGB2GRAY),
    "AR24": (4, cv2.COLOR_BGRA2GRAY),
    "XR24": (4, cv2.COLOR_BGRA2GRAY),
}
_BYTES_PER_PIXEL: Final = {
    **{name: size for name, (size, _) in (_PACKED_LUMA | _COLOUR).items()},
    **dict.fromkeys(_PLANAR, 1),
    **dict.fromkeys(_DEEP, 2),
}

KNOWN: Final = _JPEG | _BYTES_PER_PIXEL.keys()
"""The formats that `decode_frame` knows."""


def decode_frame(data: Bytes, pixel_format: str, width: int, height: int, reduced: int) -> Bytes | None:
    """Return the grey image in a frame as a camera sends it.

    Args:
        data: the frame's bytes, uint8 of any shape.
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
    bytes_per_pixel = _BYTES_PER_PIXEL[pixel_format]
    size = width * height * bytes_per_pixel
    if not size or data.size < size:  # a part was lost on the way
        return None
    pixels = data[:size].reshape(height, width, bytes_per_pixel)
    if pixel_format in _COLOUR:
        return np.asarray(cv2.cvtColor(pixels, _COLOUR[pixel_format][1]), np.uint8)
    if pixel_format in _DEEP:
        sample, bits = _DEEP[pixel_format]
        return (pixels.view(sample)[:, :, 0] >> (bits - 8)).astype(np.uint8)
    place = _PACKED_LUMA.get(pixel_format, (1, 0))[1]
    return np.array(pixels[:, :, place], order="C")


def _decode_jpeg(data: Bytes, reduced: int) -> Bytes | None:
    image = data.tobytes()
    if not image.startswith(_JPEG_START):
        return None
    try:
        return decode_gray(image, "frame", reduced)
    except DataError:
        return None
