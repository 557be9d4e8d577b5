"""Environment variables that OpenCV reads when it is first imported."""

from __future__ import annotations

import os


def set_opencv_defaults() -> None:
    """Silence OpenCV's own messages and limit the size of images, unless the environment already says otherwise.

    The errors of fer-edge say what failed and what to do. An image may have 268 million pixels; without a limit, a
    small file could fill the memory.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 28))
