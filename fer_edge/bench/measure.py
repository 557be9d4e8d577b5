"""Measuring: which cases there are, and their runs by turns."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import multiprocessing
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from statistics import fmean, median
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge import demo
from fer_edge.bench import cold_start
from fer_edge.bench.environment import Watch, condition, warnings
from fer_edge.bench.interleave import TURN, case_of, take_turns
from fer_edge.bench.profile import profile
from fer_edge.bench.results import Model, Moment, Report, Settings, Start, Sustained, Way
from fer_edge.classification.classifier import TFLiteClassifier, classify_faces
from fer_edge.classification.crop import crop_face
from fer_edge.detection.factory import detector_file, make_detector
from fer_edge.errors import FerEdgeError, InputError, printable
from fer_edge.modelcard.archive import model_bytes
from fer_edge.tflite.inspect import delegation, find_not_delegated
from fer_edge.tflite.interpreter import make_interpreter, runtime_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.detection.factory import DetectorName

_MOMENTS: Final = 600
_PROFILE_RUNS: Final = 50
_SHORTEST: Final = 1.0  # seconds
_ENOUGH: Final = 0.8  # of the faces, found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        models: files, or names of shipped ones, already resolved; the first is what others are compared with.
        threads: of the classifier, each in turn.
        xnnpack: with the delegate, without it, or both.
        batches: faces an invocation, each in turn; whole frames take one at a time, as the device does.
        detector: name of the face detector.
        detector_model: its file; None for the shipped network's.
        min_face: side of the smallest face to find, in pixels; None for the detector's own choice.
        runs: of each case; read only without ``seconds``.
        seconds: for each case, instead of a number of runs; None for that.
        starts: fresh processes a model, for what a process pays once.
        sustained: seconds of whole frames one after another, afterwards; None for none.
        profile: whether to find out what each operator takes; of threads and delegates, with the first.
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


def benchmark(plan: Plan, told: Callable[[str], None] = lambda _: None) -> Report:
    """Measure, on frames of the demo video.

    Args:
        plan: what.
        told: called with what begins, in a few words.

    Raises:
        ModelError: a model is missing, damaged or cannot take as many faces at once as wanted.
        InputError: the detector is not to be had, or a model is named twice.
        FerEdgeError: a fresh process failed.
    """
    bench = _Bench(plan)
    settings, models = bench.settings(), bench.models()  # now, for in hours the files may be others
    watch = Watch()
    told("start-up")
    starts = tuple(_start(path, name, plan) for name, path in bench.paths.items()) if plan.starts else ()
    told("latency")
    samples = take_turns(list(bench.jobs.values()), plan.runs, plan.seconds)
    cases = tuple(case_of(way, taken) for way, taken in zip(bench.jobs, samples, strict=True))
    profiles = []
    if plan.profile:
        told("operators")
        profiles = [
            profile(path, name, plan.threads[0], min(plan.runs, _PROFILE_RUNS), xnnpack=plan.xnnpack[0])
            for name, path in bench.paths.items()
        ]
    sustained = None
    if plan.sustained is not None:
        told("sustained work")
        sustained = bench.sustain(plan.sustained)
    environment = watch.environment()
    meanwhile = [moment.condition for moment in sustained.moments] if sustained else []
    return Report(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment,
        settings=settings,
        models=models,
        cases=cases,
        starts=starts,
        sustained=sustained,
        profiles=tuple(profiles),
        warnings=(*warnings(environment, cases, meanwhile), *_about_faces(settings)),
    )


def _about_faces(settings: Settings) -> list[str]:
    if settings.found >= _ENOUGH * settings.faces:
        return []
    return [
        f"the detector finds {settings.found:g} of {settings.faces:g} faces a frame: a whole frame is less work then"
    ]


class _Bench:
    """Everything that is measured, loaded."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.paths = _named(plan.models)
        # A handful of frames with faces, made beforehand: drawing them is not what is measured.
        self._truth = {number: faces for number in range(0, demo.FRAMES, 10) if (faces := demo.truth(number))}
        self._frames = [demo.frame(number) for number in self._truth]
        self._detector = make_detector(plan.detector, plan.detector_model, plan.min_face)
        self._classifiers = {
            Way("classifier", name, threads, xnnpack, batch): TFLiteClassifier(
                path, threads, xnnpack=xnnpack, batch=batch
            )
            for name, path in self.paths.items()
            for threads, xnnpack, batch in itertools.product(
                plan.threads, plan.xnnpack, dict.fromkeys((*plan.batches, 1))
            )
        }
        self.jobs = self._jobs()

    def _jobs(self) -> dict[Way, Callable[[int], object]]:
        classify, whole = dict[Way, "Callable[[int], object]"](), dict[Way, "Callable[[int], object]"]()
        for way, classifier in self._classifiers.items():
            if way.batch in self._plan.batches:
                classify[way] = functools.partial(self._classify, classifier, self._crops(classifier, way.batch))
            if way.batch == 1:
                whole[dataclasses.replace(way, job="whole_frame")] = functools.partial(self._whole_frame, classifier)
        return {**classify, Way("detect"): self._detect, **whole}

    def _crops(self, classifier: TFLiteClassifier, count: int) -> npt.NDArray[np.uint8]:
        spec = classifier.card.input
        shown = [
            (frame, face) for frame, faces in zip(self._frames, self._truth.values(), strict=True) for face in faces
        ]
        some = itertools.islice(itertools.cycle(shown), count)
        return np.stack([crop_face(frame, face.box, spec.height, spec.width) for frame, face in some])

    def _classify(self, classifier: TFLiteClassifier, faces: npt.NDArray[np.uint8], _run: int) -> None:
        classifier.classify(faces)

    def _detect(self, run: int) -> None:
        self._detector.detect(self._frames[run % len(self._frames)])

    def _whole_frame(self, classifier: TFLiteClassifier, run: int) -> None:
        gray, detector = self._frames[run % len(self._frames)], self._detector
        classify_faces(gray, detector.detect(gray), detector.crop_spec, classifier)

    def sustain(self, seconds: float) -> Sustained:
        """Do whole frames in the first way that there is, one after another."""
        way = next(way for way in self.jobs if way.job == "whole_frame")
        return sustain(self.jobs[way], str(way), seconds)

    def settings(self) -> Settings:
        """How it is measured."""
        plan = self._plan
        return Settings(
            detector=plan.detector,
            detector_sha256=hashlib.sha256(detector_file(plan.detector, plan.detector_model).read_bytes()).hexdigest(),
            min_face=plan.min_face,
            frame=(demo.WIDTH, demo.HEIGHT),
            faces=round(fmean(map(len, self._truth.values())), 2),
            found=round(fmean(len(self._detector.detect(frame)) for frame in self._frames), 2),
            runs=plan.runs if plan.seconds is None else None,
            seconds=plan.seconds,
            turn=TURN,
        )

    def models(self) -> tuple[Model, ...]:
        """What is measured."""
        loaded = {way.model: classifier for way, classifier in self._classifiers.items()}
        return tuple(_described(name, classifier) for name, classifier in loaded.items())


