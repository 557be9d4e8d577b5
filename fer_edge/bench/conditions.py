"""Under which conditions a benchmark was taken: part of the structure of its JSON.

Like `fer_edge.bench.results`, this module needs only msgspec and the standard library.
"""

from __future__ import annotations

import msgspec


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a machine at one moment; a field is None if the system does not report it.

    Attributes:
        load: Processes that wanted a processor, averaged over a minute.
        clock_mhz: Mean clock of the processors.
        temperature_c: Temperature of the processor.
        throttled: Flags of a Pi's firmware; see `fer_edge.utils.system.throttled_flags`.
    """

    load: float
    clock_mhz: float | None
    temperature_c: float | None
    throttled: int | None


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Machine, system and libraries; a field is None if the system does not report it.

    Attributes:
        machine: Model of the board, or name of the processor.
        cpu: Name or part number of the processor.
        architecture: Such as ``aarch64``.
        kernel: Release of the kernel.
        system: Name of the distribution.
        cores: Logical processors that are online.
        allowed: Logical processors that this process may use.
        quota: Processor time that the control group allows, in processors; None for no limit.
        governor: Governor of the clock.
        governor_driver: Driver of the clock; the meaning of ``powersave`` depends on it.
        clock_limits_mhz: Lowest and highest clock that the governor may set.
        runtime: TFLite runtime and its version.
        delegate: Delegate that runs the operators that it supports, with its version.
        versions: Versions of fer-edge, Python, NumPy and OpenCV.
        opencv_threads: Threads that the detector may use.
        before: State of the machine before the measurement.
        after: State after it.
        others: Share of all processor time that other programs used meanwhile, 0..1.
        stolen: Share of all processor time that the host of a virtual machine took, 0..1.
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
        detector: Name of the face detector.
        detector_sha256: Hash of its file.
        min_face: Side of the smallest face to find, in pixels; None for the detector's default.
        frame: Columns and rows of the frames.
        faces: Mean number of faces in a frame.
        found: Mean number of faces that the detector finds, and that a whole frame classifies.
        runs: Requested runs of each case; None if the time was limited instead.
        seconds: Time for each case; None if the number of runs was limited instead.
        turn: Runs of one case before the next has its turn; taking turns spreads drift over all cases.
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
