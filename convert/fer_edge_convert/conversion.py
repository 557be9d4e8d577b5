"""From a model of any form to a ``.tflite``, with proof that both agree or a refusal."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fer_edge.card import INPUT_RANGES, PixelStatistics, with_card
from fer_edge.datasets import TRAINING, VALIDATION
from fer_edge.errors import DataError, FerEdgeError, InputError
from fer_edge.files import replacing
from fer_edge.graph import read_graph
from fer_edge_convert.flatbuffer import run, with_metadata
from fer_edge_convert.metadata import METADATA, metadata
from fer_edge_convert.parity import Parity, compare, divergence
from fer_edge_convert.quantisation import Method, Plan, Scheme, bias_corrected, observe, quantise
from fer_edge_convert.report import write_report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.card import Card
    from fer_edge.datasets import Dataset
    from fer_edge_convert.quantisation import Seen
    from fer_edge_convert.sources import Source

CALIBRATION_FACES: Final = 700
_SEED: Final = 1
_CHOICE_FACES: Final = 350  # to choose among calibrations by; neither calibrated nor tested on
_RANGE_FACES: Final = 2000  # to tell the input's range by
_RANGE_MARGIN: Final = 0.02  # of accuracy, by which one range must be better than the others, and three times the noise
_MOST_IN_FLOATS: Final = 6  # layers that a rescue may leave in floats


class RefusedError(FerEdgeError):
    """Raised when the quantised model lost more accuracy than it may.

    Attributes:
        warnings: what should be looked at, a line each.
    """

    def __init__(self, message: str, warnings: tuple[str, ...]) -> None:
        """Say what was lost, and what else was odd."""
        super().__init__(message)
        self.warnings = warnings


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One way of quantising that was tried.

    Attributes:
        what: how.
        kl_divergence: of its scores from the float ones, in nats, on faces of the training part that it was not
            calibrated on; the way with the lowest is kept.
        change_points: change of accuracy on the test faces; None where that was not measured.
    """

    what: str
    kl_divergence: float
    change_points: float | None = None


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a model.

    Attributes:
        out: the file.
        scheme: how it is quantised.
        kind: what it was made of.
        card: the card in it.
        sha256: of the file.
        attempts: the ways that were tried, in order; the last that is not worse than those before is kept.
        calibration_faces: how many faces of each label ranges were measured on; empty where none were.
        seed: by which they were chosen.
        float_operators: kinds of the operators that calculate in floats.
        warnings: what should be looked at, a line each.
        parts: names of the dataset's parts that both models were tested on.
        parity: how both do; None where no data was given.
    """

    out: str
    scheme: Scheme
    kind: str
    card: Card
    sha256: str
    attempts: tuple[Attempt, ...]
    calibration_faces: dict[str, int]
    seed: int
    float_operators: tuple[str, ...]
    warnings: tuple[str, ...]
    parts: tuple[str, ...]
    parity: Parity | None


@dataclass(frozen=True, slots=True)
class _Candidate:
    what: str
    base: bytes
    plan: Plan
    model: bytes
    kl: float


class _Work:
    """The faces and figures that all ways of quantising one model share."""

    def __init__(
        self, source: Source, card: Card, data: Dataset, calibration: Dataset | None, usage: str | None
    ) -> None:
        self.source, self.card, self.data = source, card, data
        self.test = data.usage(usage)
        self.truth = self.test.classes_for(card.labels)
        self.pictures = card.input.normalise(self.test.faces)
        self.scores = run(source.model, self.pictures)
        self.calibration = calibration if calibration is not None else data
        self.choice_rows, self.rows = _chosen(self.calibration, alone=calibration is not None)
        faces = self.calibration.faces[self.rows].copy()
        # One of them is given a black and a white pixel, so that the input's range is that of all pictures.
        faces[0, 0, :2] = (0, 255)
        self.faces = faces
        self.choice = card.input.normalise(self.calibration.faces[self.choice_rows])
        self.choice_scores = run(source.model, self.choice)

    def seen(self) -> dict[str, Seen]:
        """What the float model's tensors hold for the calibration faces."""
        return observe(self.source.model, self.card.input.normalise(self.faces))

    def candidate(self, what: str, plan: Plan, base: bytes | None = None) -> _Candidate:
        """Quantise, and see how far the scores move."""
        base = base or self.source.model
        model = quantise(base, plan)
        return _Candidate(what, base, plan, model, divergence(self.choice_scores, run(model, self.choice)))

    def parity(self, candidate: _Candidate) -> Parity:
        """Compare with the float model on the test faces."""
        return compare(
            self.source.model,
            candidate.model,
            pictures=self.pictures,
            truth=self.truth,
            labels=self.card.labels,
            plan=candidate.plan,
            original_scores=self.scores,
        )

    def change(self, candidate: _Candidate) -> float:
        """Change of the accuracy on the test faces, in points."""
        said = run(candidate.model, self.pictures).argmax(axis=1)
        before = self.scores.argmax(axis=1)
        return 100 * float((said == self.truth).mean() - (before == self.truth).mean())

    def warnings(self) -> Iterator[str]:
        """What in the faces should be looked at before the result is believed."""
        if self.calibration is self.data and not (self.data.usages == TRAINING).any():
            yield f"{self.data.name} has no Training rows: ranges were measured on faces that are also tested on"
        right = float((self.scores.argmax(axis=1) == self.truth).mean())
        chance = float(np.bincount(self.truth).max() / len(self.truth))
        if right <= chance:
            yield (
                f"the float model itself is right on {right:.1%} of the faces, which always saying one label would be,"
                " too: check the order of --labels, --input-range, and whether these are faces of its kind"
            )
        known = self.card.pixels or PixelStatistics.of(self.test.faces)
        faces = self.calibration.faces[self.rows]
        for difference in PixelStatistics.of(faces).differences(known):
            yield (
                f"the calibration pictures look unlike {'training' if self.card.pixels else 'the test'} faces:"
                f" {difference}; ranges measured on them may not fit"
            )
        try:
            truth = self.calibration.classes_for(self.card.labels)[self.rows]
        except DataError:
            return
        there = float((run(self.source.model, self.card.input.normalise(faces)).argmax(axis=1) == truth).mean())
        if there < 0.6 * right:
            yield (
                f"the float model is right on {there:.1%} of the calibration pictures, but on {right:.1%} of the test"
                " faces: they may not be faces, or not of its kind"
            )


