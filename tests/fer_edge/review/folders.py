"""Folders of faces for tests, and what reviewers say of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import cv2

from fer_edge.classification.labels import FER2013
from fer_edge.review.decisions import DecisionLog
from fer_edge.review.face_folder import REVIEWS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Sample


def write_faces(folder: Path, sample: Sample, rows: range) -> dict[str, str]:
    """Write faces into a folder; return the name of each file by the hash of its content."""
    folder.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for row in rows:
        path = folder / f"{row:04d}.png"
        cv2.imwrite(str(path), sample.faces[row])
        hashes[hashlib.sha256(path.read_bytes()).hexdigest()] = path.name
    return hashes


def emotion_of(sample: Sample, name: str) -> str:
    """Return what FER-2013 says of a face."""
    return FER2013[int(sample.rows[int(name[:4])]["emotion"])]


def review(folder: Path, reviewer: str, labels: dict[str, str | None]) -> None:
    """Record the answers of a reviewer, one after another."""
    with DecisionLog(folder / REVIEWS, reviewer) as log:
        for sha256, label in labels.items():
            log.record({sha256: label})
