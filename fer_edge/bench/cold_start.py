"""What a process pays once: for a process of its own, which must have loaded nothing before."""

from __future__ import annotations

import importlib
import re
import time
from pathlib import Path


def start(
    model: Path, threads: int, *, xnnpack: bool, detector: str, detector_model: Path | None, min_face: int | None
) -> dict[str, float]:
    """Load a model and a detector, do a face and a frame, and tell what each step took.

    Args:
        model: the file.
        threads: of the classifier.
        xnnpack: whether with the delegate.
        detector: name of the face detector.
        detector_model: its file; None for the shipped network's.
        min_face: side of the smallest face to find, in pixels; None for the detector's own choice.

    Returns:
        Fields of `fer_edge.bench.results.Start`.
    """
    taken = {}
    watch = _Stopwatch()
    # Not at the top, for this is part of what is measured.
    demo, classifiers, detectors = (
        importlib.import_module(f"fer_edge.{name}")
        for name in ("demo", "classification.classifier", "detection.factory")
    )
    taken["import_ms"] = watch.lap()
    classifier = classifiers.TFLiteClassifier(model, threads, xnnpack=xnnpack)
    taken["load_ms"] = watch.lap()
    spec = classifier.card.input
    classifier.classify(demo.np.zeros((1, spec.height, spec.width), "uint8"))
    taken["first_run_ms"] = watch.lap()
    taken["classifier_peak_mb"] = _peak_mb()
    watch.lap()
    finder = detectors.make_detector(detector, detector_model, min_face)
    taken["detector_ms"] = watch.lap()
    frame = demo.frame(0)
    watch.lap()
    classifiers.classify_faces(frame, finder.detect(frame), finder.crop_spec, classifier)
    taken["first_frame_ms"] = watch.lap()
    return {**taken, "peak_mb": _peak_mb()}


class _Stopwatch:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Milliseconds since the last lap."""
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed * 1e3


def _peak_mb() -> float:
    # Not getrusage's: an executed program inherits that from the one that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found.group(1)) * 1024 / 1e6 if found else 0.0
