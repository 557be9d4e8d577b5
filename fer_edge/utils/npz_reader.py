"""Reading NumPy's ``.npz`` archives of unknown origin."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_edge.errors import first_line
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.limits import TABLE_BYTES
from fer_edge.utils.zip_reader import open_zip

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read all arrays of an archive.

    Raises:
        DataError: the file cannot be read.
        UnpackError: it is not such an archive, or a damaged one.
    """
    try:
        with open_zip(path) as archive:
            return {member.name.removesuffix(".npy"): _parse(member.read(TABLE_BYTES)) for member in archive.members}
    except (ValueError, TypeError, SyntaxError) as error:
        raise UnpackError(first_line(error)) from error


def _parse(content: bytes) -> npt.NDArray[Any]:
    """Parse an ``.npy`` file; its header may state no more elements than follow.

    Raises:
        ValueError: the file is damaged.
    """
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError("a damaged array")
    file.seek(0)
    return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
