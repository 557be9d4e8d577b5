"""Check the classifier and the face detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fer_edge_device.doctor.base import Finding

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config


def check_classifier(config: Config) -> Finding:
    """Check that the classifier loads and gives the scores of its card's self-test."""
    from fer_edge.classification.classifier import TFLiteClassifier  # noqa: PLC0415 - heavy
    from fer_edge.model_zoo import find_model  # noqa: PLC0415 - heavy

    classifier = TFLiteClassifier(find_model(Path(config.model)), config.threads)
    message = f"{classifier.card.name}-{classifier.sha256[:8]}, {len(classifier.card.labels)} labels"
    difference = classifier.self_test()
    if difference is None:
        return Finding(
            "warning",
            f"{message}; its card has no self-test",
            f"add one on a machine where the model works: fer-edge card set {config.model}",
        )
    return Finding("ok", f"{message}; scores are within {difference:.3f} of those on its card")


def check_detector(config: Config) -> Finding:
    """Check that the detector finds a face, and that a network gives the outputs of its card's self-test."""
    from fer_edge import demo  # noqa: PLC0415 - heavy
    from fer_edge.detection.factory import make_detector  # noqa: PLC0415 - heavy
    from fer_edge.detection.network import NetworkDetector  # noqa: PLC0415 - heavy

    faces = config.faces
    detector = make_detector(faces.detector, Path(faces.detector_model) if faces.detector_model else None)
    name: str = faces.detector
    self_test = Finding("ok", "")
    if isinstance(detector, NetworkDetector):
        name = f"{detector.card.name}-{detector.sha256[:8]}"
        self_test = _self_test_finding(detector.self_test())
    with_face = next(number for number in range(0, demo.FRAMES, 10) if demo.truth(number))
    if not detector.detect(demo.frame(with_face)):
        return Finding(
            "failure", f"{name} does not find the face in the demo", "set another detector in faces.detector_model"
        )
    return replace(self_test, message=f"{name} finds the face in the demo{self_test.message}")


def _self_test_finding(difference: float | None) -> Finding:
    """Return what a detector's self-test means; the message continues a sentence."""
    if difference is None:
        return Finding("warning", "; its card has no self-test", "convert it again with `fer-edge convert`")
    return Finding("ok", f"; outputs are within {difference:g} steps of those on its card")
