"""How long a face and a frame take on this machine."""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np

from fer_edge import demo
from fer_edge.classify import classify_boxes
from fer_edge.crop import crop_face
from fer_edge.runtime import runtime_name
from fer_edge.system import machine_name, temperature_c

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from fer_edge.classify import TFLiteClassifier
    from fer_edge.faces import FaceDetector

_WARM_UP = 5


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of one job over a number of runs, after a warm-up."""

    min: float
    median: float
    p95: float
    p99: float
    runs: int


class Benchmark(msgspec.Struct, frozen=True, kw_only=True):
    """Latencies, and what they were measured on.

    Attributes:
        model: path of the model.
        sha256: of its file.
        detector: name of the face detector.
        frame: columns and rows of the frame.
        faces: how many faces the frames hold, on average.
        threads: how many threads the classifier may use; the detector's are OpenCV's own.
        machine: board or processor.
        cores: logical processors this process may use.
        runtime: TFLite runtime with its version.
        versions: of Python, NumPy, OpenCV.
        temperature_c: of the processor, before and after; None where the system does not tell.
        classifier: one face crop.
        detect: one frame, grey.
        whole_frame: one frame: detection, crops and classification of its faces.
    """

    model: str
    sha256: str
    detector: str
    frame: tuple[int, int]
    faces: float
    threads: int
    machine: str
    cores: int
    runtime: str
    versions: dict[str, str]
    temperature_c: tuple[float | None, float | None]
    classifier: Latency
    detect: Latency
    whole_frame: Latency


def benchmark(
    classifier: TFLiteClassifier, detector: FaceDetector, *, detector_name: str, threads: int, runs: int
) -> Benchmark:
    """Measure on frames of the demo film.

    Args:
        classifier: the model to measure, already loaded.
        detector: the face detector to measure.
        detector_name: what to call it.
        threads: how many threads the classifier was loaded with, for the record.
        runs: how many times each job is done.
    """
    # A handful of frames with faces, made beforehand: drawing them is not what is measured.
    numbers = [n for n in range(0, demo.FRAMES, 10) if demo.truth(n)]
    frames = [demo.frame(n) for n in numbers]
    spec = classifier.card.input
    shown = demo.truth(numbers[0])[0]
    face = crop_face(frames[0], shown.box, spec.height, spec.width)[None]

    def whole(gray: npt.NDArray[np.uint8]) -> None:
        classify_boxes(gray, [found.box for found in detector.detect(gray)], detector.framing, classifier)

    before = temperature_c()
    classify = _time(lambda _: classifier.classify(face), frames, runs)
    detect = _time(detector.detect, frames, runs)
    whole_frame = _time(whole, frames, runs)
    return Benchmark(
        model=str(classifier.path),
        sha256=classifier.sha256,
        detector=detector_name,
        frame=(demo.WIDTH, demo.HEIGHT),
        faces=round(sum(len(demo.truth(n)) for n in numbers) / len(numbers), 2),
        threads=threads,
        machine=machine_name(),
        cores=len(os.sched_getaffinity(0)),
        runtime=runtime_name(),
        versions={"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__},
        temperature_c=(before, temperature_c()),
        classifier=classify,
        detect=detect,
        whole_frame=whole_frame,
    )


def _time(job: Callable[[npt.NDArray[np.uint8]], object], frames: list[npt.NDArray[np.uint8]], runs: int) -> Latency:
    taken = np.empty(runs)
    for run in range(-_WARM_UP, runs):
        frame = frames[run % len(frames)]
        start = time.perf_counter_ns()
        job(frame)
        if run >= 0:
            taken[run] = (time.perf_counter_ns() - start) / 1e6
    p50, p95, p99 = (round(float(value), 3) for value in np.percentile(taken, (50, 95, 99)))
    return Latency(min=round(float(taken.min()), 3), median=p50, p95=p95, p99=p99, runs=runs)
