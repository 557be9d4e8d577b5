"""The options of a benchmark."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.model_zoo import DetectorName


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What to measure.

    Attributes:
        models: model files; the others are compared with the first.
        threads: numbers of threads of the classifier, each measured.
        xnnpack: whether to use the XNNPACK delegate: one value or both.
        batches: numbers of faces in one invocation, each measured; whole frames take one at a time, as the device does.
        detector: name of the face detector.
        detector_model: the detector's file; None for the shipped one.
        min_face: side of the smallest face to find, in pixels; None for the detector's default.
        runs: runs of each case, unless `seconds` is given.
        seconds: time for each case, instead of a number of runs.
        starts: fresh processes for each model, to measure the cost of a start.
        sustained: seconds of sustained work at the end; None for none.
        profile: whether to measure each operator, with the first of `threads` and `xnnpack`.
    """

    models: tuple[Path, ...]
    threads: tuple[int, ...] = (1,)
    xnnpack: tuple[bool, ...] = (True,)
    batches: tuple[int, ...] = (1,)
    detector: DetectorName = "network"
    detector_model: Path | None = None
    min_face: int | None = None
    runs: int = 200
    seconds: float | None = None
    starts: int = 3
    sustained: float | None = None
    profile: bool = False
