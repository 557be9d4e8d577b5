"""The options of a tagging run."""

from __future__ import annotations

import msgspec

from fer_edge.model_zoo import DetectorName


class TagOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How images are processed; each field has the name of the command's option.

    Attributes:
        model: path of the classifier's file.
        threads: threads of the classifier.
        face: whether each image is a face crop, so that no detector is needed.
        detector: name of the face detector.
        detector_model: path of the detector's file; None for the shipped one.
        min_face: side of the smallest face to find, in pixels.
        min_score: lowest score of a face, 0..1; None for the detector's own.
        every: seconds between the processed frames of a video; None for every frame.
        sha256: whether to hash each file.
        sidecars: whether to write XMP sidecars.
        sidecar_dir: folder for the sidecars; None for beside the images.
        annotate: folder for annotated copies of the images; None for no copies.
        thumbnails: whether to keep a thumbnail of each face.
        candidates: whether to cut out faces that may be selected for review.
        max_fetch: largest file to fetch from an address, and largest video to unpack, in bytes.
    """

    model: str
    threads: int = 1
    face: bool = False
    detector: DetectorName = "network"
    detector_model: str | None = None
    min_face: int | None = None
    min_score: float | None = None
    every: float | None = None
    sha256: bool = False
    sidecars: bool = False
    sidecar_dir: str | None = None
    annotate: str | None = None
    thumbnails: bool = False
    candidates: bool = False
    max_fetch: int = 4_000_000_000
