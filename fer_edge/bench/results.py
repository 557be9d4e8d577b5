"""What a benchmark found: the structure of its JSON.

It needs msgspec and the standard library alone: `deploy` reads it where there may be no more.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from fer_edge.errors import InputError
from fer_edge.utils.validation import explain

if TYPE_CHECKING:
    from pathlib import Path


SCHEMA: Final = 1
SAMPLES: Final = 4000  # at most, of a case

Job = Literal["classifier", "detect", "whole_frame"]


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of one job over a number of runs, after a warm-up.

    Attributes:
        min: the shortest.
        median: half of the runs took no longer.
        p95: 95 % took no longer.
        p99: 99 % took no longer.
        standard_deviation: of a sample, 0 for one run.
        runs: how many there were.
        per_second: faces, or frames, that were done in a second, on average.
    """

    min: float
    median: float
    p95: float
    p99: float
    standard_deviation: float
    runs: int
    per_second: float


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One job, done in one way.

    Attributes:
        job: a call of the classifier; a search for faces in a grey frame; or both on a frame, with the crops between.
        model: name of the model; empty for the detector.
        threads: that the classifier may use; 0 for the detector, whose threads are OpenCV's own.
        xnnpack: whether the runtime's XNNPACK delegate was asked for.
        batch: faces that one invocation of the model takes.
        latency: how long it took.
        samples: milliseconds of the runs in their order; of 4000 drawn from them where there were more.
    """

    job: Job
    model: str = ""
    threads: int = 0
    xnnpack: bool = True
    batch: int = 1
    latency: Latency
    samples: Annotated[tuple[Annotated[float, msgspec.Meta(gt=0)], ...], msgspec.Meta(min_length=1)]

    @property
    def way(self) -> Way:
        """What was done, without how long it took."""
        return Way(self.job, self.model, self.threads, self.xnnpack, self.batch)


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """What tells one case from another; as in `Case`."""

    job: Job
    model: str = ""
    threads: int = 0
    xnnpack: bool = True
    batch: int = 1

    def __str__(self) -> str:
        """In words."""
        name = self.job.replace("_", " ")
        if not self.model:
            return name
        several = f", {self.batch} faces" if self.batch > 1 else ""
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{name}, {self.model}, {threads}{several}{'' if self.xnnpack else ', no XNNPACK'}"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model that was measured.

    Attributes:
        name: its file's without the ending, or its path where two have one name.
        path: the file.
        sha256: of the file.
        bytes: its size.
        accuracy: the last one on its card, 0..1; None where the card has none.
        accuracy_of: what the card calls it.
        delegate: what the runtime's XNNPACK delegate takes of it, in words.
    """

    name: str
    path: str
    sha256: str
    bytes: int
    accuracy: float | None
    accuracy_of: str
    delegate: str


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a process pays once, with files that the system has in memory: medians over fresh processes.

    Attributes:
        model: name of the model.
        processes: how many there were.
        import_ms: the modules that it takes.
        load_ms: the model, from the file to ready.
        first_run_ms: the first face.
        detector_ms: the face detector, from its file to ready.
        first_frame_ms: the first frame: detection, crops, classification.
        classifier_peak_mb: most memory resident until the first face was done.
        peak_mb: most memory resident until a frame was done.
    """

    model: str
    processes: int
    import_ms: float
    load_ms: float
    first_run_ms: float
    detector_ms: float
    first_frame_ms: float
    classifier_peak_mb: float
    peak_mb: float


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """How a machine was at one moment; None where it does not tell.

    Attributes:
        load: jobs that wanted a processor, averaged over a minute.
        clock_mhz: of the processors, on average.
        temperature_c: of the processor.
        throttled: a Pi firmware's flags, as `fer_edge.utils.system.throttled_flags` has them.
    """

    load: float
    clock_mhz: float | None
    temperature_c: float | None
    throttled: int | None


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on; None where the system does not tell.

    Attributes:
        machine: model of the board, or the processor's name.
        cpu: the processor's name or part number.
        architecture: such as ``aarch64``.
        kernel: of the system.
        system: name of the distribution.
        cores: logical processors that are switched on.
        allowed: of these, the ones that this process may use.
        quota: processors' worth of time that its control group may use; None without a limit.
        governor: what sets the clock.
        governor_driver: of the clock; it says what ``powersave`` means.
        clock_limits_mhz: lowest and highest that the governor may set.
        runtime: TFLite runtime with its version.
        delegate: what takes operators over where it can, with its version.
        versions: of fer-edge, Python, NumPy and OpenCV.
        opencv_threads: that the detector may use.
        before: how the machine was before the measurement.
        after: how it was when it ended.
        others: share of all processors' time that other programs took meanwhile, 0..1.
        stolen: share that the host of a virtual machine took, 0..1.
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
    """How it was measured.

    Attributes:
        detector: name of the face detector.
        detector_sha256: of its file.
        min_face: side of the smallest face it finds, in pixels; None for its own choice.
        frame: columns and rows of the frames.
        faces: how many faces a frame holds, on average.
        found: how many the detector finds, on average, which is how many a whole frame has classified.
        runs: that were wanted of each case; None where time was the limit.
        seconds: that each case was given; None where runs were the limit.
        turn: runs of one case before the next one has its turn, so that whatever drifts hits all alike.
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


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of sustained work.

    Attributes:
        seconds: since the work began, at the stretch's end.
        median: milliseconds of a whole frame in it.
        frames: how many there were.
        condition: of the machine at its end.
    """

    seconds: float
    median: float
    frames: int
    condition: Condition


class Sustained(msgspec.Struct, frozen=True, kw_only=True):
    """Whole frames one after another, for long.

    Attributes:
        way: which case it was, in words.
        moments: at most 600 stretches, in their order.
        drift: how many times as long a frame took in the last tenth as in the first.
    """

    way: str
    moments: tuple[Moment, ...]
    drift: float


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """An operator of a model.

    Attributes:
        kind: such as ``CONV_2D``.
        multiply_adds: that it takes.
        until_ms: median of the model cut off after it.
        own_ms: what it adds to the model cut off before it; about 0, or below for noise, where kernels are fused.
    """

    kind: str
    multiply_adds: int
    until_ms: float
    own_ms: float


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model's time goes.

    Attributes:
        model: name of the model.
        how: what was done to find out, or why there is nothing.
        operators: in the order in which they run.
    """

    model: str
    how: str
    operators: tuple[Operator, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A benchmark's result.

    Attributes:
        schema: version of this structure.
        made: when, in UTC, as ISO 8601 has it.
        environment: what on.
        settings: how.
        models: what with.
        cases: what was measured.
        starts: what a process pays once, by model.
        sustained: the same work for long; None where it was not asked for.
        profiles: operators, by model; empty where they were not asked for.
        warnings: why not to trust it.
    """

    schema: Literal[1] = SCHEMA
    made: str
    environment: Environment
    settings: Settings
    models: tuple[Model, ...]
    cases: tuple[Case, ...]
    starts: tuple[Start, ...] = ()
    sustained: Sustained | None = None
    profiles: tuple[Profile, ...] = ()
    warnings: tuple[str, ...] = ()

    def latency(self, job: Job) -> Latency:
        """Of the first case of that job.

        Raises:
            InputError: there is none.
        """
        for case in self.cases:
            if case.job == job:
                return case.latency
        raise InputError(f"the benchmark has no case {job!r}")


class _Version(msgspec.Struct):
    schema: int


def json_schema() -> dict[str, Any]:
    """JSON Schema of a report."""
    return msgspec.json.schema(Report)


def read_report(path: Path) -> Report:
    """Read what ``fer-edge bench --json`` or ``--out`` gave.

    Raises:
        InputError: it cannot be read, or is no such report, or one of another version.
    """
    try:
        return decode_report(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a result of `fer-edge bench`") from error


def decode_report(text: bytes, where: str) -> Report:
    """The report in a JSON text; ``where`` says whose, in an error.

    Raises:
        InputError: it is no report, or one of another version.
    """
    try:
        version = msgspec.json.decode(text, type=_Version).schema
        if version != SCHEMA:
            raise InputError(
                f"{where}: a result of version {version}, where this fer-edge reads version {SCHEMA}; measure again"
            )
        return msgspec.json.decode(text, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{where}: not a result of `fer-edge bench --json` ({explain(error, Report).message})"
        ) from error


def encode_report(report: Report) -> bytes:
    """JSON of a report, in one line."""
    return msgspec.json.encode(report) + b"\n"
