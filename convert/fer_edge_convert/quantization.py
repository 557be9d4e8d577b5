"""From a float ``.tflite`` to a quantized one: ranges measured on faces, then arithmetic by ai-edge-quantizer.

Integer quantization after Jacob et al. 2017 (arXiv:1712.05877): weights per output channel, activations per tensor.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from ai_edge_quantizer import algorithm_manager, qtyping, quantizer

from fer_edge.errors import ModelError
from fer_edge.tflite.graph import read_graph
from fer_edge_convert.flatbuffer import Tracer, constants, with_constants, with_integer_operators

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy.typing as npt

    from fer_edge.tflite.graph import Operation
    from fer_edge_convert.flatbuffer import Images

_Operations = qtyping.TFLOperationName
_Algorithms = algorithm_manager.AlgorithmName
_Granularity = qtyping.QuantGranularity
_KEPT: Final = 1024  # values of a tensor that are kept of each image, for percentiles
_DECAY: Final = 0.95
_MIN_RANGE: Final = 1e-5
_MAX_BIAS: Final = 2**30  # steps of a bias in int32
_BIASED: Final = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}  # operators that may have a bias


class Scheme(StrEnum):
    """How numbers are stored and calculated with."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    DYNAMIC = "dynamic"
    INT8 = "int8"
    INT16X8 = "int16x8"

    @property
    def calibrated(self) -> bool:
        """Whether the ranges of activations must be measured first."""
        return self in {Scheme.INT8, Scheme.INT16X8}


class Method(StrEnum):
    """How the range of a tensor is calculated from its statistics."""

    MINMAX = "min/max"
    MOVING_AVERAGE = "moving average"
    PERCENTILE_99_99 = "99.99th percentile"
    PERCENTILE_99_9 = "99.9th percentile"


@dataclass(frozen=True, slots=True)
class ActivationStats:
    """Statistics of a tensor while images go through the float model.

    Attributes:
        lows: smallest value for each face, shape (n,).
        highs: largest value for each face, shape (n,).
        values: a part of all values, shape (m,).
        mean: mean value of each channel, shape (channels,).
    """

    lows: npt.NDArray[np.float32]
    highs: npt.NDArray[np.float32]
    values: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float64]

    def range(self, method: Method) -> tuple[float, float]:
        """Return the smallest and the largest value that must be representable; 0 is between them."""
        match method:
            case Method.MINMAX:
                low, high = float(self.lows.min()), float(self.highs.max())
            case Method.MOVING_AVERAGE:
                # Each face moves the range a little, as in section 3.1 of Jacob et al. 2017.
                low, high = float(self.lows[0]), float(self.highs[0])
                for each_low, each_high in zip(self.lows[1:].tolist(), self.highs[1:].tolist(), strict=True):
                    low, high = _DECAY * low + (1 - _DECAY) * each_low, _DECAY * high + (1 - _DECAY) * each_high
            case Method.PERCENTILE_99_99 | Method.PERCENTILE_99_9:
                tail = 1e-4 if method is Method.PERCENTILE_99_99 else 1e-3
                low, high = np.quantile(self.values, [tail, 1 - tail]).tolist()
        low, high = min(low, 0.0), max(high, 0.0)
        # A step of 0 would overflow what kernels calculate from it.
        return low, max(high, low + _MIN_RANGE)