def convert(
    source: Source,
    card: Card,
    scheme: Scheme,
    out: Path,
    *,
    data: Dataset | None = None,
    calibration: Dataset | None = None,
    usage: str | None = None,
    max_drop: float = 1.0,
    rescue: bool = False,
    report: Path | None = None,
    command: str = "",
) -> Conversion:
    """Convert a model, compare it with the original, and write it if it is as good.

    Args:
        source: the model.
        card: what it is and takes.
        scheme: how to quantise it.
        out: the ``.tflite`` to write, whole or not at all.
        data: faces to compare on, and to measure ranges on those of its Training part.
        calibration: faces to measure ranges on instead.
        usage: the part to compare on; by default what is neither Training nor validation.
        max_drop: how many points of accuracy may be lost.
        rescue: whether to try other ways when more is lost.
        report: where the report goes, ``.html`` and ``.json``; by default beside ``out``.
        command: what makes the file, for its card.

    Raises:
        InputError: ``out`` has another ending, or there are no faces to measure ranges on.
        DataError: the data has a label that the model does not know.
        ModelError: it cannot be quantised.
        RefusedError: too much was lost; the report is written, the model is not.
    """
    if out.suffix != ".tflite":
        raise InputError(f"{out}: a converted model ends in .tflite; choose such a name")
    if data is None:
        if scheme.calibrated:
            raise InputError(f"{scheme} measures the ranges of values on faces: give --data, such as fer2013.csv")
        candidate = _Candidate(str(scheme), source.model, Plan(scheme, {}), quantise(source.model, Plan(scheme, {})), 0)
        return _write(out, source, card, candidate, command=command)
    work = _Work(source, card, data, calibration, usage)
    if scheme.calibrated:
        candidates = _calibrated(work, scheme)
        best = min(candidates, key=lambda candidate: candidate.kl)
        attempts = [Attempt(what=one.what, kl_divergence=one.kl) for one in candidates]
    else:
        best = work.candidate(str(scheme), Plan(scheme, {}))
        attempts = [Attempt(what=best.what, kl_divergence=best.kl)]
    parity = work.parity(best)
    warnings = tuple(work.warnings())
    if rescue and parity.change_points < -max_drop:
        best, parity = _rescue(work, best, parity, max_drop, attempts)
    refused = parity.change_points < -max_drop
    result = _write(
        out,
        source,
        card,
        best,
        command=command,
        compared=(work, parity),
        attempts=tuple(attempts),
        warnings=warnings,
        keep=not refused,
    )
    stem = report or out.with_suffix(".parity")
    write_report(stem, result, work.test, refused=refused, max_drop=max_drop)
    if refused:
        blamed = f" {parity.hurts_most} alone does most of it;" if parity.hurts_most else ""
        more = "" if rescue else " --rescue to try other ways,"
        raise RefusedError(
            f"{out}: not written, as {scheme} is {-parity.change_points:.1f} points less accurate than the float model"
            f" and {max_drop:g} are allowed;{blamed} see {stem}.html; try{more} --int16x8 or --float16, more"
            " calibration faces, or allow it with --max-drop",
            warnings,
        )
    return result