def sustain(job: Callable[[int], object], way: str, seconds: float) -> Sustained:
    """Do a job one run after another, and look at the machine now and then.

    Args:
        job: called with the number of the run.
        way: what it is, in words.
        seconds: how long; there are two stretches at least.
    """
    stretch = max(seconds / _MOMENTS, min(_SHORTEST, seconds / 2))
    moments: list[Moment] = []
    begun = time.perf_counter()
    run = 0
    while len(moments) < 2 or time.perf_counter() - begun < seconds:
        taken: list[float] = []
        end = begun + (len(moments) + 1) * stretch
        while not taken or time.perf_counter() < end:
            start = time.perf_counter()
            job(run)
            taken.append((time.perf_counter() - start) * 1e3)
            run += 1
        passed = time.perf_counter() - begun
        moments.append(
            Moment(seconds=round(passed, 2), median=round(median(taken), 4), frames=len(taken), condition=condition())
        )
    tenth = max(len(moments) // 10, 1)
    first, last = (np.median([moment.median for moment in part]) for part in (moments[:tenth], moments[-tenth:]))
    return Sustained(way=way, moments=tuple(moments), drift=round(float(last / first), 4))


def _start(model: Path, name: str, plan: Plan) -> Start:
    """What fresh processes pay; of threads and delegates, with the first of the plan."""
    # Not forked: what this process has loaded would be there already, and count as theirs.
    spawning = multiprocessing.get_context("spawn")
    begin = functools.partial(
        cold_start.start,
        model,
        plan.threads[0],
        xnnpack=plan.xnnpack[0],
        detector=plan.detector,
        detector_model=plan.detector_model,
        min_face=plan.min_face,
    )
    taken = []
    for _ in range(plan.starts):
        with ProcessPoolExecutor(1, mp_context=spawning) as pool:
            try:
                taken.append(pool.submit(begin).result())
            except BrokenProcessPool as error:
                raise FerEdgeError(f"{model}: a process that loads it was killed; is there memory enough?") from error
    medians = {key: round(median(one[key] for one in taken), 3) for key in taken[0]}
    return Start(model=name, processes=plan.starts, **medians)


def _named(models: Sequence[Path]) -> dict[str, Path]:
    stems = Counter(path.stem for path in models)
    named = {printable(path.stem if stems[path.stem] == 1 else str(path)): path for path in models}
    if len(named) < len(models):
        raise InputError(f"a model is named twice among {', '.join(map(str, models))}")
    return named


def _described(name: str, classifier: TFLiteClassifier) -> Model:
    path, scores = classifier.path, classifier.card.scores
    accuracy_of = next((key for key in reversed(scores) if "accuracy" in key), "")
    interpreter = make_interpreter(model_bytes(path), path)
    return Model(
        name=name,
        path=printable(str(path)),
        sha256=classifier.sha256,
        bytes=path.stat().st_size,
        accuracy=scores.get(accuracy_of),
        accuracy_of=accuracy_of,
        delegate=delegation(find_not_delegated(interpreter), runtime_name()),
    )
