"""Environment variables that OpenCV reads when it is first imported."""

from __future__ import annotations

import os


def set_opencv_defaults() -> None:
    """Silence OpenCV's own messages and limit the size of images, unless the environment already says otherwise.

    The errors of fer-edge say what failed and what to do. `fer_edge.utils.image_header` refuses images of fewer pixels
    than this limit, by their headers; this one is for a decoder that reads another size than the header states.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 28))
