"""Opening a video with the best reader that is installed."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from fer_edge.errors import DataError
from fer_edge.video.opencv_reader import OpenCvReader

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.video.base import VideoReader


def has_pyav() -> bool:
    """Return whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def open_video(path: Path, threads: int = 0) -> VideoReader:
    """Open a video file.

    PyAV reads it, if it is installed; otherwise OpenCV does, which knows less of it (see ``docs/reference/inputs.md``).

    Args:
        path: the file.
        threads: threads of PyAV's decoder; 0 for one per core.

    Raises:
        DataError: the file does not exist, or cannot be read as a video.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where access is denied
        raise DataError(f"{path}: no such file")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: cannot be read; check its permissions")
    if has_pyav():
        from fer_edge.video.pyav_reader import PyAvReader  # noqa: PLC0415 - an extra

        return PyAvReader(path, threads)
    return OpenCvReader(path)
