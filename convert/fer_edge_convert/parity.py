"""Comparison of a quantized classifier with the one it was made of, and search for the most harmful layer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fer_edge.classification.comparison import change_of_accuracy, wilson_interval
from fer_edge.classification.metrics import Metrics, measure
from fer_edge.tflite.graph import read_graph
from fer_edge.tflite.interpreter import Tensor, make_interpreter
from fer_edge_convert.flatbuffer import Tracer, deduplicate, run_model
from fer_edge_convert.quantization import Plan, quantize

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge_convert.flatbuffer import Images

# Scores in int8 come in steps of 1/256: less than half a step is no evidence.
_MIN_SCORE: Final = 1 / 512
_LAYER_COST: Final = 4e9  # multiply-adds that may be spent on comparing layers one by one
_LAYER_FACES: Final = (8, 64)
# Two layers that share a tensor suffer equally from its range: the report names the one that writes it.
_ALIKE: Final = 0.7
_LATENCY_RUNS: Final = 40
_WORST: Final = 12


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """What quantization does to one operator's output.

    Attributes:
        name: name of the output.
        short_name: the part of it that says which layer of the original it was.
        kind: kind of the operator.
        signal_to_noise_db: power of the float values over that of the error, in decibels, with all before it
            quantized too; None where it has no counterpart in floats.
        alone_kl: divergence of the scores, in nats, when this operator alone is quantized; None where that was not
            tried.
        in_floats: whether the quantized model calculates it in floats.
    """

    name: str
    short_name: str
    kind: str
    signal_to_noise_db: float | None
    alone_kl: float | None
    in_floats: bool


class Disagreement(msgspec.Struct, frozen=True):
    """A face with another label after conversion: its row in the test part, its true label, and both answers."""

    row: int
    label: str
    original: str
    converted: str
    original_score: float
    converted_score: float


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """A quantized model beside the one it was made of, on the same faces.

    Attributes:
        original: scores of the float model.
        converted: scores of the quantized model.
        original_interval: 95 % interval of its accuracy (Wilson 1927), 0..1.
        converted_interval: 95 % interval of its accuracy, 0..1.
        change_points: accuracy of the quantized model less that of the float one, in percentage points.
        change_interval: 95 % interval of that, from the faces on which one is right and the other wrong.
        agreement: share of the faces that both give the same label, 0..1.
        kl_divergence: mean divergence of the quantized scores from the float ones, in nats.
        recall_change_points: change of each class's recall, in percentage points.
        worst: faces with another label, those with the largest change of score first.
        layers: what happens to each operator, in the order in which they run.
        hurts_most: short name of the operator that alone does most harm; empty where none was tried.
        original_bytes: size of the float flatbuffer.
        converted_bytes: size of the quantized flatbuffer.
        original_ms: median time of one face in floats, on this machine, one thread.
        converted_ms: the same quantized, measured in turns with the other.
    """

    original: Metrics
    converted: Metrics
    original_interval: tuple[float, float]
    converted_interval: tuple[float, float]
    change_points: float
    change_interval: tuple[float, float]
    agreement: float
    kl_divergence: float
    recall_change_points: dict[str, float]
    worst: tuple[Disagreement, ...]
    layers: tuple[Layer, ...]
    hurts_most: str
    original_bytes: int
    converted_bytes: int
    original_ms: float
    converted_ms: float

    @property
    def loss_is_certain(self) -> bool:
        """Whether the accuracy fell by more than chance explains."""
        return self.change_interval[1] < 0


def divergence(original: npt.NDArray[np.float32], converted: npt.NDArray[np.float32]) -> float:
    """Return the mean Kullback-Leibler divergence, in nats, of scores of shape (n, classes) from the original ones."""
    p, q = (np.maximum(scores.astype(np.float64), _MIN_SCORE) for scores in (original, converted))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    return float((p * np.log(p / q)).sum(axis=1).mean())


def compare_models(
    original: bytes,
    converted: bytes,
    *,
    images: Images,
    truth: npt.NDArray[np.int64],
    labels: tuple[str, ...],
    plan: Plan,
    original_scores: npt.NDArray[np.float32],
    probes: Images,
) -> Parity:
    """Compare a quantized model with the float one.

    Args:
        original: the float flatbuffer.
        converted: the quantized one.
        images: n to test on, n at least 1.
        truth: class indices of shape (n,).
        labels: names of the classes.
        plan: how it was quantized, to quantize single layers in the same way.
        original_scores: scores of the float model, shape (n, classes).
        probes: images to compare layers on; a few of them are used.
    """
    scores = run_model(converted, images)
    before, after = measure(original_scores, truth, labels), measure(scores, truth, labels)
    before_labels, after_labels = original_scores.argmax(axis=1), scores.argmax(axis=1)
    change = change_of_accuracy(before_labels == truth, after_labels == truth)
    layers = _layers(original, converted, probes, plan)
    original_ms, converted_ms = latency(original, converted)
    return Parity(
        original=before,
        converted=after,
        original_interval=wilson_interval(before.accuracy, before.faces),
        converted_interval=wilson_interval(after.accuracy, after.faces),
        change_points=100 * (after.accuracy - before.accuracy),
        change_interval=change.interval,
        agreement=float((before_labels == after_labels).mean()),
        kl_divergence=divergence(original_scores, scores),
        recall_change_points={
            label: 100 * (after.classes[label].recall - one.recall) for label, one in before.classes.items()
        },
        worst=_worst(original_scores, scores, truth, labels),
        layers=layers,
        hurts_most=find_most_harmful(layers),
        original_bytes=len(original),
        converted_bytes=len(deduplicate(converted)),
        original_ms=original_ms,
        converted_ms=converted_ms,
    )


def find_most_harmful(layers: tuple[Layer, ...]) -> str:
    """Return the short name of the operator that does most harm alone; the first of those that do nearly as much."""
    tried = {layer.short_name: layer.alone_kl for layer in layers if layer.alone_kl is not None and not layer.in_floats}
    largest = max(tried.values(), default=0.0)
    return next((name for name, harm in tried.items() if harm >= _ALIKE * largest), "") if largest > 0 else ""


def _layers(original: bytes, converted: bytes, probes: Images, plan: Plan) -> tuple[Layer, ...]:
    operations = read_graph(original, Path("model")).operations
    stored = {node.name: node.dtype for node in read_graph(converted, Path("model")).tensors}
    cost = sum(operation.multiply_adds for operation in operations) * len(operations)
    few = int(np.clip(_LAYER_COST / max(cost, 1), *_LAYER_FACES))
    chosen = probes.select(np.linspace(0, len(probes) - 1, min(few, len(probes))).astype(np.int64))
    original_scores = run_model(original, chosen)
    decibels = signal_to_noise(original, converted, chosen)
    layers = []
    for operation in operations:
        name, alone = operation.name, None
        if plan.scheme.calibrated and name:
            one = quantize(original, plan.only_for(name))
            if one != original:
                alone = divergence(original_scores, run_model(one, chosen))
        in_floats = "FLOAT" in stored.get(name, "FLOAT")
        layers.append(
            Layer(
                name=name,
                short_name=operation.short_name,
                kind=operation.kind,
                signal_to_noise_db=decibels.get(name),
                alone_kl=alone,
                in_floats=in_floats,
            )
        )
    return tuple(layers)


def signal_to_noise(original: bytes, converted: bytes, probes: Images) -> dict[str, float]:
    """Return the power of each operator's float values over that of their error, in decibels, by output.

    Operators without a counterpart in floats, or without any error, are left out.
    """
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    trace, trace_converted = Tracer(original), Tracer(converted)
    for i in range(len(probes)):
        changed = dict(trace_converted(probes[i]))
        for name, value in trace(probes[i]):
            if name in changed and changed[name].shape == value.shape:
                signal[name] = signal.get(name, 0.0) + float(np.square(value, dtype=np.float64).sum())
                error = changed[name] - value
                noise[name] = noise.get(name, 0.0) + float(np.square(error, dtype=np.float64).sum())
    return {name: float(10 * np.log10(power / noise[name])) for name, power in signal.items() if power and noise[name]}


def _worst(
    original: npt.NDArray[np.float32],
    converted: npt.NDArray[np.float32],
    truth: npt.NDArray[np.int64],
    labels: tuple[str, ...],
) -> tuple[Disagreement, ...]:
    before_labels, after_labels = original.argmax(axis=1), converted.argmax(axis=1)
    rows = np.flatnonzero(before_labels != after_labels)
    change = np.abs(original[rows] - converted[rows]).max(axis=1)
    rows = rows[np.argsort(-change, kind="stable")][:_WORST]
    return tuple(
        Disagreement(
            int(row),
            labels[truth[row]],
            labels[before_labels[row]],
            labels[after_labels[row]],
            float(original[row].max()),
            float(converted[row].max()),
        )
        for row in rows
    )


def latency(original: bytes, converted: bytes) -> tuple[float, float]:
    """Return the median milliseconds of both, measured in turns, because machines are noisy."""
    interpreters = [make_interpreter(model, Path("model"), own=True) for model in (original, converted)]
    times: list[list[float]] = [[], []]
    for interpreter in interpreters:
        taken = Tensor.from_detail(interpreter.get_input_details()[0])
        interpreter.tensor(taken.index)()[:] = np.zeros(taken.shape, taken.dtype)
        interpreter.invoke()
    for _ in range(_LATENCY_RUNS):
        for interpreter, took in zip(interpreters, times, strict=True):
            begin = time.perf_counter()
            interpreter.invoke()
            took.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(times[0])), float(np.median(times[1]))
