"""From a face detector, or its second stage, to a ``.tflite``, with proof that both find the same faces or a refusal.

The same road as a classifier's, where it is the same: ranges measured on images, the ways of measuring them
compared, the best kept, tested, and written if it is as good.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import numpy as np

from fer_edge.detection.metrics import DetectionMetrics, detect_all, match
from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.resampling import PADDING, crop_squares
from fer_edge.detection.self_test import with_detector_self_test, with_refiner_self_test
from fer_edge.errors import DataError, InputError, printable
from fer_edge.modelcard.archive import model_bytes, with_card, with_refiner
from fer_edge.modelcard.schema import DetectorCard
from fer_edge.reports.html import render
from fer_edge.tflite.graph import read_graph
from fer_edge.utils.atomic_file import ensure_writable, replacing
from fer_edge_convert.conversion import advice
from fer_edge_convert.flatbuffer import Images, lean, run_all
from fer_edge_convert.parity import latency, signal_to_noise
from fer_edge_convert.quantisation import Method, Plan, Scheme, bias_corrected, observe, quantise
from fer_edge_convert.result import Attempt, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.modelcard.schema import PixelSpec
    from fer_edge_convert.quantisation import Seen
    from fer_edge_convert.sources import DetectorSource, RefinerSource

CALIBRATION_IMAGES: Final = 300
_MAYBE: Final = 0.05  # score from which on a cell may be a face
_CHOICE_IMAGES: Final = 60  # to choose among calibrations by
_PROBES: Final = 8  # images to look at layers by
_SEED: Final = 1
_LEAST: Final = 0.05  # score from which on boxes are compared with faces: those below it are false alarms in masses
_LEAST_SCORE: Final = 1 / 512  # half a step of a score in int8: what is less is no evidence of anything
_LOGIT: Final = math.log(255)  # whose score is within a step of 1, and its negative's of 0
_LAYERS: Final = 12  # that the report names


class DetectorParity(msgspec.Struct, frozen=True, kw_only=True):
    """A quantised detector beside the one it was made of, on the same images.

    Attributes:
        difference: mean difference of each output from the float one, by its channels and cells.
        signal_to_noise_db: of each operator's output, in decibels, by its name.
        original: how well the float model finds faces; None where the images have no marks.
        converted: likewise the quantised one.
        change_points: average precision of the quantised model less that of the float one, in points; None without
            marks.
        original_bytes: size of the float flatbuffer.
        converted_bytes: size of the quantised flatbuffer.
        original_ms: median time of one image in floats, on this machine, one thread.
        converted_ms: likewise quantised, measured in turns with the other.
    """

    difference: dict[str, float]
    signal_to_noise_db: dict[str, float]
    original: DetectionMetrics | None
    converted: DetectionMetrics | None
    change_points: float | None
    original_bytes: int
    converted_bytes: int
    original_ms: float
    converted_ms: float


class DetectorConversion(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a detector.

    Attributes:
        out: the file.
        scheme: how it is quantised.
        kind: what it was made of.
        card: the card in it.
        sha256: of the file.
        attempts: the ways that were tried, in order.
        way: the one that was kept.
        calibration_images: on how many images ranges were measured.
        seed: by which they were chosen.
        parity: how both do; None where no data was given.
    """

    out: str
    scheme: Scheme
    kind: str
    card: DetectorCard
    sha256: str
    attempts: tuple[Attempt, ...]
    way: str
    calibration_images: int
    seed: int
    parity: DetectorParity | None


class Stage(Protocol):
    """A network of a detector, and what sets it apart in being converted.

    Attributes:
        path: where it came from.
        kind: what it is, for people.
        model: a float ``.tflite``.
        input: what becomes of pixels.
    """

    path: Path
    kind: str
    model: bytes
    input: PixelSpec

    def images(self, data: FaceDataset, rows: npt.NDArray[np.int64]) -> Images:
        """What it sees of some images, of one size."""
        ...

    def divergence(
        self, original: Sequence[npt.NDArray[np.float32]], converted: Sequence[npt.NDArray[np.float32]]
    ) -> float:
        """How far outputs are from the original ones, an image."""
        ...

    def content(
        self, model: bytes, scores: Mapping[str, float], command: str, out: Path | None
    ) -> tuple[DetectorCard, bytes]:
        """The card and the file of a detector with this model in it; without a self-test where ``out`` is None."""
        ...


