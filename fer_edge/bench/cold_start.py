"""Measure the cost of a start, in a process that has loaded nothing before."""

from __future__ import annotations

import importlib
import re
import time
from pathlib import Path


def measure_start(
    model: Path, threads: int, *, xnnpack: bool, detector: str, detector_model: Path | None, min_face: int | None
) -> dict[str, float]:
    """Load a model and a detector, process a face and a frame, and measure each step.

    Args:
        model: the model file.
        threads: threads of the classifier.
        xnnpack: whether to use the XNNPACK delegate.
        detector: name of the face detector.
        detector_model: the detector's file; None for the shipped one.
        min_face: side of the smallest face to find, in pixels; None for the detector's default.

    Returns:
        Fields of `fer_edge.bench.results.StartupCost`.
    """
    times = {}
    stopwatch = _Stopwatch()
    # These imports are part of what is measured, so they are not at the top.
    demo, classifiers, detectors = (
        importlib.import_module(f"fer_edge.{name}")
        for name in ("demo", "classification.classifier", "detection.factory")
    )
    times["import_ms"] = stopwatch.lap()
    classifier = classifiers.TFLiteClassifier(model, threads, xnnpack=xnnpack)
    times["load_ms"] = stopwatch.lap()
    spec = classifier.card.input
    classifier.classify(demo.np.zeros((1, spec.height, spec.width), "uint8"))
    times["first_run_ms"] = stopwatch.lap()
    times["classifier_peak_mb"] = _peak_mb()
    stopwatch.lap()
    face_detector = detectors.make_detector(detector, detector_model, min_face)
    times["detector_ms"] = stopwatch.lap()
    frame = demo.frame(0)
    stopwatch.lap()
    classifiers.classify_faces(frame, face_detector.detect(frame), face_detector.crop_spec, classifier)
    times["first_frame_ms"] = stopwatch.lap()
    return {**times, "peak_mb": _peak_mb()}


class _Stopwatch:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Return the milliseconds since the last lap."""
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed * 1e3


def _peak_mb() -> float:
    # Not by getrusage: a program inherits its peak from the process that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found.group(1)) * 1024 / 1e6 if found else 0.0
