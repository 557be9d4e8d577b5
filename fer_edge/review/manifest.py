"""``manifest.json`` of a dataset folder: which faces it has, and who labelled them when."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from fer_edge.datasets.class_folders import MANIFEST
from fer_edge.errors import DataError, first_line
from fer_edge.review.agreement import Agreement
from fer_edge.review.choices import emotion_problem
from fer_edge.review.split import SIDES, Side
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.limits import MANIFEST_BYTES

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA: Final = 1
NO_MAJORITY: Final = "no majority"
DIVIDED: Final = "near-duplicates in train and in test"
_KIND: Final = "fer-edge dataset"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_NAME_DIGITS: Final = 20  # of a hash; that two of 200,000 faces share them has a probability below 1e-13


class Review(msgspec.Struct, frozen=True):
    """An answer.

    Attributes:
        reviewer: who gave it.
        label: an emotion, ``cannot tell`` or ``not a face``.
        time: when, in UTC.
    """

    reviewer: str
    label: str
    time: str


class DatasetFace(msgspec.Struct, frozen=True, kw_only=True):
    """A face of the dataset.

    Attributes:
        file: its path in the dataset.
        sha256: hash of that file.
        source: name of the image that was reviewed.
        source_sha256: hash of that image.
        label: the emotion.
        split: ``train`` or ``test``, for ever.
        group: what kept it together with others; empty if nothing but near-duplicates did.
        reviews: the answers.
    """

    file: str
    sha256: str
    source: str
    source_sha256: str
    label: str
    split: Side
    group: str
    reviews: tuple[Review, ...]


class LeftOutFace(msgspec.Struct, frozen=True, kw_only=True):
    """A face that was reviewed, but is not in the dataset.

    Attributes:
        source: name of the image that was reviewed.
        source_sha256: hash of that image.
        reason: why: ``cannot tell``, ``not a face``, or one of the two constants above.
        split: where it has been in an earlier version, and would be again; empty if nowhere.
        group: see `DatasetFace`.
        reviews: the answers.
    """

    source: str
    source_sha256: str
    reason: str
    split: Side
    group: str
    reviews: tuple[Review, ...]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a dataset folder consists of.

    Attributes:
        schema: version of this form.
        version: version of the dataset, from 1; each change has a greater one.
        created: when, in UTC.
        program: what wrote it.
        test_share: share of each emotion's faces that was wanted for the test.
        agreement: how far the reviewers agree.
        faces: the faces, in the order of their files.
        left_out: the others that were reviewed.
        kind: what this file is.
    """

    schema: int
    version: int
    created: str
    program: str
    test_share: float
    agreement: Agreement
    faces: tuple[DatasetFace, ...]
    left_out: tuple[LeftOutFace, ...]
    kind: Literal["fer-edge dataset"] = _KIND

    def encode(self) -> bytes:
        """Return it as JSON, in lines."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def dataset_file(split: str, label: str, source_sha256: str) -> str:
    """Return the path in the dataset of a face."""
    return f"{split}/{label}/{source_sha256[:_NAME_DIGITS]}.png"


def read_manifest(dataset: Path) -> Manifest | None:
    """Read the manifest of a dataset folder; None if there is none.

    Raises:
        DataError: it cannot be read, or no review has written it.
    """
    path = dataset / MANIFEST
    if not path.exists():
        return None
    try:
        manifest = msgspec.json.decode(read_bytes(path, MANIFEST_BYTES), type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"{path}: not the manifest of a reviewed dataset ({first_line(error)})") from error
    if manifest.schema != SCHEMA:
        raise DataError(f"{path}: written by another version of fer-edge; upgrade, or export to a new folder")
    for face in manifest.faces:
        if not (
            face.split in SIDES
            and _SHA256.fullmatch(face.source_sha256)
            and not emotion_problem(face.label)
            and face.file == dataset_file(face.split, face.label, face.source_sha256)
        ):
            raise DataError(f"{path}: {face.file!r} is no face of a reviewed dataset; export to a new folder")
    return manifest
