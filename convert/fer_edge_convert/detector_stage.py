"""What converting both stages of a face detector has in common: data, candidates, comparison and result."""

from __future__ import annotations

import hashlib
import math
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.detection.metrics import DetectionMetrics, detect_all, match
from fer_edge.detection.network import NetworkDetector
from fer_edge.errors import DataError, printable
from fer_edge.tflite.graph import read_graph
from fer_edge_convert.calibration import split_test_rows
from fer_edge_convert.detector_parity import DetectorParity
from fer_edge_convert.detector_report import write_detector_report
from fer_edge_convert.flatbuffer import Images, deduplicate, run_all
from fer_edge_convert.parity import latency, signal_to_noise
from fer_edge_convert.quantization import Method, Plan, correct_biases, observe, quantize
from fer_edge_convert.result import Attempt, DetectorConversion
from fer_edge_convert.stage import SEED, Candidate, Choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.modelcard.schema import DetectorCard, PixelSpec
    from fer_edge_convert.quantization import ActivationStats, Scheme

CALIBRATION_IMAGES: Final = 300
_CHOICE_IMAGES: Final = 60  # to choose among candidates by
_PROBES: Final = 8  # images to compare layers on
_MIN_COMPARED_SCORE: Final = 0.05  # boxes below it are false alarms in masses
_LOGIT: Final = math.log(255)  # its score is within a step of 1, that of its negative within a step of 0


class DetectorStage(ABC):
    """A stage of a face detector; see `Stage`.

    Attributes:
        input: from pixels to the network's input.
    """

    images = "images"
    example = "faces/"
    int16 = False  # LiteRT's DEPTH_TO_SPACE takes no int16
    path: Path
    kind: str
    model: bytes
    input: PixelSpec

    def __init__(
        self, test: FaceDataset | None, calibration: FaceDataset | None, *, one_dense_scale: bool = False
    ) -> None:
        """Take the data.

        Args:
            test: images to compare on, best with marked faces.
            calibration: images to measure ranges on; by default those of ``test``.
            one_dense_scale: whether dense layers have one scale for all outputs.
        """
        self._test, self._calibration, self.one_dense_scale = test, calibration, one_dense_scale

    @property
    def has_data(self) -> bool:
        """Whether there is data to compare on."""
        return self._test is not None or self._calibration is not None

    def trial(self, scheme: Scheme) -> DetectorTrial:
        """Prepare the data for a scheme.

        Raises:
            DataError: an image cannot be read, or no face is marked in any of those to compare on.
        """
        calibration = self._calibration or self._test
        if calibration is None:
            raise DataError(f"{self.path}: no images to compare on")
        return DetectorTrial(self, scheme, self._test or calibration, calibration)

    def calibration_images(self) -> Images | None:
        """Return images for another compiler to measure ranges on; None without data.

        Raises:
            DataError: an image cannot be read.
        """
        data = self._calibration or self._test
        return self.inputs(data, _calibration_rows(data)) if data else None

    def result(
        self,
        out: Path,
        candidate: Candidate,
        command: str,
        choice: Choice[DetectorParity] | None = None,
        choice_images: int = 0,
    ) -> tuple[DetectorConversion, bytes]:
        """Return the result, and the file with its card."""
        scheme, scores = candidate.plan.scheme, {}
        if choice and choice.parity.converted:
            scores[f"{scheme} average precision"] = round(choice.parity.converted.average_precision, 4)
        card, content = self.content(candidate.model, scores, command, out)
        result = DetectorConversion(
            out=printable(str(out)),
            scheme=scheme,
            kind=self.kind,
            card=card,
            sha256=hashlib.sha256(content).hexdigest(),
            attempts=choice.attempts if choice else (),
            way=candidate.way,
            seed=SEED,
            parity=choice.parity if choice else None,
            calibration_images=len(candidate.rows),
            choice_images=choice_images,
        )
        return result, content

    @abstractmethod
    def inputs(self, data: FaceDataset, rows: npt.NDArray[np.int64]) -> Images:
        """Return the network's inputs for some images, all of one size."""

    @abstractmethod
    def divergence(
        self, original: Sequence[npt.NDArray[np.float32]], converted: Sequence[npt.NDArray[np.float32]]
    ) -> float:
        """Return how far outputs are from the original ones, per image."""

    @abstractmethod
    def content(
        self, model: bytes, scores: Mapping[str, float], command: str, out: Path | None
    ) -> tuple[DetectorCard, bytes]:
        """Return the card and the file of a detector with this model in it.

        Args:
            model: the flatbuffer of this stage.
            scores: scores to add to the card.
            command: the command that makes the file; empty for none.
            out: the file, for errors; None makes a file without a self-test.
        """