def infer_range(source: Source, labels: tuple[str, ...], data: Dataset, usage: str | None) -> str:
    """The input range with which a model of unknown origin is right.

    Args:
        source: the model.
        labels: names of its outputs.
        data: labelled faces.
        usage: the part of them to try; by default what is neither Training nor validation.

    Returns:
        A key of ``INPUT_RANGES``.

    Raises:
        InputError: no range is clearly better than the others.
    """
    test = data.usage(usage)
    rows = np.sort(np.random.default_rng(_SEED).permutation(len(test))[:_RANGE_FACES])
    truth = test.classes_for(labels)[rows]
    right = {}
    for name, scale_offset in INPUT_RANGES.items():
        spec = source.described(labels, scale_offset).input
        right[name] = (run(source.model, spec.normalise(test.faces[rows])).argmax(axis=1) == truth).astype(np.float64)
    best = max(right, key=lambda name: right[name].mean())
    for name, other in right.items():
        more = right[best] - other
        if name != best and more.mean() <= max(_RANGE_MARGIN, 3 * more.std() / len(more) ** 0.5):
            said = ", ".join(f"{one} {share.mean():.0%}" for one, share in right.items())
            raise InputError(
                f"{source.path}: it does not say which values its pixels had in training, and the data does not tell"
                f" (right on {said} of {len(rows)} faces): give --input-range 0..1, -1..1 or 0..255"
            )
    return best


def _calibrated(work: _Work, scheme: Scheme) -> list[_Candidate]:
    seen = work.seen()
    return [work.candidate(f"ranges by {method}", Plan(scheme, _ranges(work, seen, method))) for method in Method]


def _ranges(work: _Work, seen: dict[str, Seen], method: Method) -> dict[str, tuple[float, float]]:
    ranges = {name: one.range(method) for name, one in seen.items()}
    # Every pixel value is possible, whatever the calibration faces hold: then a step of the input is one of a pixel.
    spec = work.card.input
    name = read_graph(work.source.model, work.source.path).inputs[0].name
    ranges[name] = (spec.offset, 255 * spec.scale + spec.offset)
    return ranges