def observe(model: bytes, images: Images) -> dict[str, ActivationStats]:
    """Return the statistics of every tensor of a float model over images, one at least."""
    trace = Tracer(model)
    lows: dict[str, list[float]] = {}
    highs: dict[str, list[float]] = {}
    values: dict[str, list[npt.NDArray[np.float32]]] = {}
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for i in range(len(images)):
        for name, value in trace(images[i]):
            flat = value.ravel()
            lows.setdefault(name, []).append(float(flat.min()))
            highs.setdefault(name, []).append(float(flat.max()))
            # A step that shares no factor with the channels' number would be better still; an odd one does.
            values.setdefault(name, []).append(flat[:: max(flat.size // _KEPT, 1) | 1].copy())
            mean = value.reshape(-1, value.shape[-1] if value.ndim else 1).mean(axis=0, dtype=np.float64)
            sums[name] = sums[name] + mean if name in sums else mean
    return {
        name: ActivationStats(
            np.array(lows[name], np.float32),
            np.array(highs[name], np.float32),
            np.concatenate(values[name]),
            sums[name] / len(images),
        )
        for name in lows
    }


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is quantized.

    Attributes:
        scheme: scheme of most of it.
        ranges: smallest and largest value of each activation, by tensor.
        kept_float: outputs of the operators that stay in floats, weights in float16.
        only: the output of the one operator that is quantized; empty quantizes all.
        one_dense_scale: whether a dense layer has one scale for all of its outputs, instead of one for each.
    """

    scheme: Scheme
    ranges: Mapping[str, tuple[float, float]]
    kept_float: Collection[str] = ()
    only: str = ""
    one_dense_scale: bool = False

    def only_for(self, name: str) -> Plan:
        """Return the same plan for one operator, with all others in floats."""
        return replace(self, only=name, kept_float=())


def quantize(model: bytes, plan: Plan) -> bytes:
    """Quantize a float model.

    Raises:
        ModelError: the quantizer cannot quantize it.
    """
    if plan.scheme is Scheme.FLOAT32:
        return model
    work = quantizer.Quantizer(model)
    _configure(work, plan)
    if plan.scheme is Scheme.INT8 and not plan.one_dense_scale:
        for name in _find_overflowing_dense(model, plan):
            scope = f"^{re.escape(name)};?$"
            work.add_static_config(scope, _Operations.FULLY_CONNECTED, 8, 8, _Granularity.TENSORWISE)
    kinds = {one.name: one.kind for one in read_graph(model, Path("model")).operations} if plan.kept_float else {}
    for name in plan.kept_float:
        scope = f"^{re.escape(name)};?$"
        work.update_quantization_recipe(scope, _Operations.ALL_SUPPORTED, algorithm_key=_Algorithms.NO_QUANTIZE)
        if kinds.get(name) in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}:
            _cast(work, scope)
    statistics = None
    if plan.scheme.calibrated:
        statistics = {
            name: {"min": np.full((1, 1), low, np.float32), "max": np.full((1, 1), high, np.float32)}
            for name, (low, high) in plan.ranges.items()
        }
    try:
        # The quantizer prints its progress in any case.
        silence = io.StringIO()
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = work.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
    except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        raise ModelError(
            f"the quantizer cannot make {plan.scheme} of this model: try another scheme, such as --float16;"
            " `fer-edge --debug convert ...` shows why"
        ) from error
    return with_integer_operators(bytes(result.quantized_model), plan.ranges if plan.scheme is Scheme.INT8 else {})


def float_operators(model: bytes, scheme: Scheme) -> list[Operation]:
    """Return the operators of a float model that stay in floats when it is quantized."""
    graph = read_graph(model, Path("model"))
    activations = [*graph.inputs, *(node for one in graph.operations for node in one.outputs)]
    quantized = quantize(model, Plan(scheme, dict.fromkeys((node.name for node in activations), (-1.0, 1.0))))
    return [
        one
        for one in read_graph(quantized, Path("model")).operations
        if one.kind not in {"QUANTIZE", "DEQUANTIZE"}
        and any("FLOAT" in node.dtype for node in (*one.inputs, *one.outputs))
    ]


def correct_biases(model: bytes, quantized: bytes, stats: Mapping[str, ActivationStats]) -> bytes:
    """Return the float model with biases that make up for what its quantized weights change on average.

    Section 4.2 of Nagel et al. 2019 (arXiv:1906.04721): the weights' error times the mean of each input channel,
    which is measured here.
    """
    changes = {}
    operations = read_graph(model, Path("model")).operations
    users = Counter(node.name for operation in operations for node in operation.inputs)
    biased = [one for one in operations if one.kind in _BIASED and len(one.inputs) > 2]
    names = {node.name for operation in biased for node in operation.inputs[1:3]}
    before, after = constants(model, names), constants(quantized, names)
    for operation in biased:
        given, weights, bias = (node.name for node in operation.inputs[:3])
        if not (weights in before and weights in after and bias in before and given in stats) or users[bias] > 1:
            continue  # a bias that several operators share cannot make up for each
        error, mean = (after[weights] - before[weights]).astype(np.float64), stats[given].mean
        if operation.kind == "DEPTHWISE_CONV_2D":
            shift = error.sum(axis=(0, 1, 2)) * np.repeat(mean, error.shape[3] // len(mean))
        elif operation.kind == "CONV_2D":
            if error.shape[3] != len(mean):  # in groups, of which each sees a part of the channels
                continue
            shift = error.sum(axis=(1, 2)) @ mean
        else:
            shift = error @ np.resize(mean, error.shape[1])
        changes[bias] = (before[bias] - shift).astype(np.float32)
    return with_constants(model, changes)


def _configure(work: quantizer.Quantizer, plan: Plan) -> None:
    """Say how the operators are quantized, but for those that stay in floats."""
    everything = f"^{re.escape(plan.only)};?$" if plan.only else ".*"
    dense = _Granularity.TENSORWISE if plan.one_dense_scale else _Granularity.CHANNELWISE
    match plan.scheme:
        case Scheme.FLOAT16:
            _cast(work, everything)
        case Scheme.DYNAMIC:
            work.add_dynamic_config(everything, _Operations.ALL_SUPPORTED, 8)
            work.add_dynamic_config(everything, _Operations.FULLY_CONNECTED, 8, dense)
        case Scheme.INT8 | Scheme.INT16X8:
            bits = 8 if plan.scheme is Scheme.INT8 else 16
            work.add_static_config(everything, _Operations.ALL_SUPPORTED, bits, 8)
            work.add_static_config(everything, _Operations.FULLY_CONNECTED, bits, 8, dense)


def _find_overflowing_dense(model: bytes, plan: Plan) -> list[str]:
    """Return the quantized dense layers with an output of so small weights that its bias would not fit into int32.

    A bias has the scale of the input times that of the weights. With one scale for all outputs, there is room for it.
    """
    dense = [
        one
        for one in read_graph(model, Path("model")).operations
        if one.kind == "FULLY_CONNECTED" and len(one.inputs) > 2 and plan.only in {"", one.name}
    ]
    values = constants(model, {node.name for one in dense for node in one.inputs[1:3]}) if dense else {}
    found = []
    for operation in dense:
        given, weights, bias = (node.name for node in operation.inputs[:3])
        if weights not in values or bias not in values or given not in plan.ranges:
            continue
        low, high = plan.ranges[given]
        step = (high - low) / 255 * np.abs(values[weights]).max(axis=1).astype(np.float64) / 127
        if (np.abs(values[bias]) > _MAX_BIAS * step).any():
            found.append(operation.name)
    return found


def _cast(work: quantizer.Quantizer, scope: str) -> None:
    """Store weights in float16; calculate in float32."""
    half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=half, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
    )
    work.update_quantization_recipe(scope, _Operations.ALL_SUPPORTED, config, _Algorithms.FLOAT_CASTING)
