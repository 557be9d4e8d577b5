"""Translate the operators of an ONNX graph to TensorFlow's, with the channels of images last.

ONNX has channels first, [n, channels, height, width]; TensorFlow Lite has them last. A tensor of rank 4 is kept with
its channels last from the first operator that wants them so until one needs the order of ONNX, so that no image is
transposed in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import onnx.reference
import tensorflow as tf

from fer_edge.errors import ModelError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

_TO_LAST: Final = (0, 2, 3, 1)
_TO_FIRST: Final = (0, 3, 1, 2)
_AXIS_WITH_CHANNELS_LAST: Final = (0, 3, 1, 2)  # where ONNX's axis 0, 1, 2, 3 is
# Operators whose results are never negative, so that a maximum over a border of zeros is the same.
_NOT_NEGATIVE: Final = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Softplus"}


@dataclass(frozen=True, slots=True)
class _Value:
    """A tensor, and whether its channels are last although ONNX has them first."""

    tensor: Any
    channels_last: bool = False


class OnnxGraph:
    """An ONNX graph of fixed shapes as a function of TensorFlow.

    Attributes:
        opset: version of its operators.
    """

    def __init__(self, path: Path, graph: Any, opset: int, output: str) -> None:  # noqa: ANN401 - onnx has no types
        """Take a graph.

        Args:
            path: the model's file, for errors.
            graph: the graph, of standard operators.
            opset: version of the operators.
            output: name of the output to calculate.

        Raises:
            ModelError: an operator is not known here.
        """
        self.opset = opset
        self._path, self._output = path, output
        self._constants = {one.name: _to_array(one) for one in graph.initializer}
        self._nodes = list(graph.node)
        self._makers = {name: node for node in self._nodes for name in node.output}
        (self._input,) = (one.name for one in graph.input if one.name not in self._constants)
        self._values: dict[str, _Value] = {}

    def __call__(self, image: Any, *, channels_last: bool) -> Any:  # noqa: ANN401 - a tensor
        """Return the output for an image, whose channels are last in place of first if so said.

        Raises:
            ModelError: an operator is not known here.
        """
        self._values = {self._input: _Value(image, channels_last)}
        self._run(self._nodes)
        return self.first(self._output)

    def _run(self, nodes: Iterable[Any]) -> None:
        for node in nodes:
            try:
                if node.op_type == "If":
                    self._run_branch(_Node(node), node.output)
                elif node.op_type == "Shape":
                    shape = self.first(node.input[0]).shape
                    begin, end = _Node(node).get("start", 0), _Node(node).get("end")
                    self._constants[node.output[0]] = np.array(shape[begin:end], np.int64)
                elif all(name in self._constants for name in node.input if name):
                    self._calculate(node)
                else:
                    result = _TRANSLATIONS.get(node.op_type, _refuse)(self, _Node(node))
                    results = result if isinstance(result, list) else [result]
                    self._values.update(zip(node.output, results, strict=False))
            except ModelError as error:
                name = f" {printable(node.name)}" if node.name else ""
                raise ModelError(
                    f"{self._path}: its {printable(node.op_type)}{name} {error}; export the model in another way, or"
                    " convert it with another tool and give the float .tflite"
                ) from error

    def _run_branch(self, node: _Node, outputs: Sequence[str]) -> None:
        """Calculate the branch of a condition that is constant."""
        branch = node.get("then_branch" if self.known(node.inputs[0]).all() else "else_branch")
        self._constants.update((one.name, _to_array(one)) for one in branch.initializer)
        self._run(branch.node)
        for name, inner in zip(outputs, (one.name for one in branch.output), strict=True):
            if inner in self._constants:
                self._constants[name] = self._constants[inner]
            else:
                self._values[name] = self.value(inner)

    def _calculate(self, node: Any) -> None:  # noqa: ANN401 - onnx has no types
        """Calculate an operator of constants, such as of shapes, which are constant for an image of one size."""
        evaluator = onnx.reference.ReferenceEvaluator(node, opsets={"": self.opset})
        results = evaluator.run(None, {name: self._constants[name] for name in node.input if name})
        self._constants.update(
            (name, np.asarray(one)) for name, one in zip(node.output, results, strict=False) if one is not None
        )

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """Return a constant; None if the value is calculated."""
        return self._constants.get(name)

    def known(self, name: str) -> npt.NDArray[Any]:
        """Return a constant, which must be one."""
        value = self.constant(name)
        if value is None:
            raise ModelError("takes its shape or weights from the image, which fer-edge does not translate")
        return value

    def value(self, name: str) -> _Value:
        """Return a value as it is kept."""
        if name in self._values:
            return self._values[name]
        return _Value(tf.constant(self.known(name)))

    def first(self, name: str) -> Any:  # noqa: ANN401 - a tensor
        """Return a value in the order of ONNX."""
        value = self.value(name)
        if not value.channels_last:
            return value.tensor
        n, height, width, channels = value.tensor.shape
        if height == width == 1:  # nothing to move
            return tf.reshape(value.tensor, (n, channels, 1, 1))
        return tf.transpose(value.tensor, _TO_FIRST)

    def last(self, name: str) -> Any:  # noqa: ANN401 - a tensor
        """Return a value of rank 4 with channels last."""
        value = self.value(name)
        if len(value.tensor.shape) != 4:
            raise ModelError("is not of two dimensions, as those of images are")
        return value.tensor if value.channels_last else tf.transpose(value.tensor, _TO_LAST)

    def broadcast(self, names: Sequence[str]) -> tuple[list[Any], bool]:
        """Return the operands of an elementwise operator in one order, and whether that is channels last."""
        if not any(self.value(name).channels_last for name in names):
            return [self.value(name).tensor for name in names], False
        return [self._broadcast_last(name) for name in names], True

    def _broadcast_last(self, name: str) -> Any:  # noqa: ANN401 - a tensor
        value = self.value(name)
        if value.channels_last:
            return value.tensor
        constant = self.constant(name)
        if constant is not None:  # without leading ones, for operators to be fused
            moved = constant.reshape((1,) * (4 - constant.ndim) + constant.shape).transpose(_TO_LAST)
            return tf.constant(moved.reshape(moved.shape[next((i for i in range(4) if moved.shape[i] > 1), 4) :]))
        shape = value.tensor.shape
        return tf.transpose(tf.reshape(value.tensor, (1,) * (4 - len(shape)) + tuple(shape)), _TO_LAST)

    def is_not_negative(self, name: str) -> bool:
        """Return whether a value can be shown to have no negative element."""
        node = self._makers.get(name)
        if node is None:
            return False
        if node.op_type == "Clip":
            low, _ = _clip_limits(self, _Node(node))
            return low is not None and low >= 0
        if node.op_type in {"MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Dropout"}:
            return self.is_not_negative(node.input[0])
        if node.op_type in {"Add", "Concat"}:
            return all(self.is_not_negative(one) for one in node.input)
        return node.op_type in _NOT_NEGATIVE

    def find_gelu(self, half: str, rest: str) -> tuple[str, float] | None:
        """Return x and c if a product is c times GELU of x, exporters of which write x * (1 + erf(x / sqrt(2))) / 2.

        Args:
            half: name of the factor that is x or a multiple of it.
            rest: name of the factor that is 1 + erf(x / sqrt(2)).
        """
        (erf, one), (scaled, factor) = self._by_constant(rest, "Add"), self._by_constant(half, "Mul")
        if one != 1 or (node := self._makers.get(erf)) is None or node.op_type != "Erf":
            return None
        for kind, expected in (("Div", math.sqrt(2)), ("Mul", math.sqrt(0.5))):
            x, by = self._by_constant(node.input[0], kind)
            if by is not None and math.isclose(by, expected, rel_tol=1e-4):
                return (x, 2.0) if x == half else (x, 2 * factor) if x == scaled and factor is not None else None
        return None

    def _by_constant(self, name: str, kind: str) -> tuple[str, float | None]:
        """Return the other operand and the number, if a value is made of one number and something else."""
        node = self._makers.get(name)
        if node is not None and node.op_type == kind:
            for first, second in (node.input, node.input[::-1]):
                number = self.constant(second)
                if number is not None and number.size == 1:
                    return first, float(number.reshape(-1)[0])
        return "", None

    def is_hard_sigmoid_of(self, name: str, other: str) -> bool:
        """Return whether a value is the hard sigmoid, of slope 1/6, of another."""
        node = self._makers.get(name)
        return (
            node is not None
            and node.op_type == "HardSigmoid"
            and node.input[0] == other
            and _is_sixth(_Node(node).get("alpha", 0.2))
            and _Node(node).get("beta", 0.5) == 0.5
        )


def _to_array(constant: Any) -> npt.NDArray[Any]:  # noqa: ANN401 - onnx has no types
    """Return the values of a constant; everything is calculated in float32."""
    value: npt.NDArray[Any] = onnx.numpy_helper.to_array(constant)
    return value.astype(np.float32) if value.dtype.kind == "f" else value


class _Node:
    """An operator of the graph.

    Attributes:
        inputs: names of what it takes; empty for an optional one that is left out.
        outputs: how many results it has.
    """

    def __init__(self, node: Any) -> None:  # noqa: ANN401 - onnx has no types
        self.inputs: list[str] = list(node.input)
        self.outputs = len(node.output)
        self._attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - of any type
        """Return an attribute."""
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def has(self, index: int) -> bool:
        """Return whether an input is given."""
        return len(self.inputs) > index and bool(self.inputs[index])

    def axes(self, graph: OnnxGraph, index: int) -> list[int] | None:
        """Return axes, which later versions have as an input and earlier ones as an attribute."""
        if self.has(index):
            return [int(one) for one in graph.known(self.inputs[index])]
        axes = self.get("axes")
        return None if axes is None else list(map(int, axes))


def _refuse(*_: object) -> _Value:
    raise ModelError("is an operator that fer-edge does not translate")


def _unary(function: Callable[[Any], Any]) -> Callable[[OnnxGraph, _Node], _Value]:
    def translate(graph: OnnxGraph, node: _Node) -> _Value:
        value = graph.value(node.inputs[0])
        return _Value(function(value.tensor), value.channels_last)

    return translate


def _fold(function: Callable[[Any, Any], Any]) -> Callable[[OnnxGraph, _Node], _Value]:
    def translate(graph: OnnxGraph, node: _Node) -> _Value:
        (result, *others), channels_last = graph.broadcast(node.inputs)
        for other in others:
            result = function(result, other)
        return _Value(result, channels_last)

    return translate


def _choose(graph: OnnxGraph, node: _Node) -> _Value:
    operands, channels_last = graph.broadcast(node.inputs)
    return _Value(tf.where(*operands), channels_last)


def _multiply(graph: OnnxGraph, node: _Node) -> _Value:
    """Multiply; forms that TensorFlow Lite has as one operator become that."""
    for one, other in (node.inputs, node.inputs[::-1]):
        if graph.is_hard_sigmoid_of(other, one):
            return _swish_hard(graph.value(one))
        if (found := graph.find_gelu(one, other)) is not None:
            name, factor = found
            value = graph.value(name)
            return _Value(tf.nn.gelu(value.tensor, approximate=False) * factor, value.channels_last)
    return _fold(tf.multiply)(graph, node)


def _mean(graph: OnnxGraph, node: _Node) -> _Value:
    total = _fold(tf.add)(graph, node)
    return _Value(total.tensor / float(len(node.inputs)), total.channels_last)


def _is_sixth(value: float) -> bool:
    return math.isclose(value, 1 / 6, rel_tol=1e-4)


def _hard_sigmoid(graph: OnnxGraph, node: _Node) -> _Value:
    value = graph.value(node.inputs[0])
    slope, shift = node.get("alpha", 0.2), node.get("beta", 0.5)
    if _is_sixth(slope) and shift == 0.5:
        return _Value(tf.nn.relu6(value.tensor + 3.0) * (1 / 6), value.channels_last)
    return _Value(tf.clip_by_value(value.tensor * slope + shift, 0.0, 1.0), value.channels_last)


def _hard_swish(graph: OnnxGraph, node: _Node) -> _Value:
    return _swish_hard(graph.value(node.inputs[0]))


def _swish_hard(value: _Value) -> _Value:
    return _Value(value.tensor * tf.nn.relu6(value.tensor + 3.0) * (1 / 6), value.channels_last)


def _leaky_relu(graph: OnnxGraph, node: _Node) -> _Value:
    value = graph.value(node.inputs[0])
    return _Value(tf.nn.leaky_relu(value.tensor, node.get("alpha", 0.01)), value.channels_last)


def _elu(graph: OnnxGraph, node: _Node) -> _Value:
    value = graph.value(node.inputs[0])
    return _Value(_scaled_elu(value.tensor, node.get("alpha", 1.0)), value.channels_last)


def _selu(graph: OnnxGraph, node: _Node) -> _Value:
    value = graph.value(node.inputs[0])
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    return _Value(gamma * _scaled_elu(value.tensor, alpha), value.channels_last)


def _scaled_elu(x: Any, alpha: float) -> Any:  # noqa: ANN401 - tensors
    """Return ELU with what is negative times alpha, by operators that can be in integers."""
    return tf.nn.elu(x) if alpha == 1 else tf.nn.leaky_relu(tf.nn.elu(x), alpha)


def _celu(graph: OnnxGraph, node: _Node) -> _Value:
    value, alpha = graph.value(node.inputs[0]), node.get("alpha", 1.0)
    return _Value(alpha * tf.nn.elu(value.tensor / alpha), value.channels_last)


def _prelu(graph: OnnxGraph, node: _Node) -> _Value:
    (x, slope), channels_last = graph.broadcast(node.inputs)
    # The form of which the converter makes a PRELU: a slope for each value of one image.
    slope = tf.reshape(-slope, (1,) * (len(x.shape) - 1 - len(slope.shape)) + tuple(slope.shape)[1 - len(x.shape) :])
    return _Value(tf.nn.relu(x) + slope * tf.nn.relu(-x), channels_last)


def _clip_limits(graph: OnnxGraph, node: _Node) -> tuple[float | None, float | None]:
    if graph.opset < 11:
        return node.get("min"), node.get("max")
    low, high = (float(graph.known(node.inputs[i]).reshape(-1)[0]) if node.has(i) else None for i in (1, 2))
    return low, high


def _clip(graph: OnnxGraph, node: _Node) -> _Value:
    value = graph.value(node.inputs[0])
    low, high = _clip_limits(graph, node)
    x = value.tensor
    if (low, high) == (0, 6):
        x = tf.nn.relu6(x)
    else:
        x = x if low is None else tf.nn.relu(x) if low == 0 else tf.maximum(x, low)
        x = x if high is None else high - tf.nn.relu(high - x)  # the minimum, in integers, too
    return _Value(x, value.channels_last)


def _gelu(graph: OnnxGraph, node: _Node) -> _Value:
    value = graph.value(node.inputs[0])
    return _Value(tf.nn.gelu(value.tensor, approximate=node.get("approximate") == "tanh"), value.channels_last)


def _rank(value: _Value) -> int:
    return len(value.tensor.shape)


def _place(axis: int, value: _Value) -> int:
    """Return where an axis of ONNX is in a value as it is kept."""
    positive = axis % _rank(value)
    return _AXIS_WITH_CHANNELS_LAST[positive] if value.channels_last else positive


def _softmax(function: Callable[..., Any]) -> Callable[[OnnxGraph, _Node], _Value]:
    def translate(graph: OnnxGraph, node: _Node) -> _Value:
        if graph.opset >= 13:
            value = graph.value(node.inputs[0])
            return _Value(function(value.tensor, axis=_place(node.get("axis", -1), value)), value.channels_last)
        x = graph.first(node.inputs[0])  # over this axis and all that follow
        axis = node.get("axis", 1) % len(x.shape)
        if math.prod(x.shape[axis + 1 :]) == 1:
            return _Value(function(x, axis=axis))
        return _Value(tf.reshape(function(tf.reshape(x, (math.prod(x.shape[:axis]), -1))), x.shape))

    return translate


def _convolve(graph: OnnxGraph, node: _Node) -> _Value:
    x, weights = graph.last(node.inputs[0]), graph.known(node.inputs[1])
    strides, dilations = node.get("strides", (1, 1)), node.get("dilations", (1, 1))
    kernel = [dilation * (size - 1) + 1 for size, dilation in zip(weights.shape[2:], dilations, strict=True)]
    x, padding = _pad(x, node, kernel, strides, tf.pad)
    groups, channels = node.get("group", 1), x.shape[-1]
    if groups == channels > 1:
        depthwise = weights.reshape(channels, -1, *weights.shape[2:]).transpose(2, 3, 0, 1)
        result = _convolve_depthwise(x, depthwise, strides, dilations, padding)
    else:
        result = tf.nn.conv2d(x, weights.transpose(2, 3, 1, 0), strides, padding, dilations=dilations)
    if node.has(2):
        result = tf.nn.bias_add(result, graph.known(node.inputs[2]))
    return _Value(result, channels_last=True)


def _convolve_depthwise(
    x: Any,  # noqa: ANN401 - a tensor
    weights: npt.NDArray[Any],
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: str,
) -> Any:  # noqa: ANN401 - a tensor
    """Convolve each channel by itself; TensorFlow has one stride for both directions, and a stride or a dilation."""
    if len(set(strides)) == 1 and (max(strides) == 1 or max(dilations) == 1):
        return tf.nn.depthwise_conv2d(x, weights, (1, *strides, 1), padding, dilations=dilations)
    if padding != "VALID":
        raise ModelError("has strides that TensorFlow Lite does not have")
    everywhere = tf.nn.depthwise_conv2d(x, weights, (1, 1, 1, 1), "VALID", dilations=dilations)
    return everywhere[:, :: strides[0], :: strides[1]]


def _pad(
    x: Any,  # noqa: ANN401 - a tensor
    node: _Node,
    kernel: Sequence[int],
    strides: Sequence[int],
    fill: Callable[[Any, list[list[int]]], Any],
) -> tuple[Any, str]:
    """Return an image with the padding of a convolution or pooling, and the name of what TensorFlow has to add."""
    same = _same_pads(x, kernel, strides)
    before, after = _pads(x, node, kernel, strides)
    if not any((*before, *after)):
        return x, "VALID"
    if before == [one // 2 for one in same] and after == [one - one // 2 for one in same]:
        return x, "SAME"
    return fill(x, [[0, 0], *([a, b] for a, b in zip(before, after, strict=True)), [0, 0]]), "VALID"


def _same_pads(x: Any, kernel: Sequence[int], strides: Sequence[int]) -> list[int]:  # noqa: ANN401 - a tensor
    """Return how many rows and columns TensorFlow's padding SAME adds."""
    return [
        max((math.ceil(size / stride) - 1) * stride + length - size, 0)
        for size, stride, length in zip(x.shape[1:3], strides, kernel, strict=True)
    ]