class FirstStage:
    """The network that looks everywhere, which is a detector by itself."""

    def __init__(self, source: DetectorSource) -> None:
        """Take what was read."""
        self.path, self.kind, self.model = source.path, source.kind, source.model
        self.input, self._source = source.card.input, source

    def images(self, data: FaceDataset, rows: npt.NDArray[np.int64]) -> Images:
        """Images of the file's own size: what is larger is cut off, what is smaller filled up as on a device."""
        height, width = self._source.height, self._source.width
        stack = np.full((len(rows), height, width), PADDING, np.uint8)
        for place, row in zip(stack, rows.tolist(), strict=True):
            gray = data.gray(row)[:height, :width]
            place[: gray.shape[0], : gray.shape[1]] = gray
        return Images(stack, self._source.card.input)

    def divergence(
        self, original: Sequence[npt.NDArray[np.float32]], converted: Sequence[npt.NDArray[np.float32]]
    ) -> float:
        """See `divergence`."""
        return divergence(original, converted)

    def content(
        self, model: bytes, scores: Mapping[str, float], command: str, out: Path | None
    ) -> tuple[DetectorCard, bytes]:
        """A file with nothing else in it."""
        model = lean(model)
        card = msgspec.structs.replace(
            self._source.card,
            scores={**self._source.card.scores, **scores},
            made_by=(*self._source.card.made_by, command) if command else self._source.card.made_by,
            flatbuffer_sha256=hashlib.sha256(model).hexdigest(),
            refiner=None,
        )
        if out:
            card = with_detector_self_test(model, card, out)
        return card, with_card(model, card)


class SecondStage:
    """The network that looks again at what the first one takes for faces."""

    def __init__(self, source: RefinerSource) -> None:
        """Take what was read."""
        self.path, self.kind, self.model = source.path, source.kind, source.model
        self.input, self._source = source.card.input, source

    def images(self, data: FaceDataset, rows: npt.NDArray[np.int64]) -> Images:
        """The squares that the first stage proposes in images as large as they are.

        Raises:
            DataError: there are none.
        """
        card, squares = self._source.card, []
        for row in rows.tolist():
            gray = data.gray(row)
            proposed = self._source.first.propose(gray, (gray.shape[0], gray.shape[1]), card.min_score)
            squares += list(crop_squares(gray, proposed.boxes, card.extent, card.side)[1])
        if not squares:
            raise DataError(
                f"{data.name}: {self._source.detector} takes nothing there for a face, so that there is nothing to"
                " measure ranges on; give images with faces"
            )
        return Images(np.stack(squares), card.input)

    def divergence(
        self, original: Sequence[npt.NDArray[np.float32]], converted: Sequence[npt.NDArray[np.float32]]
    ) -> float:
        """Kullback-Leibler divergence of the scores in nats, and mean difference of boxes where there is a face."""
        by_width, others = ({one.shape[1]: one for one in some} for some in (original, converted))
        apart = _apart(by_width[1], others[1])
        boxes = np.abs(by_width[4] - others[4]).mean(axis=1, keepdims=True)
        return float((apart + by_width[1] * boxes).mean())

    def content(
        self, model: bytes, scores: Mapping[str, float], command: str, out: Path | None
    ) -> tuple[DetectorCard, bytes]:
        """The first stage's file with this model beside it, and a card that tells of both."""
        model, first, own = lean(model), self._source.first.card, self._source.card
        second = msgspec.structs.replace(
            own, scores={}, made_by=(), data="", flatbuffer_sha256=hashlib.sha256(model).hexdigest()
        )
        if out:
            second = with_refiner_self_test(model, second, out)
        card = msgspec.structs.replace(
            first,
            threshold=own.threshold,
            crop_spec=own.crop_spec,
            scores={**own.scores, **scores},
            # It learnt from what the first stage proposes, so that its commands begin with those of that one.
            made_by=(*own.made_by, command) if command else own.made_by,
            refiner=second,
        )
        return card, with_refiner(model_bytes(self._source.detector), card, model)


