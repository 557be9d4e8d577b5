"""The workloads of a benchmark, loaded and ready to run on frames of the demo video."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections import Counter
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from fer_edge import demo
from fer_edge.bench.conditions import Settings
from fer_edge.bench.interleave import TURN
from fer_edge.bench.results import CaseId, Model
from fer_edge.classification.classifier import TFLiteClassifier, classify_faces
from fer_edge.classification.crop import crop_face
from fer_edge.detection.factory import detector_file, make_detector
from fer_edge.errors import InputError, printable
from fer_edge.modelcard.archive import model_bytes
from fer_edge.tflite.inspect import delegation, find_not_delegated
from fer_edge.tflite.interpreter import make_interpreter, runtime_name
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.limits import MODEL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.bench.options import BenchOptions


class Workloads:
    """Everything that is measured.

    Attributes:
        paths: the model files by name.
        functions: the function of each case; it is called with the number of the run.
    """

    def __init__(self, options: BenchOptions) -> None:
        """Load the models and the detector.

        Raises:
            ModelError: a model is missing or damaged, or cannot take as many faces at once as requested.
            InputError: the detector cannot be loaded, or a model is named twice.
        """
        self._options = options
        self.paths = _name_models(options.models)
        # The frames are drawn in advance, because drawing them is not to be measured.
        self._truth = {number: faces for number in range(0, demo.FRAMES, 10) if (faces := demo.truth(number))}
        self._frames = [demo.frame(number) for number in self._truth]
        self._detector = make_detector(options.detector, options.detector_model, options.min_face)
        self._classifiers = {
            CaseId("classifier", name, threads, xnnpack, batch): TFLiteClassifier(
                path, threads, xnnpack=xnnpack, batch=batch
            )
            for name, path in self.paths.items()
            for threads, xnnpack, batch in itertools.product(
                options.threads, options.xnnpack, dict.fromkeys((*options.batches, 1))
            )
        }
        self.functions = self._make_functions()

    def _make_functions(self) -> dict[CaseId, Callable[[int], object]]:
        classify, whole = dict[CaseId, "Callable[[int], object]"](), dict[CaseId, "Callable[[int], object]"]()
        for case_id, classifier in self._classifiers.items():
            if case_id.batch in self._options.batches:
                crops = self._make_crops(classifier, case_id.batch)
                classify[case_id] = functools.partial(self._classify, classifier, crops)
            if case_id.batch == 1:
                whole_id = dataclasses.replace(case_id, job="whole_frame")
                whole[whole_id] = functools.partial(self._process_frame, classifier)
        return {**classify, CaseId("detect"): self._detect, **whole}

    def _make_crops(self, classifier: TFLiteClassifier, count: int) -> npt.NDArray[np.uint8]:
        spec = classifier.card.input
        pairs = [
            (frame, face) for frame, faces in zip(self._frames, self._truth.values(), strict=True) for face in faces
        ]
        chosen = itertools.islice(itertools.cycle(pairs), count)
        return np.stack([crop_face(frame, face.box, spec.height, spec.width) for frame, face in chosen])

    def _classify(self, classifier: TFLiteClassifier, faces: npt.NDArray[np.uint8], _run: int) -> None:
        classifier.classify(faces)

    def _detect(self, run: int) -> None:
        self._detector.detect(self._frames[run % len(self._frames)])

    def _process_frame(self, classifier: TFLiteClassifier, run: int) -> None:
        gray, detector = self._frames[run % len(self._frames)], self._detector
        classify_faces(gray, detector.detect(gray), detector.crop_spec, classifier)

    def settings(self) -> Settings:
        """Return how the workloads are measured."""
        options = self._options
        detector = detector_file(options.detector, options.detector_model)
        return Settings(
            detector=options.detector,
            detector_sha256=hashlib.sha256(read_bytes(detector, MODEL_BYTES)).hexdigest(),
            min_face=options.min_face,
            frame=(demo.WIDTH, demo.HEIGHT),
            faces=round(fmean(map(len, self._truth.values())), 2),
            found=round(fmean(len(self._detector.detect(frame)) for frame in self._frames), 2),
            runs=options.runs if options.seconds is None else None,
            seconds=options.seconds,
            turn=TURN,
        )

    def models(self) -> tuple[Model, ...]:
        """Return the models that are measured."""
        loaded = {case_id.model: classifier for case_id, classifier in self._classifiers.items()}
        return tuple(_describe_model(name, classifier) for name, classifier in loaded.items())


def _name_models(models: Sequence[Path]) -> dict[str, Path]:
    stems = Counter(path.stem for path in models)
    by_name = {printable(path.stem if stems[path.stem] == 1 else str(path)): path for path in models}
    if len(by_name) < len(models):
        raise InputError(f"a model is named twice among {', '.join(map(str, models))}; name each once")
    return by_name


def _describe_model(name: str, classifier: TFLiteClassifier) -> Model:
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