def _rescue(
    work: _Work, best: _Candidate, parity: Parity, max_drop: float, attempts: list[Attempt]
) -> tuple[_Candidate, Parity]:
    """Try what costs least first: other ranges, biases, then layers in floats, until little enough is lost."""
    attempts[:] = [
        msgspec.structs.replace(one, change_points=parity.change_points if one.what == best.what else None)
        for one in attempts
    ]

    def tried(candidate: _Candidate) -> bool:
        nonlocal best
        change = work.change(candidate)
        attempts.append(Attempt(what=candidate.what, kl_divergence=candidate.kl, change_points=change))
        better = candidate.kl < best.kl
        best = candidate if better else best
        return better and change >= -max_drop

    if best.plan.scheme.calibrated:
        # Faces that were kept to choose by are seen, too: twice the extremes.
        seen = work.seen()
        more = observe(work.source.model, work.choice)
        for method in (Method.MINMAX, Method.PERCENTILE_99_9):
            first, second = _ranges(work, seen, method), _ranges(work, more, method)
            union = {
                name: (min(low, second[name][0]), max(high, second[name][1])) for name, (low, high) in first.items()
            }
            if tried(work.candidate(f"more calibration faces, {method}", replace(best.plan, ranges=union))):
                return best, work.parity(best)
        corrected = bias_corrected(work.source.model, best.model, seen)
        if tried(work.candidate(f"{best.what}, biases corrected", best.plan, corrected)):
            return best, work.parity(best)
        harm = {layer.name: layer.alone_kl for layer in parity.layers if layer.alone_kl is not None}
        worst = sorted(harm, key=harm.__getitem__, reverse=True)[:_MOST_IN_FLOATS]
        base = best.base
        for count in range(1, len(worst) + 1):
            # Which ranges are best depends on what is left to quantise.
            what = f"{count} worst layer{'s' * (count > 1)} in float16"
            plans = {m: Plan(best.plan.scheme, _ranges(work, seen, m), kept_float=worst[:count]) for m in Method}
            ways = [work.candidate(f"{what}, ranges by {method}", plan, base) for method, plan in plans.items()]
            if tried(min(ways, key=lambda way: way.kl)):
                break
    return best, work.parity(best)


def _write(
    out: Path,
    source: Source,
    card: Card,
    candidate: _Candidate,
    *,
    command: str,
    compared: tuple[_Work, Parity] | None = None,
    attempts: tuple[Attempt, ...] = (),
    warnings: tuple[str, ...] = (),
    keep: bool = True,
) -> Conversion:
    scores = dict(card.scores)
    parts: tuple[str, ...] = ()
    faces: dict[str, int] = {}
    scheme = candidate.plan.scheme
    if compared:
        work, parity = compared
        parts = tuple(sorted(set(work.test.usages.tolist())))
        scores[f"{scheme} accuracy on {' and '.join(parts)}"] = round(parity.converted.accuracy, 4)
        if scheme.calibrated:
            counts = np.bincount(work.calibration.classes[work.rows], minlength=len(work.calibration.labels))
            faces = dict(zip(work.calibration.labels, counts.tolist(), strict=True))
    described = msgspec.structs.replace(
        card, scores=scores, made_by=(*card.made_by, command) if command else card.made_by
    )
    flatbuffer = with_metadata(candidate.model, METADATA, metadata(described))
    final = msgspec.structs.replace(described, flatbuffer_sha256=hashlib.sha256(flatbuffer).hexdigest())
    content = with_card(flatbuffer, final)
    if keep:
        with replacing(out) as temporary:
            temporary.write_bytes(content)
    operations = read_graph(candidate.model, out).operations
    in_floats = [one.kind for one in operations if any("FLOAT" in node.dtype for node in (*one.inputs, *one.outputs))]
    return Conversion(
        out=str(out),
        scheme=scheme,
        kind=source.kind,
        card=final,
        sha256=hashlib.sha256(content).hexdigest(),
        attempts=attempts,
        calibration_faces=faces,
        seed=_SEED,
        float_operators=tuple(dict.fromkeys(in_floats)),
        warnings=warnings,
        parts=parts,
        parity=compared[1] if compared else None,
    )


def _chosen(data: Dataset, *, alone: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows to choose a calibration by, and rows to calibrate on: as many of each label as there are.

    Args:
        data: labelled faces.
        alone: whether the data is there to calibrate on and for nothing else.
    """
    usable = np.flatnonzero(data.usages == TRAINING)
    if alone:
        usable = np.arange(len(data))
    elif not len(usable):
        usable = np.flatnonzero(data.usages != VALIDATION)
    if not len(usable):
        raise DataError(f"{data.name}: no faces to measure ranges on")
    rng = np.random.default_rng(_SEED)
    present = np.unique(data.classes[usable])
    each = max((CALIBRATION_FACES + _CHOICE_FACES) // len(present), 2)
    choice, rows = [], []
    for label in present:
        mixed = rng.permutation(usable[data.classes[usable] == label])[:each]
        # A third is to choose by; where there is one face only, it serves for both.
        few = len(mixed) * _CHOICE_FACES // (CALIBRATION_FACES + _CHOICE_FACES)
        choice.append(mixed[:few] if few else mixed)
        rows.append(mixed[few:])
    return np.sort(np.concatenate(choice)), np.sort(np.concatenate(rows))
