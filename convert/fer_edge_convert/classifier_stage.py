"""A classifier as a stage to convert: data, candidates, comparison and result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fer_edge.classification.classifier import with_self_test
from fer_edge.errors import DataError, printable
from fer_edge.modelcard.archive import with_card
from fer_edge.modelcard.pixel_statistics import PixelStatistics
from fer_edge.tflite.graph import read_graph
from fer_edge.utils.words import counted
from fer_edge_convert.calibration import (
    calibration_candidates,
    choose_calibration_rows,
    separate_faces,
    split_test_rows,
)
from fer_edge_convert.flatbuffer import Images, deduplicate, run_model, with_metadata
from fer_edge_convert.metadata import METADATA, metadata
from fer_edge_convert.parity import Parity, compare_models, divergence
from fer_edge_convert.quantization import Method, Plan, correct_biases, observe, quantize
from fer_edge_convert.report import write_classifier_report
from fer_edge_convert.result import Attempt, ClassifierConversion
from fer_edge_convert.stage import SEED, Candidate, Choice

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets.dataset import Dataset
    from fer_edge.modelcard.schema import ClassifierCard
    from fer_edge_convert.quantization import ActivationStats, Scheme
    from fer_edge_convert.sources import SourceModel

_MAX_OVERLAP: Final = 0.1  # share of the calibration faces that may be tested on, too: FER-2013 has a few twice
_MAX_FLOAT_LAYERS: Final = 6  # that a rescue may leave in floats
_FEW_FACES: Final = 100  # on which a difference of one point is hardly to be seen


class ClassifierStage:
    """A classifier of faces; see `Stage`."""

    images = "faces"
    example = "fer2013.csv"
    int16 = True

    def __init__(
        self,
        source: SourceModel,
        card: ClassifierCard,
        *,
        data: Dataset | None = None,
        calibration: Dataset | None = None,
        usage: str | None = None,
        one_dense_scale: bool = False,
    ) -> None:
        """Take a model and its data.

        Args:
            source: the model.
            card: what it is and takes.
            data: faces to compare on; ranges are measured on those of its Training part.
            calibration: faces to measure ranges on instead.
            usage: the part to compare on; by default what is neither Training nor validation.
            one_dense_scale: whether dense layers have one scale for all outputs.
        """
        self.path, self.kind, self.model = source.path, source.kind, source.model
        self.one_dense_scale = one_dense_scale
        self.card = card
        self._data, self._calibration, self._usage = data, calibration, usage

    @property
    def has_data(self) -> bool:
        """Whether there is data to compare on."""
        return self._data is not None

    def trial(self, scheme: Scheme) -> ClassifierTrial:
        """Prepare the data for a scheme.

        Raises:
            DataError: the data has a label that the model does not know, or there are no faces to measure ranges on.
        """
        if self._data is None:
            raise DataError(f"{self.path}: no faces to compare on")
        return ClassifierTrial(self, scheme, self._data, self._calibration, self._usage)

    def calibration_images(self) -> Images | None:
        """Return images for another compiler to measure ranges on; None without data."""
        data = self._calibration if self._calibration is not None else self._data
        if data is None:
            return None
        candidates = np.arange(len(data)) if self._calibration is not None else calibration_candidates(data)
        _, rows, _ = choose_calibration_rows(data, candidates)
        return Images(data.faces[rows], self.card.input)

    def result(
        self,
        out: Path,
        candidate: Candidate,
        command: str,
        *,
        trial: ClassifierTrial | None = None,
        choice: Choice[Parity] | None = None,
        warnings: tuple[str, ...] = (),
    ) -> tuple[ClassifierConversion, bytes]:
        """Return the result, and the file with its card."""
        card = self.card
        scores = dict(card.scores)
        parts: tuple[str, ...] = ()
        faces: dict[str, int] = {}
        scheme = candidate.plan.scheme
        if trial and choice:
            parts = tuple(sorted(set(trial.test.usages.tolist())))
            scores[f"{scheme} accuracy on {' and '.join(parts)}"] = round(choice.parity.converted.accuracy, 4)
            if scheme.calibrated:
                faces = trial.count_labels(candidate.rows)
        scored = msgspec.structs.replace(
            card, scores=scores, made_by=(*card.made_by, command) if command else card.made_by
        )
        flatbuffer = deduplicate(with_metadata(candidate.model, METADATA, metadata(scored)))
        signed = msgspec.structs.replace(scored, flatbuffer_sha256=hashlib.sha256(flatbuffer).hexdigest())
        final = with_self_test(flatbuffer, signed, out)
        content = with_card(flatbuffer, final)
        operations = read_graph(candidate.model, out).operations
        in_floats = [
            one.kind for one in operations if any("FLOAT" in node.dtype for node in (*one.inputs, *one.outputs))
        ]
        result = ClassifierConversion(
            out=printable(str(out)),
            scheme=scheme,
            kind=self.kind,
            card=final,
            sha256=hashlib.sha256(content).hexdigest(),
            attempts=choice.attempts if choice else (),
            way=candidate.way,
            seed=SEED,
            parity=choice.parity if choice else None,
            warnings=warnings,
            calibration_faces=faces,
            float_operators=tuple(dict.fromkeys(in_floats)),
            kept_in_floats=len(candidate.plan.kept_float),
            choice_faces=trial.choice_faces if trial else 0,
            parts=parts,
        )
        return result, content


@dataclass(frozen=True, slots=True)
class _TestFaces:
    """Faces to test on, with the scores of the float model.

    Attributes:
        images: n faces.
        truth: class indices of shape (n,).
        scores: of the float model, shape (n, classes).
    """

    images: Images
    truth: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    def select(self, rows: npt.NDArray[np.int64]) -> _TestFaces:
        """Return some of the faces."""
        return _TestFaces(self.images.select(rows), self.truth[rows], self.scores[rows])


@dataclass(slots=True)
class _Search:
    """State of a rescue.

    Attributes:
        best: the best candidate so far.
    """

    best: Candidate


class ClassifierTrial:
    """The faces and scores that all ways of quantizing a classifier share; see `Trial`.

    Attributes:
        test: the faces to compare on; a rescue takes half of them away, to choose by.
        choice_faces: how many faces to test on a rescue has to choose by.
        can_lose: whether the float model is right more often than one that always gives one label.
    """

    def __init__(
        self, stage: ClassifierStage, scheme: Scheme, data: Dataset, calibration: Dataset | None, usage: str | None
    ) -> None:
        """Choose faces and run the float model on them."""
        self._stage, self._scheme = stage, scheme
        tested = data.has_usage(usage)
        candidates = np.arange(len(data if calibration is None else calibration))
        self._is_halved = False
        if scheme.calibrated and calibration is None:
            whole = tested
            candidates, tested = separate_faces(data, usage)
            self._is_halved = int(tested.sum()) < int(whole.sum())
        self.test = data.select(tested)
        self.choice_faces = 0
        truth = self.test.classes_for(stage.card.labels)
        images = Images(self.test.faces, stage.card.input)
        self._tested = _TestFaces(images, truth, run_model(stage.model, images))
        self._right = float((self._tested.scores.argmax(axis=1) == truth).mean())
        self.can_lose = self._right > float(np.bincount(truth).max() / len(truth))
        self._calibration = calibration if calibration is not None else data
        self._rows = self._more_rows = np.empty(0, np.int64)
        # Faces that neither train nor test, so that choosing by them does not flatter the result.
        self._choice_images = images
        if scheme.calibrated:
            choice, self._rows, self._more_rows = choose_calibration_rows(self._calibration, candidates)
            self._choice_images = Images(self._calibration.faces[choice], stage.card.input)
        self._choice_scores = run_model(stage.model, self._choice_images)

    def choose(self, max_drop: float, *, rescue: bool) -> Choice[Parity]:
        """Return the candidate with the nearest scores; with ``rescue``, the first that loses little enough.

        A rescue chooses by half of the faces to test on, and reports on the other half.

        Raises:
            DataError: there are too few faces to split.
        """
        chosen_by = self._hold_out() if rescue and self._scheme.calibrated else None
        model = self._stage.model
        if self._scheme.calibrated:
            stats = self._observe(self._rows)
            candidates = [
                self._candidate(f"ranges by {method}", self._plan(self._ranges(stats, method)), model, self._rows)
                for method in Method
            ]
        else:
            candidates = [self._candidate(str(self._scheme), self._plan({}), model, self._rows)]
        best = min(candidates, key=lambda candidate: candidate.divergence)
        if chosen_by and self._change_points(best, chosen_by) < -max_drop:
            return self._rescue(candidates, best, chosen_by, max_drop)
        parity = self._compare(best)
        attempts = tuple(Attempt(way=one.way, kl_divergence=one.divergence) for one in candidates)
        return Choice(best, parity, attempts)

    def loss(self, parity: Parity, max_drop: float) -> str:
        """Return how much was lost and how much may be, as the predicate of a sentence with ``;`` at its end."""
        culprit = f" {parity.hurts_most} alone does most of it;" if parity.hurts_most else ""
        return (
            f"is {-parity.change_points:.1f} points less accurate than the float model and {max_drop:g} are allowed;"
            f"{culprit}"
        )

    def result(
        self, out: Path, choice: Choice[Parity], command: str, warnings: tuple[str, ...]
    ) -> tuple[ClassifierConversion, bytes]:
        """Return the result, and the file with its card."""
        return self._stage.result(out, choice.candidate, command, trial=self, choice=choice, warnings=warnings)

    def write_report(self, stem: Path, result: ClassifierConversion, *, refused: bool, max_drop: float) -> None:
        """Write ``<stem>.json`` and ``<stem>.html``."""
        write_classifier_report(stem, result, self.test, refused=refused, max_drop=max_drop)

    def warnings(self) -> tuple[str, ...]:
        """Return warnings about the faces, which the user should check before believing the result."""
        return tuple(self._warnings())

    def count_labels(self, rows: npt.NDArray[np.int64]) -> dict[str, int]:
        """Count the faces of each label in some rows of the calibration data."""
        counts = np.bincount(self._calibration.classes[rows], minlength=len(self._calibration.labels))
        return dict(zip(self._calibration.labels, counts.tolist(), strict=True))

    def _observe(self, rows: npt.NDArray[np.int64]) -> dict[str, ActivationStats]:
        return observe(self._stage.model, Images(self._calibration.faces[rows], self._stage.card.input))

    def _plan(self, ranges: dict[str, tuple[float, float]]) -> Plan:
        return Plan(self._scheme, ranges, one_dense_scale=self._stage.one_dense_scale)

    def _candidate(self, way: str, plan: Plan, base: bytes, rows: npt.NDArray[np.int64]) -> Candidate:
        """Quantize, and measure how far the scores move."""
        model = quantize(base, plan)
        return Candidate(
            way, base, plan, model, divergence(self._choice_scores, run_model(model, self._choice_images)), rows
        )

    def _ranges(self, stats: dict[str, ActivationStats], method: Method) -> dict[str, tuple[float, float]]:
        """Return the range of each tensor; that of the input covers all pixel values, where they are known."""
        spec = self._stage.card.input
        ranges = {name: one.range(method) for name, one in stats.items()}
        if not spec.per_image:
            name = read_graph(self._stage.model, self._stage.path).inputs[0].name
            ranges[name] = (spec.offset, 255 * spec.scale + spec.offset)
        return ranges

    def _compare(self, candidate: Candidate) -> Parity:
        """Compare a candidate with the float model on the test faces."""
        return compare_models(
            self._stage.model,
            candidate.model,
            images=self._tested.images,
            truth=self._tested.truth,
            labels=self._stage.card.labels,
            plan=candidate.plan,
            original_scores=self._tested.scores,
            probes=self._choice_images,
        )

    def _hold_out(self) -> _TestFaces:
        """Take half of the faces to test on away, to choose by."""
        choice, rest = split_test_rows(self._tested.truth)
        if not len(choice):
            raise DataError(
                f"{self.test.name}: {counted(len(rest), 'face')} to test on; --rescue needs two of one label at least:"
                " one to choose by, and one to report on"
            )
        kept = np.zeros(len(self.test), bool)
        kept[rest] = True
        held_out, self._tested = self._tested.select(choice), self._tested.select(rest)
        self.test, self.choice_faces = self.test.select(kept), len(choice)
        return held_out

    @staticmethod
    def _change_points(candidate: Candidate, faces: _TestFaces) -> float:
        """Return the change of the accuracy on some faces, in points."""
        after = run_model(candidate.model, faces.images).argmax(axis=1)
        before = faces.scores.argmax(axis=1)
        return 100 * float((after == faces.truth).mean() - (before == faces.truth).mean())

    def _rescue(
        self, candidates: list[Candidate], best: Candidate, faces: _TestFaces, max_drop: float
    ) -> Choice[Parity]:
        """Try the cheapest remedies first: other ranges, biases, then layers in floats, until little enough is lost."""
        parity = self._compare(best)
        before = self._change_points(best, faces)
        attempts = [
            Attempt(way=one.way, kl_divergence=one.divergence, change_points=before if one.way == best.way else None)
            for one in candidates
        ]
        search = _Search(best)
        for candidate in self._rescue_candidates(parity, search):
            change = self._change_points(candidate, faces)
            attempts.append(Attempt(way=candidate.way, kl_divergence=candidate.divergence, change_points=change))
            enough = change >= -max_drop
            if enough or candidate.divergence < search.best.divergence:
                search.best = candidate
            if enough:
                break
        return Choice(search.best, self._compare(search.best), tuple(attempts))

    def _rescue_candidates(self, parity: Parity, search: _Search) -> Iterator[Candidate]:
        """Yield ways to try; each is made on request, because it depends on the best so far."""
        model, rows = self._stage.model, self._more_rows
        stats = self._observe(rows)
        for method in Method:
            plan = self._plan(self._ranges(stats, method))
            yield self._candidate(f"more faces, ranges by {method}", plan, model, rows)
        one = search.best
        corrected = correct_biases(model, one.model, stats)
        yield self._candidate(f"{one.way}, biases corrected", one.plan, corrected, one.rows)
        harm = {layer.name: layer.alone_kl for layer in parity.layers if layer.alone_kl is not None}
        worst = sorted(harm, key=harm.__getitem__, reverse=True)[:_MAX_FLOAT_LAYERS]
        base = search.best.base
        for count in range(1, len(worst) + 1):
            # Which ranges are best depends on what is left to quantize.
            way = f"{count} worst layer{'s' * (count > 1)} in float16"
            plans = {
                method: replace(self._plan(self._ranges(stats, method)), kept_float=worst[:count]) for method in Method
            }
            ways = [self._candidate(f"{way}, ranges by {method}", plan, base, rows) for method, plan in plans.items()]
            yield min(ways, key=lambda way: way.divergence)

    def _warnings(self) -> Iterator[str]:
        right = self._right
        if not self.can_lose:
            yield (
                f"the float model itself is right on {right:.1%} of the faces, no more than always giving one label:"
                " check the order of --labels, --input-range, and whether these are faces of its kind"
            )
        if self.choice_faces and len(self.test) < _FEW_FACES:
            yield (
                f"--rescue chose by {counted(self.choice_faces, 'face')}, and the report is of the other"
                f" {len(self.test)}: too few to see a difference of one point; give {2 * _FEW_FACES} faces or more to"
                " test on"
            )
        if self._scheme.calibrated:
            yield from self._calibration_warnings(right)

    def _calibration_warnings(self, right: float) -> Iterator[str]:
        card = self._stage.card
        if self._is_halved:
            parts = " and ".join(sorted(set(self.test.usages.tolist())))
            yield (
                f"{self.test.name}: it has faces of {parts} alone: half of them were kept to measure ranges on, and"
                " both models were compared on the others; if the model has learned from these faces, it is less"
                " accurate on new ones"
            )
        faces = self._calibration.faces[self._rows]
        tested = {face.tobytes() for face in self.test.faces}
        both = sum(face.tobytes() in tested for face in faces)
        if both > _MAX_OVERLAP * len(faces):
            yield (
                f"{both} of the {len(faces)} faces that ranges were measured on are also tested on, which flatters the"
                " result: give data whose parts have no faces in common, or --calibrate with others"
            )
        known = card.pixels or PixelStatistics.from_faces(self.test.faces)
        for difference in PixelStatistics.from_faces(faces).differences(known):
            yield (
                f"the calibration images look unlike {'training' if card.pixels else 'the test'} faces: {difference};"
                " ranges measured on them may not fit"
            )
        try:
            truth = self._calibration.classes_for(card.labels)[self._rows]
        except DataError:
            return
        answers = run_model(self._stage.model, Images(faces, card.input)).argmax(axis=1)
        share = float((answers == truth).mean())
        if share < 0.6 * right:
            yield (
                f"the float model is right on {share:.1%} of the calibration images, but on {right:.1%} of the test"
                " faces: they may not be faces, or not of its kind"
            )
