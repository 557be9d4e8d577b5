"""Recognize the faces of images and videos that a browser sends. Nothing of them is kept.

The work is that of ``fer-edge tag``, so that the rows are the same, and what one file does is its own row.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import cv2

from fer_edge.drawing import draw_faces
from fer_edge.errors import DataError, one_line
from fer_edge.tagging.input.source import Source
from fer_edge.tagging.input.video import measure_video
from fer_edge.tagging.output.columns import column_types, column_values, json_fields
from fer_edge.tagging.output.csv_cells import guard_cell
from fer_edge.tagging.provenance import read_provenance
from fer_edge.tagging.tracks import make_rows
from fer_edge.tagging.worker import process
from fer_edge.utils.file_kinds import VIDEO_SUFFIXES
from fer_edge.utils.image_io import decode
from fer_edge.utils.limits import UPLOAD_VIDEO_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fer_edge.tagging.options import TagOptions
    from fer_edge.tagging.output.columns import FaceRow, Provenance
    from fer_edge.tagging.records import SourceResult

_PART_S: Final = 2.0  # of a video, whose rows come together
_JPEG_QUALITY: Final = 92


class UploadModel:
    """A model that recognizes uploads, one at a time, in a thread of its own.

    Attributes:
        provenance: the model's name, labels and hash.
        thread: runs its functions.
        options: how it processes images.
    """

    def __init__(self, options: TagOptions) -> None:
        """Load the model.

        Args:
            options: how images are processed.

        Raises:
            ModelError: the model cannot be loaded.
        """
        self.provenance: Provenance = read_provenance(Path(options.model))
        self.thread = ThreadPoolExecutor(1, f"model {self.provenance.model}")
        self.options = options

    def recognize_image(self, data: bytes, name: str, options: TagOptions) -> dict[str, Any]:
        """Return the rows of an image, as JSON and as lines of CSV.

        Args:
            data: the encoded image.
            name: its name.
            options: how to process it.
        """
        source = Source(name, name, kind="member", data=data)
        rows = [row for rows in make_rows([(name, False, self._process(source, options))], None) for row in rows.rows]
        return describe_rows(rows, self.provenance)

    def recognize_video(self, video: IO[bytes], name: str, options: TagOptions) -> Iterator[dict[str, Any]]:
        """Yield the rows of each part of a video, as JSON and as lines of CSV.

        Args:
            video: a file that contains the video.
            name: its name.
            options: how to process it.
        """
        path = video_path(video)
        duration = min(measure_video(path), UPLOAD_VIDEO_S)  # 0: it cannot be read in parts
        begins = [number * _PART_S for number in range(1, math.ceil(duration / _PART_S))]
        parts = itertools.pairwise([0.0, *begins, UPLOAD_VIDEO_S])
        results = (
            (name, True, self._process(Source(name, str(path), kind="video", begin=begin, end=end), options))
            for begin, end in parts
        )
        for rows in make_rows(results, options.every):
            yield {"duration": duration, **describe_rows(rows.rows, self.provenance)}

    def annotate(self, data: bytes, name: str, options: TagOptions) -> bytes:
        """Return an image with its faces drawn, as JPEG.

        Args:
            data: the encoded image.
            name: its name.
            options: how to process it.

        Raises:
            DataError: the image cannot be decoded.
        """
        result = self._process(Source(name, name, kind="member", data=data), options)
        if errors := [record.error for record in result.records if record.error]:
            raise DataError(errors[0])
        image = decode(data, name, colour=True).pixels.copy()
        draw_faces(image, [record.face for record in result.records if record.face])
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()

    def close(self) -> None:
        """End the thread."""
        self.thread.shutdown(wait=False, cancel_futures=True)

    def _process(self, source: Source, options: TagOptions) -> SourceResult:
        return next(process(options, [source]))


def describe_rows(rows: Sequence[FaceRow], provenance: Provenance) -> dict[str, Any]:
    """Return rows as JSON and as lines of CSV, as in the tables of ``fer-edge tag``."""
    return {
        "rows": [json_fields(row, provenance) for row in rows],
        "csv": csv_lines(map(guard_cell, column_values(row, provenance)) for row in rows),
    }


def csv_header(provenance: Provenance) -> str:
    """Return the first line of the CSV."""
    return csv_lines([column_types(provenance.labels)])


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Return lines of CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def is_video(name: str, content_type: str) -> bool:
    """Return whether an upload is a video, by its ending or by what the browser says."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES or content_type.startswith("video/")


def clean_name(name: str) -> str:
    """Return the name of an upload without folders and control characters."""
    return one_line(name.replace("\\", "/").rpartition("/")[2][:255]) or "image"


def open_video_file() -> IO[bytes]:
    """Return an empty file for a video: in memory where the system has such files, otherwise a temporary one."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("video"), "w+b")
    return tempfile.NamedTemporaryFile()


def video_path(video: IO[bytes]) -> Path:
    """Return the path by which this process can open a file of `open_video_file`."""
    return Path(f"/proc/self/fd/{video.fileno()}") if hasattr(os, "memfd_create") else Path(video.name)
