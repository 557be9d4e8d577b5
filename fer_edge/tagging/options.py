"""The options of a tagging run."""

from __future__ import annotations

import msgspec

from fer_edge.model_zoo import DetectorName


class TagOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How images are processed; each field has the name of the command's option.

    Attributes:
        model: Path of the classifier's file.
        threads: Threads of the classifier.
        face: Whether each image is a face crop, so that no detector is needed.
        detector: Name of the face detector.
        detector_model: Path of the detector's file; None for the shipped one.
        min_face: Side of the smallest face to find, in pixels.
        every: Seconds between the processed frames of a video; None for every frame.
        sha256: Whether to hash each file.
        sidecars: Whether to write XMP sidecars.
        sidecar_dir: Folder for the sidecars; None for beside the images.
        annotate: Folder for annotated copies of the images; None for no copies.
        thumbnails: Whether to keep a thumbnail of each face.
        max_fetch: Largest file to fetch from an address, and largest video to unpack, in bytes.
    """

    model: str
    threads: int = 1
    face: bool = False
    detector: DetectorName = "network"
    detector_model: str | None = None
    min_face: int | None = None
    every: float | None = None
    sha256: bool = False
    sidecars: bool = False
    sidecar_dir: str | None = None
    annotate: str | None = None
    thumbnails: bool = False
    max_fetch: int = 4_000_000_000