def _pads(x: Any, node: _Node, kernel: Sequence[int], strides: Sequence[int]) -> tuple[list[int], list[int]]:  # noqa: ANN401
    """Return how many rows and columns are added before and after an image."""
    automatic = node.get("auto_pad", "NOTSET")
    if automatic.startswith("SAME"):
        both = _same_pads(x, kernel, strides)
        less, more = [one // 2 for one in both], [one - one // 2 for one in both]
        return (less, more) if automatic == "SAME_UPPER" else (more, less)
    pads = list(node.get("pads", (0, 0, 0, 0))) if automatic == "NOTSET" else [0, 0, 0, 0]
    before, after = pads[:2], pads[2:]
    if node.get("ceil_mode", 0):
        for i, (size, stride, length) in enumerate(zip(x.shape[1:3], strides, kernel, strict=True)):
            room = size + before[i] + after[i] - length
            steps = math.ceil(room / stride)
            if steps * stride >= size + before[i]:  # the last window would begin beyond the image
                steps -= 1
            after[i] += max(steps * stride - room, 0)
    return before, after


def _repeat_border(x: Any, pads: list[list[int]]) -> Any:  # noqa: ANN401 - tensors
    """Return an image with its border repeated: a maximum over it is the same, and no number of it is infinite."""
    for axis in (1, 2):
        before, after = pads[axis]
        begin = x[:, :1] if axis == 1 else x[:, :, :1]
        end = x[:, -1:] if axis == 1 else x[:, :, -1:]
        parts = [*([begin] * before), x, *([end] * after)]
        x = tf.concat(parts, axis) if len(parts) > 1 else x
    return x


def _max_pool(graph: OnnxGraph, node: _Node) -> _Value:
    x, size, strides = graph.last(node.inputs[0]), node.get("kernel_shape"), node.get("strides", (1, 1))
    if node.outputs > 1 or max(node.get("dilations", (1, 1))) > 1:
        raise ModelError("has dilations or gives indices, which fer-edge does not translate")
    zeros = graph.is_not_negative(node.inputs[0])
    x, padding = _pad(x, node, size, strides, tf.pad if zeros else _repeat_border)
    return _Value(tf.nn.max_pool2d(x, size, strides, padding), channels_last=True)


def _average_pool(graph: OnnxGraph, node: _Node) -> _Value:
    x, size, strides = graph.last(node.inputs[0]), node.get("kernel_shape"), node.get("strides", (1, 1))
    if max(node.get("dilations", (1, 1))) > 1:
        raise ModelError("has dilations, which fer-edge does not translate")
    before, after = _pads(x, node, size, strides)
    if not any((*before, *after)):
        return _Value(tf.nn.avg_pool2d(x, size, strides, "VALID"), channels_last=True)
    inner = list(node.get("pads", (0, 0, 0, 0)))
    pads = [[0, 0], *([a, b] for a, b in zip(before, after, strict=True)), [0, 0]]
    means = tf.nn.avg_pool2d(tf.pad(x, pads), size, strides, "VALID")
    # The mean is over what counts as the image: with count_include_pad, also over the border that is stated.
    counted = np.zeros((x.shape[1] + before[0] + after[0], x.shape[2] + before[1] + after[1]), np.float32)
    rows, columns = slice(before[0], before[0] + x.shape[1]), slice(before[1], before[1] + x.shape[2])
    if node.get("count_include_pad", 0):
        rows, columns = slice(0, rows.stop + inner[2]), slice(0, columns.stop + inner[3])
    counted[rows, columns] = 1
    windows = np.lib.stride_tricks.sliding_window_view(counted, size)[:: strides[0], :: strides[1]]
    factor = math.prod(size) / windows.sum(axis=(2, 3))
    return _Value(
        means if (factor == 1).all() else means * factor[None, :, :, None].astype(np.float32), channels_last=True
    )


def _global_pool(function: Callable[..., Any]) -> Callable[[OnnxGraph, _Node], _Value]:
    def translate(graph: OnnxGraph, node: _Node) -> _Value:
        return _Value(function(graph.last(node.inputs[0]), (1, 2), keepdims=True), channels_last=True)

    return translate


def _normalize_batch(graph: OnnxGraph, node: _Node) -> _Value:
    gain, bias, mean, variance = (graph.known(name).astype(np.float64) for name in node.inputs[1:5])
    scale = gain / np.sqrt(variance + node.get("epsilon", 1e-5))
    shift = bias - mean * scale
    value = graph.value(node.inputs[0])
    if _rank(value) == 4:
        x = graph.last(node.inputs[0])
        return _Value(x * scale.astype(np.float32) + shift.astype(np.float32), channels_last=True)
    shape = (-1,) + (1,) * (_rank(value) - 2)
    return _Value(value.tensor * scale.reshape(shape).astype(np.float32) + shift.reshape(shape).astype(np.float32))


def _normalize_instance(graph: OnnxGraph, node: _Node) -> _Value:
    gain, bias = graph.known(node.inputs[1]), graph.known(node.inputs[2])
    epsilon = node.get("epsilon", 1e-5)
    value = graph.value(node.inputs[0])
    if _rank(value) == 4:
        return _Value(_standardize(graph.last(node.inputs[0]), (1, 2), epsilon) * gain + bias, channels_last=True)
    axes = list(range(2, _rank(value)))
    shape = (-1, *(1 for _ in axes))
    return _Value(_standardize(value.tensor, axes, epsilon) * gain.reshape(shape) + bias.reshape(shape))


def _normalize_layer(graph: OnnxGraph, node: _Node) -> _Value:
    x = graph.first(node.inputs[0])
    axes = list(range(node.get("axis", -1) % len(x.shape), len(x.shape)))
    x = _standardize(x, axes, node.get("epsilon", 1e-5)) * graph.known(node.inputs[1])
    return _Value(x + graph.known(node.inputs[2]) if node.has(2) else x)


def _standardize(x: Any, axes: Sequence[int], epsilon: float) -> Any:  # noqa: ANN401 - tensors
    centred = x - tf.reduce_mean(x, axes, keepdims=True)
    return centred * tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axes, keepdims=True) + epsilon)


