"""From a model of any form to a ``.tflite``, with proof that both agree or a refusal."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fer_edge.classification.classifier import with_self_test
from fer_edge.datasets.dataset import TRAINING, VALIDATION
from fer_edge.errors import DataError, InputError, printable
from fer_edge.modelcard.archive import with_card
from fer_edge.modelcard.pixel_statistics import PixelStatistics
from fer_edge.modelcard.schema import INPUT_RANGES
from fer_edge.tflite.graph import read_graph
from fer_edge.utils.atomic_file import ensure_writable, replacing
from fer_edge_convert.flatbuffer import Images, lean, run, with_metadata
from fer_edge_convert.metadata import METADATA, metadata
from fer_edge_convert.parity import Parity, compare, divergence
from fer_edge_convert.quantisation import Method, Plan, Scheme, bias_corrected, observe, quantise
from fer_edge_convert.report import write_report
from fer_edge_convert.result import Attempt, Conversion, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets.dataset import Dataset
    from fer_edge.modelcard.schema import ClassifierCard
    from fer_edge_convert.quantisation import Seen
    from fer_edge_convert.sources import Source

CALIBRATION_FACES: Final = 700
_SEED: Final = 1
_CHOICE_FACES: Final = 350  # to choose among calibrations by; neither calibrated nor tested on
_RANGE_FACES: Final = 2000  # to tell the input's range by
_RANGE_MARGIN: Final = 0.02  # of accuracy, by which one range must be better than the others, and three times the noise
_MORE: Final = 3  # times as many faces for a rescue
_BOTH: Final = 0.1  # share of the calibration faces that may be tested on, too: FER-2013 has a few twice
_FINER: Final = {
    Scheme.INT8: ("--int16x8", "--float16"),
    Scheme.INT16X8: ("--float16",),
    Scheme.DYNAMIC: ("--float16",),
    Scheme.FLOAT16: ("--float32",),
    Scheme.FLOAT32: (),
}
_MOST_IN_FLOATS: Final = 6  # layers that a rescue may leave in floats


@dataclass(frozen=True, slots=True)
class _Candidate:
    what: str
    base: bytes
    plan: Plan
    model: bytes
    kl: float
    rows: npt.NDArray[np.int64]  # that its ranges were measured on


class _Work:
    """The faces and figures that all ways of quantising one model share."""

    def __init__(
        self,
        source: Source,
        card: ClassifierCard,
        scheme: Scheme,
        data: Dataset,
        *,
        calibration: Dataset | None,
        usage: str | None,
    ) -> None:
        self.source, self.card, self.scheme = source, card, scheme
        self.test = data.select_usage(usage)
        self.truth = self.test.classes_for(card.labels)
        self.images = Images(self.test.faces, card.input)
        self.scores = run(source.model, self.images)
        self.calibration = calibration if calibration is not None else data
        self.rows = self.more_rows = np.empty(0, np.int64)
        # What neither trains nor tests may be looked at as often as one likes.
        self.choice = self.images
        if scheme.calibrated:
            choice, self.rows, self.more_rows = _chosen(self.calibration, alone=calibration is not None)
            self.choice = Images(self.calibration.faces[choice], card.input)
        self.choice_scores = run(source.model, self.choice)

    def seen(self, rows: npt.NDArray[np.int64]) -> dict[str, Seen]:
        """What the float model's tensors hold for calibration faces."""
        return observe(self.source.model, Images(self.calibration.faces[rows], self.card.input))

    def candidate(self, what: str, plan: Plan, base: bytes, rows: npt.NDArray[np.int64]) -> _Candidate:
        """Quantise, and see how far the scores move."""
        model = quantise(base, plan)
        kl = divergence(self.choice_scores, run(model, self.choice))
        return _Candidate(what, base, plan, model, kl, rows)

    def ranges(self, seen: dict[str, Seen], method: Method) -> dict[str, tuple[float, float]]:
        """The range of each tensor, and of the input that of all pixel values, whatever the faces hold."""
        spec = self.card.input
        ranges = {name: one.range(method) for name, one in seen.items()}
        name = read_graph(self.source.model, self.source.path).inputs[0].name
        ranges[name] = (spec.offset, 255 * spec.scale + spec.offset)
        return ranges

    def parity(self, candidate: _Candidate) -> Parity:
        """Compare with the float model on the test faces."""
        return compare(
            self.source.model,
            candidate.model,
            images=self.images,
            truth=self.truth,
            labels=self.card.labels,
            plan=candidate.plan,
            original_scores=self.scores,
            probes=self.choice,
        )

    def change(self, candidate: _Candidate) -> float:
        """Change of the accuracy on the test faces, in points."""
        said = run(candidate.model, self.images).argmax(axis=1)
        before = self.scores.argmax(axis=1)
        return 100 * float((said == self.truth).mean() - (before == self.truth).mean())

    def warnings(self) -> Iterator[str]:
        """What in the faces should be looked at before the result is believed."""
        right = float((self.scores.argmax(axis=1) == self.truth).mean())
        chance = float(np.bincount(self.truth).max() / len(self.truth))
        if right <= chance:
            yield (
                f"the float model itself is right on {right:.1%} of the faces, which always saying one label would be,"
                " too: check the order of --labels, --input-range, and whether these are faces of its kind"
            )
        if self.scheme.calibrated:
            yield from self._calibration_warnings(right)

    def _calibration_warnings(self, right: float) -> Iterator[str]:
        faces = self.calibration.faces[self.rows]
        tested = {face.tobytes() for face in self.test.faces}
        both = sum(face.tobytes() in tested for face in faces)
        if both > _BOTH * len(faces):
            yield (
                f"{both} of the {len(faces)} faces that ranges were measured on are also tested on, which flatters the"
                " result: give data with a Training part and another, or --calibrate"
            )
        known = self.card.pixels or PixelStatistics.from_faces(self.test.faces)
        for difference in PixelStatistics.from_faces(faces).differences(known):
            yield (
                f"the calibration images look unlike {'training' if self.card.pixels else 'the test'} faces:"
                f" {difference}; ranges measured on them may not fit"
            )
        try:
            truth = self.calibration.classes_for(self.card.labels)[self.rows]
        except DataError:
            return
        said = run(self.source.model, Images(faces, self.card.input)).argmax(axis=1)
        there = float((said == truth).mean())
        if there < 0.6 * right:
            yield (
                f"the float model is right on {there:.1%} of the calibration images, but on {right:.1%} of the test"
                " faces: they may not be faces, or not of its kind"
            )


