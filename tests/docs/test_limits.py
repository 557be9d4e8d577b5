"""The table of the manual says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

from fer_edge.utils import limits

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "limits.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| (.*?) \| (.*) \|$", TEXT, re.MULTILINE))


def numbers(kind: str) -> list[int]:
    (row,) = [value for key, value in ROWS.items() if key.startswith(kind)]
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", row)]


def test_the_manual_states_every_limit() -> None:
    mb = 1_000_000
    stated = {
        "model (": [limits.MODEL_BYTES // mb, limits.MODEL_BYTES // mb],
        "model in a runtime": [limits.TRIAL_BYTES // mb, limits.TRIAL_CPU_S, int(limits.TRIAL_S)],
        "Keras file": [limits.KERAS_BYTES // mb, limits.KERAS_OBJECTS],
        "memory of that process": [limits.CONVERSION_BYTES // mb, 850, limits.CONVERSION_BYTES_PER_BYTE],
        "processor time of that process": [limits.CONVERSION_CPU_S, limits.CONVERSION_CPU_S_PER_MB],
        "model card": [limits.CARD_BYTES // mb],
        "labels": [2, limits.LABELS, 1, limits.LABEL_CHARACTERS],
        "configuration": [limits.TEXT_BYTES // 1000, limits.TEXT_LINE],
        "result of": [limits.JSON_BYTES // mb],
        "image file": [limits.IMAGE_BYTES // mb],
        "image, decoded to grey": [limits.GRAY_PIXELS // mb],
        "image, decoded to colour": [limits.COLOUR_PIXELS // mb],
        "JPEG, which": [limits.JPEG_PIXELS // mb],
        "progressive JPEG": [limits.SCANNED_JPEG_PIXELS // mb],
        "memory of decoding": [round(limits.DECODING_BYTES / mb)],
        "segments of a JPEG": [limits.JPEG_SEGMENTS],
        "chunks of a PNG": [limits.PNG_CHUNKS, limits.PNG_PACKED_TEXTS],
        "pixels that a face": [limits.DETECTOR_PIXELS // mb, limits.YUNET_PIXELS // mb],
        "HEIC": [limits.HEIF_PIXELS // mb],
        "JPEG 2000, which": [
            limits.JPEG2000_PIXELS // mb,
            limits.DECODER_PROCESS_BYTES // mb,
            int(limits.DECODER_PROCESS_S),
        ],
        "image of more than four bytes": [limits.STORED_PIXEL_BYTES // mb],
        "frame of a video": [limits.VIDEO_PIXELS // mb],
        "part of a video": [limits.VIDEO_BYTES_WITHOUT_FRAME // mb],
        "memory of the frames": [limits.VIDEO_DECODER_BYTES // mb],
        "memory of one call": [limits.LIBRARY_CALL_BYTES // mb],
        "images of archives that wait": [limits.WAITING_BYTES // mb, limits.WAITING_BYTES_PER_THREAD // mb],
        "input that makes no progress": [limits.PATIENCE_S],
        "table of faces": [limits.TABLE_BYTES // mb, limits.TABLE_ROW_BYTES // mb],
        "table of boxes": [limits.TABLE_ROWS],
        "directory of a zip": [limits.ARCHIVE_DIRECTORY_BYTES // mb, 300_000],
        "headers of one member": [limits.ARCHIVE_HEADER_BYTES // mb],
        "members of a tar": [limits.ARCHIVE_MEMBERS],
        "archive of a dataset": [limits.ARCHIVE_BYTES // mb],
        "archive or member": [limits.ARCHIVE_RATIO],
        "memory of an LZMA": [limits.DECODER_BYTES // mb],
        "page: ": [
            limits.PAGE_CONNECTIONS,
            limits.PAGE_CONNECTIONS_OF_ADDRESS,
            limits.PAGE_HEADER_BYTES // 1000,
            limits.PAGE_BODY_BYTES // 1000,
        ],
        "page of": [
            limits.UPLOAD_IMAGE_BYTES // mb,
            limits.UPLOAD_VIDEO_BYTES // mb,
            limits.UPLOAD_VIDEO_S,
            limits.UPLOADS,
        ],
        "folder of `fer-edge review`": [
            limits.REVIEW_FACES,
            limits.REVIEW_IMAGE_BYTES // mb,
            limits.MANIFEST_BYTES // mb,
        ],
    }
    assert {kind: numbers(kind) for kind in stated} == stated
    unstated = {"kind", "---", "video in an archive"}
    assert len(ROWS) == len(stated) + len([row for row in ROWS if row.startswith(tuple(unstated))])


def test_the_manual_of_the_python_api_states_the_same_pixels() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8")
    found = re.search(r"more than (\d+) million pixels, or (\d+) million where it is decoded to colour", page)
    assert found
    assert [int(number) for number in found.groups()] == [limits.GRAY_PIXELS // 10**6, limits.COLOUR_PIXELS // 10**6]
