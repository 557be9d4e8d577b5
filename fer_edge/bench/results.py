"""The results of a benchmark: the structure of its JSON.

This module needs only msgspec and the standard library, because `deploy` reads results where nothing else is installed.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from fer_edge.bench.conditions import Condition, Environment, Settings
from fer_edge.errors import InputError
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.limits import JSON_BYTES
from fer_edge.utils.validation import explain
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from pathlib import Path


SCHEMA: Final = 1
MAX_SAMPLES: Final = 4000  # kept of each case

Workload = Literal["classifier", "detect", "whole_frame"]

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]  # a larger one is no result, and no float


class LatencyStats(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of the times of one case, in milliseconds, after a warm-up.

    Attributes:
        min: the shortest time.
        median: half of the runs took no longer.
        p95: 95 % of the runs took no longer.
        p99: 99 % of the runs took no longer.
        standard_deviation: of a sample; 0 for a single run.
        runs: number of runs.
        per_second: faces, or frames, a second, on average.
    """

    min: float
    median: float
    p95: float
    p99: float
    standard_deviation: float
    runs: Count
    per_second: float


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One workload with one configuration.

    Attributes:
        job: ``classifier`` for a call of the classifier, ``detect`` for a search for faces in a grey frame,
            ``whole_frame`` for both, with the crops between them.
        model: name of the model; empty for the detector.
        threads: threads of the classifier; 0 for the detector, whose threads are OpenCV's.
        xnnpack: whether the runtime's XNNPACK delegate was requested.
        batch: faces in one invocation of the model.
        latency: statistics of the times.
        samples: milliseconds of the runs, in order; a random choice of 4000 if there were more.
    """

    job: Workload
    model: str = ""
    threads: Count = 0
    xnnpack: bool = True
    batch: Count = 1
    latency: LatencyStats
    samples: Annotated[tuple[Annotated[float, msgspec.Meta(gt=0)], ...], msgspec.Meta(min_length=1)]

    @property
    def id(self) -> CaseId:
        """The workload and its configuration, without the times."""
        return CaseId(self.job, self.model, self.threads, self.xnnpack, self.batch)


@dataclasses.dataclass(frozen=True, slots=True)
class CaseId:
    """What distinguishes one case from another; the attributes are those of `Case`."""

    job: Workload
    model: str = ""
    threads: int = 0
    xnnpack: bool = True
    batch: int = 1

    def __str__(self) -> str:
        """Describe the case in words."""
        name = self.job.replace("_", " ")
        if not self.model:
            return name
        faces = f", {self.batch} faces" if self.batch > 1 else ""
        return f"{name}, {self.model}, {counted(self.threads, 'thread')}{faces}{'' if self.xnnpack else ', no XNNPACK'}"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model that was measured.

    Attributes:
        name: name of its file without the ending; its path if two files have the same name.
        path: path of the file.
        sha256: hash of the file.
        bytes: size of the file.
        accuracy: the last accuracy on its card, 0..1; None if the card has none.
        accuracy_of: name of that accuracy on the card.
        delegate: which operators the runtime's XNNPACK delegate runs, in words.
    """

    name: str
    path: str
    sha256: str
    bytes: Count
    accuracy: float | None
    accuracy_of: str
    delegate: str


class StartupCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a process pays once, with its files in the system's cache: medians over fresh processes.

    Attributes:
        model: name of the model.
        processes: number of processes.
        import_ms: time to import the modules.
        load_ms: time to load the model.
        first_run_ms: time of the first face.
        detector_ms: time to load the face detector.
        first_frame_ms: time of the first frame: detection, crops, classification.
        classifier_peak_mb: peak resident memory until the first face was done.
        peak_mb: peak resident memory until the first frame was done.
    """

    model: str
    processes: Count
    import_ms: float
    load_ms: float
    first_run_ms: float
    detector_ms: float
    first_frame_ms: float
    classifier_peak_mb: float
    peak_mb: float


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of sustained work.

    Attributes:
        seconds: time from the start of the work to the end of the stretch.
        median: median time of a whole frame in it, in milliseconds.
        frames: number of frames in it.
        condition: state of the machine at its end.
    """

    seconds: float
    median: float
    frames: Count
    condition: Condition


class SustainedLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Whole frames without a pause, for a long time.

    Attributes:
        case: the case, in words; ``way`` in JSON.
        stretches: at most 600 stretches, in order; ``moments`` in JSON.
        drift: ratio of the time of a frame in the last tenth to that in the first.
    """

    case: str = msgspec.field(name="way")
    stretches: tuple[Stretch, ...] = msgspec.field(name="moments")
    drift: float


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """An operator of a model.

    Attributes:
        kind: such as ``CONV_2D``.
        multiply_adds: number of multiply-adds.
        until_ms: median time of the model cut off after the operator.
        own_ms: difference to the model cut off before it; about 0, or negative by noise, where kernels are fused.
    """

    kind: str
    multiply_adds: Count
    until_ms: float
    own_ms: float


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The times of a model's operators.

    Attributes:
        model: name of the model.
        method: how they were measured, or the reason why there are none; ``how`` in JSON.
        operators: the operators, in the order in which they run.
    """

    model: str
    method: str = msgspec.field(name="how")
    operators: tuple[Operator, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a benchmark.

    Attributes:
        schema: version of this structure.
        made: when it was taken: UTC, ISO 8601.
        environment: the machine and its software.
        settings: how it was taken.
        models: the models that were measured.
        cases: the times.
        starts: what a process pays once, for each model.
        sustained: sustained work; None if it was not requested.
        profiles: times of operators, for each model; empty if they were not requested.
        warnings: reasons to doubt the result.
    """

    schema: Literal[1] = SCHEMA
    made: str
    environment: Environment
    settings: Settings
    models: tuple[Model, ...]
    cases: tuple[Case, ...]
    starts: tuple[StartupCost, ...] = ()
    sustained: SustainedLoad | None = None
    profiles: tuple[Profile, ...] = ()
    warnings: tuple[str, ...] = ()

    def latency(self, job: Workload) -> LatencyStats:
        """Return the latency of the first case of a workload.

        Raises:
            InputError: there is no such case.
        """
        for case in self.cases:
            if case.job == job:
                return case.latency
        raise InputError(f"the benchmark has no case {job!r}")


class _Version(msgspec.Struct):
    schema: Count


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a report."""
    return msgspec.json.schema(Report)


def read_report(path: Path) -> Report:
    """Read a file that `fer-edge bench` wrote.

    Raises:
        InputError: the file cannot be read, is not a report, or has another version.
    """
    return decode_report(read_bytes(path, JSON_BYTES, InputError), str(path))


def decode_report(text: bytes, source_name: str) -> Report:
    """Decode the JSON of a report.

    Args:
        text: the JSON.
        source_name: where it comes from, for errors.

    Raises:
        InputError: the text is not a report, or has another version.
    """
    try:
        version = msgspec.json.decode(text, type=_Version).schema
        if version != SCHEMA:
            raise InputError(
                f"{source_name}: a result of version {version}, but this fer-edge reads version {SCHEMA}; measure again"
            )
        return msgspec.json.decode(text, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{source_name}: not a result of `fer-edge bench --json` ({explain(error, Report).message})"
        ) from error
    except RecursionError as error:
        raise InputError(f"{source_name}: not a result of `fer-edge bench --json`, it is nested too deeply") from error


def encode_report(report: Report) -> bytes:
    """Return the JSON of a report, in one line."""
    return msgspec.json.encode(report) + b"\n"
