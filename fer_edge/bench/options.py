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
        models: Model files; the others are compared with the first.
        threads: Numbers of threads of the classifier, each measured.
        xnnpack: Whether to use the XNNPACK delegate: one value or both.
        batches: Numbers of faces in one invocation, each measured; whole frames take one at a time, as the device does.
        detector: Name of the face detector.
        detector_model: The detector's file; None for the shipped one.
        min_face: Side of the smallest face to find, in pixels; None for the detector's default.
        runs: Runs of each case, unless `seconds` is given.
        seconds: Time for each case, instead of a number of runs.
        starts: Fresh processes for each model, to measure the cost of a start.
        sustained: Seconds of sustained work at the end; None for none.
        profile: Whether to measure each operator, with the first of `threads` and `xnnpack`.
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