def convert(
    source: Source,
    card: ClassifierCard,
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
    if out.resolve() == source.path.resolve():
        raise InputError(f"{out}: is the model itself; choose another name")
    ensure_writable(out)
    nothing = np.empty(0, np.int64)
    if data is None:
        if scheme.calibrated:
            raise InputError(f"{scheme} is compared with the float model on faces: give --data, such as fer2013.csv")
        model = quantise(source.model, Plan(scheme, {}))
        result, content = _described(
            out, source, card, _Candidate(str(scheme), source.model, Plan(scheme, {}), model, 0, nothing), command
        )
        return _written(out, result, content)
    stem = report or out.with_suffix(".parity")
    if not stem.name:
        raise InputError(f"--report {stem}: give a file's name without its ending, such as reports/edge")
    ensure_writable(stem.with_name(f"{stem.name}.html"))
    work = _Work(source, card, scheme, data, calibration=calibration, usage=usage)
    if scheme.calibrated:
        seen = work.seen(work.rows)
        candidates = [
            work.candidate(f"ranges by {method}", Plan(scheme, work.ranges(seen, method)), source.model, work.rows)
            for method in Method
        ]
    else:
        candidates = [work.candidate(str(scheme), Plan(scheme, {}), source.model, nothing)]
    best = min(candidates, key=lambda candidate: candidate.kl)
    attempts = [Attempt(what=one.what, kl_divergence=one.kl) for one in candidates]
    parity = work.parity(best)
    warnings = tuple(work.warnings())
    if rescue and scheme.calibrated and parity.change_points < -max_drop:
        best, parity = _rescue(work, best, parity, max_drop, attempts)
    refused = parity.change_points < -max_drop
    result, content = _described(
        out,
        source,
        card,
        best,
        command,
        compared=(work, parity),
        attempts=tuple(attempts),
        warnings=warnings,
    )
    if not refused:  # the model first: a report without it would tell of another
        _written(out, result, content)
    write_report(stem, result, work.test, refused=refused, max_drop=max_drop)
    if refused:
        blamed = f" {parity.hurts_most} alone does most of it;" if parity.hurts_most else ""
        raise RefusedError(
            f"{out}: not written, as {scheme} is {-parity.change_points:.1f} points less accurate than the float model"
            f" and {max_drop:g} are allowed;{blamed} see {stem}.html; {advice(scheme, 'faces', rescue=rescue)}",
            warnings,
        )
    return result


def advice(scheme: Scheme, images: str, *, rescue: bool, int16: bool = True) -> str:
    """What may help a model that lost too much.

    Args:
        scheme: how it was quantised.
        images: what ranges are measured on, in a word.
        rescue: whether other ways were tried already.
        int16: whether a model of its kind can have such activations.
    """
    ways = []
    if scheme.calibrated:
        ways = [*([] if rescue else ["--rescue to try other ways"]), f"--calibrate with other {images}"]
    ways += [one for one in _FINER[scheme] if int16 or one != "--int16x8"]
    return f"try {', '.join(ways)}, or allow it with --max-drop" if ways else "allow it with --max-drop"


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
    test = data.select_usage(usage)
    rows = np.sort(np.random.default_rng(_SEED).permutation(len(test))[:_RANGE_FACES])
    truth = test.classes_for(labels)[rows]
    right = {}
    for name, scale_offset in INPUT_RANGES.items():
        spec = source.described(labels, scale_offset).input
        right[name] = (run(source.model, Images(test.faces[rows], spec)).argmax(axis=1) == truth).astype(np.float64)
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
        enough = change >= -max_drop
        best = candidate if enough or candidate.kl < best.kl else best
        return enough

    scheme, model = best.plan.scheme, work.source.model
    seen, rows = work.seen(work.more_rows), work.more_rows
    for method in Method:
        if tried(
            work.candidate(f"more faces, ranges by {method}", Plan(scheme, work.ranges(seen, method)), model, rows)
        ):
            return best, work.parity(best)
    corrected = bias_corrected(model, best.model, seen)
    if tried(work.candidate(f"{best.what}, biases corrected", best.plan, corrected, best.rows)):
        return best, work.parity(best)
    harm = {layer.name: layer.alone_kl for layer in parity.layers if layer.alone_kl is not None}
    worst = sorted(harm, key=harm.__getitem__, reverse=True)[:_MOST_IN_FLOATS]
    base = best.base
    for count in range(1, len(worst) + 1):
        # Which ranges are best depends on what is left to quantise.
        what = f"{count} worst layer{'s' * (count > 1)} in float16"
        plans = {method: Plan(scheme, work.ranges(seen, method), kept_float=worst[:count]) for method in Method}
        ways = [work.candidate(f"{what}, ranges by {method}", plan, base, rows) for method, plan in plans.items()]
        if tried(min(ways, key=lambda way: way.kl)):
            break
    return best, work.parity(best)


def _written(out: Path, result: Conversion, content: bytes) -> Conversion:
    with replacing(out) as temporary:
        temporary.write_bytes(content)
    return result


def _described(
    out: Path,
    source: Source,
    card: ClassifierCard,
    candidate: _Candidate,
    command: str,
    *,
    compared: tuple[_Work, Parity] | None = None,
    attempts: tuple[Attempt, ...] = (),
    warnings: tuple[str, ...] = (),
) -> tuple[Conversion, bytes]:
    """What is said of a model, and the file with its card."""
    scores = dict(card.scores)
    parts: tuple[str, ...] = ()
    faces: dict[str, int] = {}
    scheme = candidate.plan.scheme
    if compared:
        work, parity = compared
        parts = tuple(sorted(set(work.test.usages.tolist())))
        scores[f"{scheme} accuracy on {' and '.join(parts)}"] = round(parity.converted.accuracy, 4)
        if scheme.calibrated:
            counts = np.bincount(work.calibration.classes[candidate.rows], minlength=len(work.calibration.labels))
            faces = dict(zip(work.calibration.labels, counts.tolist(), strict=True))
    described = msgspec.structs.replace(
        card, scores=scores, made_by=(*card.made_by, command) if command else card.made_by
    )
    flatbuffer = lean(with_metadata(candidate.model, METADATA, metadata(described)))
    signed = msgspec.structs.replace(described, flatbuffer_sha256=hashlib.sha256(flatbuffer).hexdigest())
    final = with_self_test(flatbuffer, signed, out)
    content = with_card(flatbuffer, final)
    operations = read_graph(candidate.model, out).operations
    in_floats = [one.kind for one in operations if any("FLOAT" in node.dtype for node in (*one.inputs, *one.outputs))]
    result = Conversion(
        out=printable(str(out)),
        scheme=scheme,
        kind=source.kind,
        card=final,
        sha256=hashlib.sha256(content).hexdigest(),
        attempts=attempts,
        way=candidate.what,
        calibration_faces=faces,
        seed=_SEED,
        float_operators=tuple(dict.fromkeys(in_floats)),
        kept_in_floats=len(candidate.plan.kept_float),
        warnings=warnings,
        parts=parts,
        parity=compared[1] if compared else None,
    )
    return result, content


def _chosen(data: Dataset, *, alone: bool) -> tuple[npt.NDArray[np.int64], ...]:
    """Rows to choose a calibration by, to calibrate on, and more of these: as many of each label as there are.

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
    parts: list[list[npt.NDArray[np.int64]]] = [[], [], []]
    for label in present:
        mixed = rng.permutation(usable[data.classes[usable] == label])
        # A third is to choose by; where there is one face only, it serves for both.
        few = len(mixed[:each]) * _CHOICE_FACES // (CALIBRATION_FACES + _CHOICE_FACES)
        parts[0].append(mixed[:few] if few else mixed[:each])
        parts[1].append(mixed[few:each])
        parts[2].append(mixed[few : _MORE * each])
    # Mixed, for a moving average forgets what comes first.
    return tuple(rng.permutation(np.concatenate(part)) for part in parts)