def convert_detector(
    source: Stage,
    scheme: Scheme,
    out: Path,
    *,
    test: FaceDataset | None = None,
    calibration: FaceDataset | None = None,
    max_drop: float = 1.0,
    rescue: bool = False,
    report: Path | None = None,
    command: str = "",
) -> DetectorConversion:
    """Convert a network of a face detector, compare it with the original, and write it if it is as good.

    Args:
        source: the network.
        scheme: how to quantise it.
        out: the ``.tflite`` to write, whole or not at all.
        test: images to compare on, best with marked faces.
        calibration: images to measure ranges on; those of ``test`` without.
        max_drop: how many points of average precision may be lost.
        rescue: whether to try the other ways, the nearest first, when more is lost.
        report: where the report goes, ``.html`` and ``.json``; by default beside ``out``.
        command: what makes the file, for its card.

    Raises:
        InputError: ``out`` has another ending, or there are no images to measure ranges on.
        DataError: an image cannot be read, or no face is marked in any of those to compare on.
        ModelError: it cannot be quantised.
        RefusedError: too much was lost; the report is written, the model is not.
    """
    if out.suffix != ".tflite":
        raise InputError(f"{out}: a converted model ends in .tflite; choose such a name")
    if out.resolve() == source.path.resolve():
        raise InputError(f"{out}: is the model itself; choose another name")
    ensure_writable(out)
    calibration = calibration or test
    if calibration is None:
        if scheme.calibrated:
            raise InputError(f"{scheme} is compared with the float model on images: give --data, such as faces/")
        plan = Plan(scheme, {})
        return _written(out, *_described(out, source, scheme, quantise(source.model, plan), command))
    stem = report or out.with_suffix(".parity")
    if not stem.name:
        raise InputError(f"--report {stem}: give a file's name without its ending, such as reports/faces")
    ensure_writable(stem.with_name(f"{stem.name}.html"))
    test = test or calibration
    _refuse_faceless(test)
    mixed = np.random.default_rng(_SEED).permutation(len(calibration))
    choice = source.images(calibration, mixed[:_CHOICE_IMAGES])
    # Where there are few images, they serve for both.
    rows = mixed[_CHOICE_IMAGES:][:CALIBRATION_IMAGES]
    rows = rows if len(rows) else mixed
    wanted = run_all(source.model, choice)
    plans = {str(scheme): Plan(scheme, {})}
    seen: dict[str, Seen] = {}
    if scheme.calibrated:
        seen = observe(source.model, source.images(calibration, rows))
        plans = {f"ranges by {method}": Plan(scheme, _ranges(source, seen, method)) for method in Method}
    models = {what: quantise(source.model, plan) for what, plan in plans.items()}
    if scheme.calibrated:
        # Biases that make up for the weights' errors: small scores suffer first.
        models |= {
            f"{what}, biases corrected": quantise(bias_corrected(source.model, models[what], seen), plan)
            for what, plan in plans.items()
        }
    apart = {what: source.divergence(wanted, run_all(model, choice)) for what, model in models.items()}
    nearest_first = sorted(apart, key=apart.__getitem__)
    compared = _compared(
        nearest_first if rescue else nearest_first[:1],
        lambda what: _compare(source, models[what], test, choice, wanted),
        max_drop,
    )
    best = min(compared, key=lambda what: _lost(compared[what]))
    parity = compared[best]
    attempts = tuple(
        Attempt(what=what, kl_divergence=kl, change_points=compared[what].change_points if what in compared else None)
        for what, kl in apart.items()
    )
    result, content = _described(
        out,
        source,
        scheme,
        models[best],
        command,
        parity=parity,
        attempts=attempts,
        way=best,
        calibration_images=len(rows) if scheme.calibrated else 0,
    )
    refused = _lost(parity) > max_drop
    if not refused:  # the model first: a report without it would tell of another
        _written(out, result, content)
    _write_report(stem, result, refused=refused, max_drop=max_drop)
    if refused:
        raise RefusedError(
            f"{out}: not written, as {scheme} loses {_lost(parity):.2f} points of average precision and"
            f" {max_drop:g} are allowed; see {stem}.html; "
            # Without --int16x8: LiteRT's DEPTH_TO_SPACE takes no int16.
            f"{advice(scheme, 'images', rescue=rescue, int16=False)}",
            (),
        )
    return result


