"""The conditions of a benchmark, as a part of the structure of its JSON.

Like `fer_edge.bench.results`, this module needs only msgspec and the standard library.
"""

from __future__ import annotations

import msgspec


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a machine at one moment; a field is None if the system does not report it.

    Attributes:
        load: processes that wanted a processor, averaged over a minute.
        clock_mhz: mean clock of the processors.
        temperature_c: temperature of the processor.
        throttled: flags of a Pi's firmware; see `fer_edge.utils.system.throttled_flags`.
    """

    load: float
    clock_mhz: float | None
    temperature_c: float | None
    throttled: int | None


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Machine, system and libraries; a field is None if the system does not report it.

    Attributes:
        machine: model of the board, or name of the processor.
        cpu: name or part number of the processor.
        architecture: such as ``aarch64``.
        kernel: release of the kernel.
        system: name of the distribution.
        cores: logical processors that are online.
        allowed: logical processors that this process may use.
        quota: processor time that the control group allows, in processors; None for no limit.
        governor: governor of the clock.
        governor_driver: driver of the clock; the meaning of ``powersave`` depends on it.
        clock_limits_mhz: lowest and highest clock that the governor may set.
        runtime: TFLite runtime and its version.
        delegate: delegate that runs the operators that it supports, with its version.
        versions: versions of fer-edge, Python, NumPy and OpenCV.
        opencv_threads: threads that the detector may use.
        before: state of the machine before the measurement.
        after: state after it.
        others: share of all processor time that other programs used meanwhile, 0..1.
        stolen: share of all processor time that the host of a virtual machine took, 0..1.
    """

    machine: str
    cpu: str
    architecture: str
    kernel: str
    system: str
    cores: int
    allowed: int
    quota: float | None
    governor: str | None
    governor_driver: str | None
    clock_limits_mhz: tuple[float, float] | None
    runtime: str
    delegate: str
    versions: dict[str, str]
    opencv_threads: int
    before: Condition
    after: Condition
    others: float | None
    stolen: float | None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a benchmark was taken.

    Attributes:
        detector: name of the face detector.
        detector_sha256: hash of its file.
        min_face: side of the smallest face to find, in pixels; None for the detector's default.
        frame: columns and rows of the frames.
        faces: mean number of faces in a frame.
        found: mean number of faces that the detector finds, and that a whole frame classifies.
        runs: requested runs of each case; None if the time was limited instead.
        seconds: time for each case; None if the number of runs was limited instead.
        turn: runs of one case before the next has its turn; taking turns spreads drift over all cases.
    """

    detector: str
    detector_sha256: str
    min_face: int | None
    frame: tuple[int, int]
    faces: float
    found: float
    runs: int | None
    seconds: float | None
    turn: int
