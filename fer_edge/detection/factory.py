"""Creating a face detector by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.yunet import YuNetDetector
from fer_edge.errors import InputError
from fer_edge.model_zoo import DEFAULT_DETECTOR, find_model

if TYPE_CHECKING:
    from fer_edge.detection.base import TrackingDetector
    from fer_edge.model_zoo import DetectorName


def make_detector(
    name: DetectorName = "network",
    model: str | Path | None = None,
    min_face: int | None = None,
    min_score: float | None = None,
) -> TrackingDetector:
    """Create a face detector.

    Args:
        name: ``network`` or ``yunet``.
        model: the detector's file; see `detector_file`.
        min_face: side of the smallest face to find, in pixels; None for a sixteenth of an image's longer side.
        min_score: lowest score of a face, 0..1; None for the detector's own.

    Raises:
        InputError: ``yunet`` without a file.
        ModelError: the file is missing or damaged.
    """
    path = detector_file(name, model)
    if name == "network":
        return NetworkDetector(path, min_face, min_score=min_score)
    return YuNetDetector(path, min_face, min_score)


def detector_file(name: DetectorName, model: str | Path | None) -> Path:
    """Return the file of a detector.

    Args:
        name: ``network`` or ``yunet``.
        model: a file, or the name of a shipped detector (``faces``); None for the shipped detector.

    Raises:
        InputError: ``yunet`` without a file, or an ONNX file without ``yunet``.
        ModelError: there is no such file.
    """
    if model is not None:
        if name == "yunet":
            return Path(model)
        if Path(model).suffix == ".onnx":
            raise InputError(f"{model}: an ONNX file is for the detector yunet; give --detector yunet, too")
        return find_model(model, "detector")
    if name == "yunet":
        raise InputError(
            "yunet needs --detector-model FILE, or faces.detector_model in a configuration: download"
            " face_detection_yunet_2023mar.onnx from the OpenCV Zoo"
        )
    return DEFAULT_DETECTOR