def _refuse_faceless(test: FaceDataset) -> None:
    """Raise DataError where somebody marked faces, but there are none, of which average precision says nothing."""
    if test.labelled and not any(len(image.boxes) for image in test.images):
        raise DataError(f"{test.name}: no face is marked in these images, to compare on; give some with faces")


def _compared(
    ways: Sequence[str], compare: Callable[[str], DetectorParity], max_drop: float
) -> dict[str, DetectorParity]:
    """How ways do, until one loses little enough."""
    found = {}
    for what in ways:
        found[what] = compare(what)
        if _lost(found[what]) <= max_drop:
            break
    return found


def _lost(parity: DetectorParity) -> float:
    """Points of average precision; none where that cannot be measured."""
    return -(parity.change_points or 0.0)


def divergence(original: Sequence[npt.NDArray[np.float32]], converted: Sequence[npt.NDArray[np.float32]]) -> float:
    """How far outputs are from the original ones, an image.

    Scores by Kullback-Leibler divergence in nats where either may see a face, for thousands of cells that are surely
    none would drown the few that matter; boxes by their mean difference where there is a face, landmarks not at all.

    Args:
        original: each level's scores of shape (n, rows, columns, 1), boxes (..., 4) and landmarks (..., 10), in
            whatever order.
        converted: in the same order.
    """
    boxes = {one.shape[:3]: (one, other) for one, other in zip(original, converted, strict=True) if one.shape[3] == 4}
    total = 0.0
    for one, other in zip(original, converted, strict=True):
        if one.shape[3] != 1:
            continue
        total += float(_apart(one, other)[np.maximum(one, other) > _MAYBE].sum())
        before, after = boxes[one.shape[:3]]
        total += float((one[..., 0] * np.abs(before - after).mean(axis=3)).sum())
    return total / len(original[0])


