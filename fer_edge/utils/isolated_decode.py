"""Decoding JPEG 2000 in a process of its own: OpenJPEG crashes where a damaged image asks for too much memory."""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.errors import DataError
from fer_edge.utils.address_space import PROC_IS_MISSING, is_known
from fer_edge.utils.limits import DECODER_PROCESS_BYTES, DECODER_PROCESS_S

if TYPE_CHECKING:
    import numpy.typing as npt

_SHAPE: Final = struct.Struct("<II")
_PROGRAM: Final = """
import os, resource, struct, sys
sys.path[:] = sys.argv[3:]
import cv2, numpy
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + int(sys.argv[2]),) * 2)
image = cv2.imdecode(numpy.frombuffer(sys.stdin.buffer.read(), numpy.uint8), int(sys.argv[1]))
if image is not None:
    sys.stdout.buffer.write(struct.pack("<II", *image.shape[:2]) + image.astype(numpy.uint8, copy=False).tobytes())
"""


def decode_isolated(data: bytes, name: str, flags: int) -> npt.NDArray[np.uint8]:
    """Decode an image with OpenCV in another process.

    Args:
        data: content of the file.
        name: name of the image, for errors.
        flags: as for `cv2.imdecode`.

    Returns:
        uint8 array of shape (rows, columns) or (rows, columns, 3).

    Raises:
        DataError: the image cannot be decoded, takes too much memory or time, or the system bounds no memory.
    """
    if not is_known():
        raise DataError(f"{name}: JPEG 2000 is only decoded within limits of memory, {PROC_IS_MISSING}")
    import subprocess  # noqa: PLC0415 - the camera's process is smaller without it

    command = [sys.executable, "-c", _PROGRAM, str(flags), str(DECODER_PROCESS_BYTES), *sys.path]
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            command,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=DECODER_PROCESS_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"{name}: takes longer than {DECODER_PROCESS_S:g} s to decode; it is damaged") from None
    if done.returncode or len(done.stdout) < _SHAPE.size:
        raise DataError(f"{name}: not an image, or a damaged one")
    rows, columns = _SHAPE.unpack_from(done.stdout)
    pixels = np.frombuffer(done.stdout, np.uint8, offset=_SHAPE.size)
    return pixels.reshape((rows, columns) if pixels.size == rows * columns else (rows, columns, 3)).copy()