class DetectorTrial:
    """The images and outputs that all ways of quantizing a network share; see `Trial`."""

    can_lose = True

    def __init__(self, stage: DetectorStage, scheme: Scheme, test: FaceDataset, calibration: FaceDataset) -> None:
        """Choose images and run the float model on them.

        Raises:
            DataError: an image cannot be read, or no face is marked in any of those to compare on.
        """
        self._stage, self._scheme, self._test, self._calibration = stage, scheme, test, calibration
        _ensure_faces(test)
        shuffled = np.random.default_rng(SEED).permutation(len(calibration))
        self._choice = stage.inputs(calibration, shuffled[:_CHOICE_IMAGES])
        self._rows = _calibration_rows(calibration)
        self._outputs = run_all(stage.model, self._choice)
        self._choice_images = 0  # that a rescue has to choose by

    def choose(self, max_drop: float, *, rescue: bool) -> Choice[DetectorParity]:
        """Return the nearest candidate; with ``rescue``, the nearest that loses little enough, else the best.

        A rescue chooses by half of the labelled images, and reports on the other half.

        Raises:
            DataError: there are too few images with faces to split.
        """
        choice = self._hold_out() if rescue and self._scheme.calibrated and self._test.labelled else None
        candidates = self._candidates()
        nearest_first = sorted(candidates, key=lambda one: one.divergence)
        best = nearest_first[0]
        changes: dict[str, float] = {}
        if choice is not None:
            before = self._measure(self._stage.model, choice).average_precision
            for one in nearest_first:
                changes[one.way] = 100 * (self._measure(one.model, choice).average_precision - before)
                if changes[one.way] >= -max_drop:
                    break
            best = max((one for one in nearest_first if one.way in changes), key=lambda one: changes[one.way])
        parity = self._compare(best.model)
        if not changes and parity.change_points is not None:
            changes[best.way] = parity.change_points
        attempts = tuple(
            Attempt(
                way=one.way,
                kl_divergence=one.divergence,
                change_points=changes.get(one.way),
            )
            for one in candidates
        )
        return Choice(best, parity, attempts)

    def warnings(self) -> tuple[str, ...]:
        """Return nothing: there are no checks of a detector's images."""
        return ()

    def loss(self, parity: DetectorParity, max_drop: float) -> str:
        """Return how much was lost and how much may be, as the predicate of a sentence with ``;`` at its end."""
        return f"loses {parity.lost_points:.2f} points of average precision and {max_drop:g} are allowed;"

    def result(
        self, out: Path, choice: Choice[DetectorParity], command: str, warnings: tuple[str, ...]
    ) -> tuple[DetectorConversion, bytes]:
        """Return the result, and the file with its card."""
        del warnings
        return self._stage.result(out, choice.candidate, command, choice, self._choice_images)

    def write_report(self, stem: Path, result: DetectorConversion, *, refused: bool, max_drop: float) -> None:
        """Write ``<stem>.json`` and ``<stem>.html``."""
        write_detector_report(stem, result, refused=refused, max_drop=max_drop)

    def _hold_out(self) -> FaceDataset:
        """Take half of the images to test on away, to choose by; images with and without faces alike."""
        choice, rest = split_test_rows(np.array([bool(len(image.boxes)) for image in self._test.images], np.int64))
        halves = self._test.subset(choice.tolist()), self._test.subset(rest.tolist())
        if not all(any(len(image.boxes) for image in half.images) for half in halves):
            raise DataError(
                f"{self._test.name}: one image with faces to test on; --rescue needs two at least: one to choose by,"
                " and one to report on"
            )
        self._test, self._choice_images = halves[1], len(choice)
        return halves[0]

    def _candidates(self) -> list[Candidate]:
        model, scheme = self._stage.model, self._scheme
        if not scheme.calibrated:
            return [self._candidate(str(scheme), self._plan({}), model, np.empty(0, np.int64))]
        stats = observe(model, self._stage.inputs(self._calibration, self._rows))
        plain = [
            self._candidate(f"ranges by {method}", self._plan(self._ranges(stats, method)), model, self._rows)
            for method in Method
        ]
        # Biases that make up for the weights' errors: small scores suffer first.
        corrected = [
            self._candidate(
                f"{one.way}, biases corrected", one.plan, correct_biases(model, one.model, stats), self._rows
            )
            for one in plain
        ]
        return plain + corrected

    def _plan(self, ranges: dict[str, tuple[float, float]]) -> Plan:
        return Plan(self._scheme, ranges, one_dense_scale=self._stage.one_dense_scale)

    def _candidate(self, way: str, plan: Plan, base: bytes, rows: npt.NDArray[np.int64]) -> Candidate:
        """Quantize, and measure how far the outputs move."""
        model = quantize(base, plan)
        divergence = self._stage.divergence(self._outputs, run_all(model, self._choice))
        return Candidate(way, base, plan, model, divergence, rows)

    def _ranges(self, stats: dict[str, ActivationStats], method: Method) -> dict[str, tuple[float, float]]:
        """Return the range of each tensor; that of the input covers all pixel values."""
        ranges = {name: one.range(method) for name, one in stats.items()}
        graph = read_graph(self._stage.model, self._stage.path)
        spec = self._stage.input
        ranges[graph.inputs[0].name] = (spec.offset, 255 * spec.scale + spec.offset)
        for operation in graph.operations:
            if operation.kind == "DEPTH_TO_SPACE":  # it can move integers if both ends have the same range
                ranges[operation.outputs[0].name] = ranges[operation.inputs[0].name]
            if operation.kind == "LOGISTIC":
                # Faces are rare: the other methods would cut off the highest logits. But logits whose scores are all
                # the same need no steps.
                low, high = stats[operation.inputs[0].name].range(Method.MINMAX)
                ranges[operation.inputs[0].name] = (max(low, -_LOGIT), min(high, _LOGIT))
        return ranges

    def _compare(self, model: bytes) -> DetectorParity:
        original_model = self._stage.model
        outputs = run_all(model, self._choice)
        original_ms, converted_ms = latency(original_model, model)
        probes = self._choice.select(np.arange(min(_PROBES, len(self._choice))))
        decibels = signal_to_noise(original_model, model, probes)
        sigmoids = [one for one in read_graph(original_model, self._stage.path).operations if one.kind == "LOGISTIC"]
        # Their ranges are cut on purpose: see _ranges.
        scores = {node.name for one in sigmoids for node in (*one.inputs, *one.outputs)}
        original = converted = change = None
        if self._test.labelled:
            original, converted = (self._measure(one, self._test) for one in (original_model, model))
            change = 100 * (converted.average_precision - original.average_precision)
        return DetectorParity(
            difference={
                "x".join(map(str, one.shape[1:])): float(np.abs(one - other).mean())
                for one, other in zip(self._outputs, outputs, strict=True)
            },
            signal_to_noise_db={name: one for name, one in decibels.items() if name not in scores},
            original=original,
            converted=converted,
            change_points=change,
            original_bytes=len(original_model),
            converted_bytes=len(deduplicate(model)),
            original_ms=original_ms,
            converted_ms=converted_ms,
        )

    def _measure(self, model: bytes, data: FaceDataset) -> DetectionMetrics:
        """Return how well a model finds faces in images of full size."""
        card, content = self._stage.content(model, {}, "", None)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            path.write_bytes(content)
            detector = NetworkDetector(path, min_face=1, min_score=_MIN_COMPARED_SCORE)
        return match(detect_all(detector, data), data.images).metrics(card.min_score)


def _calibration_rows(data: FaceDataset) -> npt.NDArray[np.int64]:
    """Return the images to measure ranges on; few images also serve to choose by."""
    shuffled = np.random.default_rng(SEED).permutation(len(data))
    rows = shuffled[_CHOICE_IMAGES:][:CALIBRATION_IMAGES]
    return rows if len(rows) else shuffled


def _ensure_faces(test: FaceDataset) -> None:
    """Refuse labelled images without any marked face: average precision cannot be measured on them."""
    if test.labelled and not any(len(image.boxes) for image in test.images):
        raise DataError(f"{test.name}: no face is marked in these images, to compare on; give some with faces")