def _normalize_locally(graph: OnnxGraph, node: _Node) -> _Value:
    size = node.get("size")
    if size % 2 == 0:
        raise ModelError("is over an even number of channels, which TensorFlow Lite does not have")
    x = graph.last(node.inputs[0])
    alpha, beta = node.get("alpha", 1e-4) / size, node.get("beta", 0.75)
    return _Value(tf.nn.lrn(x, size // 2, node.get("bias", 1.0), alpha, beta), channels_last=True)


def _gemm(graph: OnnxGraph, node: _Node) -> _Value:
    weights = graph.constant(node.inputs[1])
    x = graph.first(node.inputs[0])
    if node.get("transA", 0):
        x = tf.transpose(x)
    alpha = np.float32(node.get("alpha", 1.0))
    if weights is not None:
        result = tf.matmul(x, alpha * (weights.T if node.get("transB", 0) else weights))
    else:
        result = alpha * tf.matmul(x, graph.first(node.inputs[1]), transpose_b=bool(node.get("transB", 0)))
    if node.has(2):
        beta = np.float32(node.get("beta", 1.0))
        added = graph.constant(node.inputs[2])
        result += beta * (added if added is not None else graph.first(node.inputs[2]))
    return _Value(result)


def _multiply_matrices(graph: OnnxGraph, node: _Node) -> _Value:
    return _Value(tf.matmul(graph.first(node.inputs[0]), graph.first(node.inputs[1])))


def _reduce(function: Callable[..., Any]) -> Callable[[OnnxGraph, _Node], _Value]:
    def translate(graph: OnnxGraph, node: _Node) -> _Value:
        value = graph.value(node.inputs[0])
        axes = node.axes(graph, 1)
        if axes is None:
            if node.get("noop_with_empty_axes", 0):
                return value
            axes = list(range(_rank(value)))
        places = [_place(axis, value) for axis in axes]
        if node.get("keepdims", 1):
            return _Value(function(value.tensor, places, keepdims=True), value.channels_last)
        if value.channels_last and sorted(places) == [1, 2]:  # [n, channels] is left in either order
            return _Value(function(value.tensor, places))
        return _Value(function(graph.first(node.inputs[0]), axes))

    return translate


def _concatenate(graph: OnnxGraph, node: _Node) -> _Value:
    values = [graph.value(name) for name in node.inputs]
    axis = node.get("axis", 1)
    if any(value.channels_last for value in values):
        place = _AXIS_WITH_CHANNELS_LAST[axis % 4]
        return _Value(tf.concat([graph.last(name) for name in node.inputs], place), channels_last=True)
    return _Value(tf.concat([value.tensor for value in values], axis))


def _split(graph: OnnxGraph, node: _Node) -> list[_Value]:
    value = graph.value(node.inputs[0])
    axis = _place(node.get("axis", 0), value)
    sizes = graph.known(node.inputs[1]).tolist() if node.has(1) else node.get("split")
    length = value.tensor.shape[axis]
    each = math.ceil(length / node.outputs)
    sizes = sizes or [each] * (node.outputs - 1) + [length - each * (node.outputs - 1)]
    return [_Value(part, value.channels_last) for part in tf.split(value.tensor, list(map(int, sizes)), axis)]


def _slice(graph: OnnxGraph, node: _Node) -> _Value:
    value = graph.value(node.inputs[0])
    if graph.opset < 10:
        starts, ends, axes, steps = node.get("starts"), node.get("ends"), node.get("axes"), None
    else:
        starts, ends, axes, steps = (
            graph.known(node.inputs[i]).tolist() if node.has(i) else None for i in (1, 2, 3, 4)
        )
    parts = [slice(None)] * _rank(value)
    for i, axis in enumerate(axes if axes is not None else range(len(starts))):
        step = steps[i] if steps else 1
        length = value.tensor.shape[_place(axis, value)]
        begin, end, _ = slice(starts[i], ends[i] if ends[i] > -(2**31) else None, step).indices(length)
        parts[_place(axis, value)] = slice(begin, end if end >= 0 else None, step)
    return _Value(value.tensor[tuple(parts)], value.channels_last)


def _gather(graph: OnnxGraph, node: _Node) -> _Value:
    x = graph.first(node.inputs[0])
    axis = node.get("axis", 0) % len(x.shape)
    indices = graph.known(node.inputs[1])
    return _Value(tf.gather(x, np.where(indices < 0, indices + x.shape[axis], indices), axis=axis))


def _pad_image(graph: OnnxGraph, node: _Node) -> _Value:
    value = graph.value(node.inputs[0])
    mode = node.get("mode", "constant")
    pads = node.get("pads") or graph.known(node.inputs[1]).tolist()
    fill = float(graph.known(node.inputs[2]).reshape(-1)[0]) if node.has(2) else node.get("value", 0.0)
    axes = graph.known(node.inputs[3]).tolist() if node.has(3) else list(range(len(pads) // 2))
    places = [[0, 0] for _ in range(_rank(value))]
    for i, axis in enumerate(axes):
        places[_place(axis, value)] = [pads[i], pads[i + len(axes)]]
    if mode not in {"constant", "reflect"} or min(min(one) for one in places) < 0:
        raise ModelError(f"pads by {printable(mode)}, or by less than nothing, which fer-edge does not translate")
    if mode == "reflect":
        return _Value(tf.pad(value.tensor, places, "REFLECT"), value.channels_last)
    return _Value(tf.pad(value.tensor, places, constant_values=fill), value.channels_last)


def _reshape(graph: OnnxGraph, node: _Node) -> _Value:
    x = graph.first(node.inputs[0])
    shape = graph.known(node.inputs[1]).tolist() if node.has(1) else list(node.get("shape"))
    if not node.get("allowzero", 0):
        shape = [x.shape[i] if length == 0 else length for i, length in enumerate(shape)]
    return _Value(tf.reshape(x, shape))


def _flatten(graph: OnnxGraph, node: _Node) -> _Value:
    x = graph.first(node.inputs[0])
    axis = node.get("axis", 1)
    axis += len(x.shape) if axis < 0 else 0
    return _Value(tf.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))))


def _squeeze(graph: OnnxGraph, node: _Node) -> _Value:
    x = graph.first(node.inputs[0])
    axes = node.axes(graph, 1)
    gone = [i for i, length in enumerate(x.shape) if length == 1] if axes is None else [i % len(x.shape) for i in axes]
    return _Value(tf.reshape(x, [length for i, length in enumerate(x.shape) if i not in gone]))


def _unsqueeze(graph: OnnxGraph, node: _Node) -> _Value:
    x = graph.first(node.inputs[0])
    axes = node.axes(graph, 1) or []
    rank = len(x.shape) + len(axes)
    added, lengths = {axis % rank for axis in axes}, iter(x.shape)
    return _Value(tf.reshape(x, [1 if i in added else next(lengths) for i in range(rank)]))


def _transpose(graph: OnnxGraph, node: _Node) -> _Value:
    value = graph.value(node.inputs[0])
    order = tuple(node.get("perm") or reversed(range(_rank(value))))
    if value.channels_last and order == _TO_LAST:
        return _Value(value.tensor)
    if not value.channels_last and order == _TO_FIRST:
        return _Value(value.tensor, channels_last=True)
    return _Value(tf.transpose(graph.first(node.inputs[0]), order))


def _expand(graph: OnnxGraph, node: _Node) -> _Value:
    x = graph.first(node.inputs[0])
    shape = np.broadcast_shapes(tuple(x.shape), tuple(graph.known(node.inputs[1]).tolist()))
    return _Value(tf.broadcast_to(x, shape))


def _cast(graph: OnnxGraph, node: _Node) -> _Value:
    value = graph.value(node.inputs[0])
    wanted = onnx.helper.tensor_dtype_to_np_dtype(node.get("to"))
    # Half precision is for storage: everything is calculated in float32.
    return _Value(tf.cast(value.tensor, tf.float32 if wanted.kind == "f" else wanted), value.channels_last)


def _same(graph: OnnxGraph, node: _Node) -> _Value:
    return graph.value(node.inputs[0])


_TRANSLATIONS: Final[dict[str, Callable[[OnnxGraph, _Node], Any]]] = {
    "Abs": _unary(tf.abs),
    "Add": _fold(tf.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _normalize_batch,
    "Cast": _cast,
    "Celu": _celu,
    "Clip": _clip,
    "Concat": _concatenate,
    "Conv": _convolve,
    "Div": _fold(tf.divide),
    "Dropout": _same,
    "Elu": _elu,
    "Erf": _unary(tf.math.erf),
    "Exp": _unary(tf.exp),
    "Equal": _fold(tf.equal),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool(tf.reduce_mean),
    "GlobalMaxPool": _global_pool(tf.reduce_max),
    "Greater": _fold(tf.greater),
    "GreaterOrEqual": _fold(tf.greater_equal),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Identity": _same,
    "InstanceNormalization": _normalize_instance,
    "LRN": _normalize_locally,
    "LayerNormalization": _normalize_layer,
    "LeakyRelu": _leaky_relu,
    "Less": _fold(tf.less),
    "LessOrEqual": _fold(tf.less_equal),
    "Log": _unary(tf.math.log),
    "LogSoftmax": _softmax(tf.nn.log_softmax),
    "MatMul": _multiply_matrices,
    "Max": _fold(tf.maximum),
    "MaxPool": _max_pool,
    "Mean": _mean,
    "Min": _fold(tf.minimum),
    "Mish": _unary(lambda x: x * tf.tanh(tf.nn.softplus(x))),
    "Mul": _multiply,
    "Neg": _unary(tf.negative),
    "PRelu": _prelu,
    "Pad": _pad_image,
    "Pow": _fold(tf.pow),
    "Reciprocal": _unary(tf.math.reciprocal),
    "ReduceMax": _reduce(tf.reduce_max),
    "ReduceMean": _reduce(tf.reduce_mean),
    "ReduceSum": _reduce(tf.reduce_sum),
    "Relu": _unary(tf.nn.relu),
    "Reshape": _reshape,
    "Selu": _selu,
    "Sigmoid": _unary(tf.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax(tf.nn.softmax),
    "Softplus": _unary(tf.nn.softplus),
    "Softsign": _unary(tf.nn.softsign),
    "Split": _split,
    "Sqrt": _unary(tf.sqrt),
    "Squeeze": _squeeze,
    "Sub": _fold(tf.subtract),
    "Sum": _fold(tf.add),
    "Tanh": _unary(tf.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _choose,
}