def _apart(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Kullback-Leibler divergence of each score from the original one, in nats."""
    p, q = (np.clip(score.astype(np.float64), _LEAST_SCORE, 1 - _LEAST_SCORE) for score in (one, other))
    return np.asarray(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


def _ranges(source: Stage, seen: dict[str, Seen], method: Method) -> dict[str, tuple[float, float]]:
    ranges = {name: one.range(method) for name, one in seen.items()}
    graph = read_graph(source.model, source.path)
    spec = source.input
    ranges[graph.inputs[0].name] = (spec.offset, 255 * spec.scale + spec.offset)
    for operation in graph.operations:
        if operation.kind == "DEPTH_TO_SPACE":  # which moves integers where both ends have the same steps
            ranges[operation.outputs[0].name] = ranges[operation.inputs[0].name]
        if operation.kind == "LOGISTIC":
            # Faces are rare: other ways would cut off what tells the surest from the sure.
            # Nor are steps wasted on logits whose scores are all the same.
            low, high = seen[operation.inputs[0].name].range(Method.MINMAX)
            ranges[operation.inputs[0].name] = (max(low, -_LOGIT), min(high, _LOGIT))
    return ranges


def _compare(
    source: Stage,
    model: bytes,
    test: FaceDataset,
    choice: Images,
    wanted: Sequence[npt.NDArray[np.float32]],
) -> DetectorParity:
    given = run_all(model, choice)
    original_ms, converted_ms = latency(source.model, model)
    decibels = signal_to_noise(source.model, model, choice.some(np.arange(min(_PROBES, len(choice)))))
    sigmoids = [one for one in read_graph(source.model, source.path).operations if one.kind == "LOGISTIC"]
    scores = {node.name for one in sigmoids for node in (*one.inputs, *one.outputs)}  # cut on purpose: see _ranges
    original = converted = change = None
    if test.labelled:
        original, converted = (_measured(one, source, test) for one in (source.model, model))
        change = 100 * (converted.average_precision - original.average_precision)
    return DetectorParity(
        difference={
            "x".join(map(str, one.shape[1:])): float(np.abs(one - other).mean())
            for one, other in zip(wanted, given, strict=True)
        },
        signal_to_noise_db={name: one for name, one in decibels.items() if name not in scores},
        original=original,
        converted=converted,
        change_points=change,
        original_bytes=len(source.model),
        converted_bytes=len(lean(model)),
        original_ms=original_ms,
        converted_ms=converted_ms,
    )


def _measured(model: bytes, source: Stage, test: FaceDataset) -> DetectionMetrics:
    """How well a model finds faces in images as large as they are."""
    card, content = source.content(model, {}, "", None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        detector = NetworkDetector(path, min_face=1, threshold=_LEAST)
    return match(detect_all(detector, test), test.images).metrics(card.threshold)


def _described(
    out: Path,
    source: Stage,
    scheme: Scheme,
    model: bytes,
    command: str,
    *,
    parity: DetectorParity | None = None,
    attempts: tuple[Attempt, ...] = (),
    way: str = "",
    calibration_images: int = 0,
) -> tuple[DetectorConversion, bytes]:
    """What is said of a model, and the file with its card."""
    scores = {}
    if parity and parity.converted:
        scores[f"{scheme} average precision"] = round(parity.converted.average_precision, 4)
    card, content = source.content(model, scores, command, out)
    result = DetectorConversion(
        out=printable(str(out)),
        scheme=scheme,
        kind=source.kind,
        card=card,
        sha256=hashlib.sha256(content).hexdigest(),
        attempts=attempts,
        way=way,
        calibration_images=calibration_images,
        seed=_SEED,
        parity=parity,
    )
    return result, content


def _written(out: Path, result: DetectorConversion, content: bytes) -> DetectorConversion:
    with replacing(out) as temporary:
        temporary.write_bytes(content)
    return result


def summary(done: DetectorConversion) -> list[str]:
    """The report in a few lines of text."""
    parity = done.parity
    if parity is None:
        return ["no --data: not compared with the float model"]
    lines = []
    for name, one in (("float", parity.original), (done.scheme, parity.converted)):
        if one:
            lines.append(
                f"{name:<12}average precision {one.average_precision:.2%} on {one.faces} faces of {one.images}"
                f" images; at {one.threshold:g} recall {one.recall:.2%}, "
                f"{one.false_positives_per_image:.3f} false alarms an image"
            )
    change = "not measured: the images have no marks (labels.csv)"
    if parity.change_points is not None:
        change = f"{parity.change_points:+.2f} points of average precision"
    lines += [
        f"{'change':<12}{change}",
        f"{'size':<12}{parity.original_bytes / 1e3:.0f} kB to {parity.converted_bytes / 1e3:.0f} kB",
        f"{'latency':<12}{parity.original_ms:.2f} ms to {parity.converted_ms:.2f} ms an image here, one thread",
    ]
    if done.calibration_images:
        lines.append(f"{'calibrated':<12}on {done.calibration_images} images, seed {done.seed}: {done.way}")
    return lines


def _write_report(stem: Path, done: DetectorConversion, *, refused: bool, max_drop: float) -> None:
    parity = done.parity
    if parity is None:
        return
    with replacing(stem.with_name(f"{stem.name}.json")) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(done), indent=1))
    verdict = f"Refused: more than {max_drop:g} points lost." if refused else "Within the limit."
    noisiest = sorted(parity.signal_to_noise_db.items(), key=lambda item: item[1])[:_LAYERS]
    page = render(
        "detector_parity.html",
        title=f"{done.card.name}: {done.scheme} beside float",
        summary="\n".join([verdict, *summary(done)]),
        scheme=done.scheme,
        recalls=_recalls(parity),
        outputs=[(name, f"{difference:.4f}") for name, difference in parity.difference.items()],
        layers=[(name, f"{decibels:.1f}") for name, decibels in noisiest],
        attempts=[
            (one.what, f"{one.kl_divergence:.4f}", "" if one.change_points is None else f"{one.change_points:+.2f}")
            for one in done.attempts
        ],
    )
    with replacing(stem.with_name(f"{stem.name}.html")) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _recalls(parity: DetectorParity) -> list[tuple[str, str, str]]:
    if parity.original is None or parity.converted is None:
        return []
    before, after = parity.original.recall_by_side, parity.converted.recall_by_side
    return [(side, f"{share:.3f}", f"{after[side]:.3f}") for side, share in before.items()]
