"""Detectors by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.yunet import YuNetDetector
from fer_edge.errors import InputError
from fer_edge.model_zoo import DEFAULT_DETECTOR, find_model

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.detection.base import TrackingDetector


DetectorName = Literal["network", "yunet"]


def make_detector(
    name: DetectorName = "network", model: Path | None = None, min_face: int | None = None
) -> TrackingDetector:
    """The detector of that name.

    Args:
        name: ``network`` or ``yunet``.
        model: see `detector_file`.
        min_face: side of the smallest face to find, in pixels; a sixteenth of an image's longer side without.

    Raises:
        InputError: ``yunet`` without a file.
        ModelError: the file is missing or damaged.
    """
    path = detector_file(name, model)
    if name == "network":
        return NetworkDetector(path, min_face)
    return YuNetDetector(path, min_face)


def detector_file(name: DetectorName, model: Path | None) -> Path:
    """The file that a detector is loaded from.

    Args:
        name: ``network`` or ``yunet``.
        model: a file, or the bare name of a shipped one (``faces``); the shipped network's without.

    Raises:
        InputError: ``yunet`` without a file, or its file without ``yunet``.
    """
    if model is not None:
        if name == "network" and model.suffix == ".onnx":
            raise InputError(f"{model}: for YuNet's file, say that the detector is yunet (--detector yunet)")
        return model if name == "yunet" else find_model(model, "detector")
    if name == "yunet":
        raise InputError(
            "yunet needs --detector-model FILE, in a configuration faces.detector_model: download"
            " face_detection_yunet_2023mar.onnx from the OpenCV Zoo"
        )
    return DEFAULT_DETECTOR
