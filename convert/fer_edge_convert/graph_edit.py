"""Change the input and the output of a float model, by operators before and after it.

Models of one task differ at their ends alone: logits or scores, images with or without an axis of channels, channels
first or last. Here they are all changed to take one image, [1, height, width, channels], and to give [1, labels].
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fer_edge_convert.flatbuffer import pack, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

OPACITY: Final = "opacity"  # name of the constant that fills a channel of opacity
_TILES: Final = 64  # as many copies are joined; more would be a long list of inputs
_Kinds = schema.BuiltinOperator


def with_softmax(model: bytes) -> bytes:
    """Return the model with a softmax after its output, which holds logits or logarithms of scores."""
    edit = _Edit(model)
    last = edit.graph.operators[-1]
    if edit.kind(last) == _Kinds.LOG_SOFTMAX and list(last.outputs) == [edit.output]:
        edit.graph.outputs = [last.inputs[0]]  # of which a softmax gives the same
        edit.drop_unused()
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    edit.append(_Kinds.SOFTMAX, "scores", edit.shape(edit.output), options=options)
    return edit.finish()


def with_output_shape(model: bytes, shape: Sequence[int]) -> bytes:
    """Return the model with its output in another shape of as many values."""
    edit = _Edit(model)
    edit.append(_Kinds.RESHAPE, "scores", shape, [edit.constant(np.array(shape, np.int32))])
    return edit.finish()


def with_input_shape(model: bytes, shape: Sequence[int]) -> bytes:
    """Return the model with its input in another shape of as many values."""
    edit = _Edit(model)
    old = edit.constant(np.array(edit.shape(edit.input), np.int32))
    edit.prepend(_Kinds.RESHAPE, "image", shape, [old])
    return edit.finish()


def with_channels_last(model: bytes) -> bytes:
    """Return the model with its input in the order [1, height, width, channels] instead of channels first."""
    edit = _Edit(model)
    one, channels, height, width = edit.shape(edit.input)
    readers = [one for one in edit.graph.operators if edit.input in one.inputs]
    turned = {edit.shape(int(one.outputs[0])) for one in readers if _turns_to_last(edit, one)}
    if len(readers) == 1 and turned == {(one, height, width, channels)}:  # what it does first would only undo it
        edit.graph.operators.remove(readers[0])
        edit.set_input(int(readers[0].outputs[0]))
        return edit.finish()
    order = edit.constant(np.array((0, 3, 1, 2), np.int32))
    edit.prepend(_Kinds.TRANSPOSE, "image", (one, height, width, channels), [order], schema.TransposeOptionsT())
    return edit.finish()


def _turns_to_last(edit: _Edit, operator: Any) -> bool:  # noqa: ANN401 - the schema has no types
    """Return whether an operator moves the channels of an image last."""
    if edit.kind(operator) == _Kinds.RESHAPE:
        return edit.shape(edit.input)[1] == 1  # of one channel, nothing moves
    if edit.kind(operator) != _Kinds.TRANSPOSE:
        return False
    data = edit.parsed.buffers[edit.graph.tensors[operator.inputs[1]].buffer].data
    return data is not None and np.asarray(data, np.uint8).view("<i4").tolist() == [0, 2, 3, 1]


def with_opaque_channel(model: bytes, value: float = 1.0) -> bytes:
    """Return the model with one channel less: its last one, opacity, is the same everywhere."""
    edit = _Edit(model)
    one, height, width, channels = edit.shape(edit.input)
    plane = edit.constant(np.full((one, height, width, 1), value, np.float32), OPACITY)
    options = schema.ConcatenationOptionsT()
    options.axis = 3
    edit.prepend(_Kinds.CONCATENATION, "image", (one, height, width, channels - 1), [plane], options)
    return edit.finish()


def with_normalization(model: bytes, scale: Sequence[float], offset: Sequence[float]) -> bytes:
    """Return the model with ``image * scale + offset`` before it, by channel."""
    edit = _Edit(model)
    shape = edit.shape(edit.input)
    added = edit.constant(np.array(offset, np.float32))
    edit.prepend(_Kinds.ADD, "scaled", shape, [added], schema.AddOptionsT())
    factor = edit.constant(np.array(scale, np.float32))
    edit.prepend(_Kinds.MUL, "image", shape, [factor], schema.MulOptionsT())
    return edit.finish()


def with_constant_shapes(model: bytes) -> bytes:
    """Return the model with constants where it calculates the new shape of a tensor, which is always the same."""
    edit = _Edit(model)
    graph = edit.graph
    calculated = {int(i) for operator in graph.operators for i in operator.outputs}
    changed = False
    for operator in graph.operators:
        if edit.kind(operator) == _Kinds.RESHAPE and len(operator.inputs) > 1 and int(operator.inputs[1]) in calculated:
            shape = edit.shape(int(operator.outputs[0]))
            operator.inputs = [operator.inputs[0], edit.constant(np.array(shape, np.int32))]
            changed = True
    if not changed:
        return model
    edit.drop_unused()
    return edit.finish()


def with_simple_activations(model: bytes) -> bytes:
    """Return the model with SELU, CELU, softplus, and ELU of any slope, by operators that can be in integers.

    Converters write the first and the last as a choice between x and an exponential, which no quantizer takes. The same
    is gamma * LEAKY_RELU(ELU(x)), for ELU keeps the sign. Softplus, of which mish is a function, becomes
    RELU(x) - LOG(LOGISTIC(ABS(x))): no value in it grows faster than x, so that integers can hold each of them.
    """
    return _replace_operators(model, _make_elu, _make_celu, _make_softplus)


def with_joined_tiles(model: bytes) -> bytes:
    """Return the model with concatenations of a tensor with itself where it tiles it.

    Networks of colour images tile a grey one. Both give the same, but quantizers have no integers for tiling.
    """
    return _replace_operators(model, _join_tile)


def _replace_operators(model: bytes, *makers: Callable[[_Edit, Any], list[Any]]) -> bytes:
    """Return the model with what the first of the makers that makes something makes of each operator."""
    edit = _Edit(model)
    changed = False
    for old in list(edit.graph.operators):
        made = next((made for maker in makers if (made := maker(edit, old))), None)
        if made:
            place = edit.graph.operators.index(old)
            edit.graph.operators[place : place + 1] = made
            changed = True
    if not changed:
        return model
    edit.drop_unused()
    return edit.finish()


def _join_tile(edit: _Edit, tile: Any) -> list[Any]:  # noqa: ANN401 - the schema has no types
    """Return the concatenations for an operator that tiles, one for each axis; none if it does something else."""
    if edit.kind(tile) != _Kinds.TILE:
        return []
    one, kept = int(tile.inputs[0]), int(tile.outputs[0])
    old, new = edit.shape(one), edit.shape(kept)
    axes = [axis for axis, (before, after) in enumerate(zip(old, new, strict=True)) if before != after]
    if any(new[axis] // old[axis] > _TILES for axis in axes):
        return []
    made = []
    for axis in axes:
        shape = (*new[: axis + 1], *old[axis + 1 :])
        joined = kept if axis == axes[-1] else edit.like(kept, "tiles", shape)
        options = schema.ConcatenationOptionsT()
        options.axis = axis
        made.append(edit.operator(_Kinds.CONCATENATION, [one] * (new[axis] // old[axis]), joined, options))
        one = joined
    return made


def _make_elu(edit: _Edit, choice: Any) -> list[Any]:  # noqa: ANN401 - the schema has no types
    """Return the operators for a choice that is SELU or ELU; none if it is neither."""
    found = _find_elu(edit, choice)
    if found is None:
        return []
    x, slope, factor = found
    kept = int(choice.outputs[0])
    elu = edit.like(kept, "elu")
    end = kept if factor == 1 else edit.like(kept, "leaky_relu")
    leaky = schema.LeakyReluOptionsT()
    leaky.alpha = slope
    made = [edit.operator(_Kinds.ELU, [x], elu), edit.operator(_Kinds.LEAKY_RELU, [elu], end, leaky)]
    return made if factor == 1 else [*made, edit.scaling(end, factor, kept)]


def _make_celu(edit: _Edit, total: Any) -> list[Any]:  # noqa: ANN401 - the schema has no types
    """Return alpha * ELU(x / alpha) for a sum that is CELU: RELU(x) + alpha * (exp(min(x, 0) / alpha) - 1)."""
    if edit.kind(total) != _Kinds.ADD or total.builtinOptions.fusedActivationFunction:
        return []
    for positive, negative in (map(int, total.inputs), map(int, reversed(total.inputs))):
        x = (edit.inputs_of(positive, _Kinds.RELU) or [-1])[0]
        exponential, alpha = edit.by_number(negative, _Kinds.MUL)
        power, one = edit.by_number(exponential if alpha else negative, _Kinds.SUB)
        (scaled,) = edit.inputs_of(power, _Kinds.EXP) or [-1]
        below, slope = edit.by_number(scaled, _Kinds.MUL)
        clipped, zero = edit.by_number(below if slope else scaled, _Kinds.MINIMUM)
        alpha, slope = alpha or 1.0, slope or 1.0
        if one == 1 and zero == 0 and clipped == x and math.isclose(alpha * slope, 1, rel_tol=1e-4):
            kept = int(total.outputs[0])
            if alpha == 1:
                return [edit.operator(_Kinds.ELU, [x], kept)]
            small, elu = edit.like(kept, "scaled"), edit.like(kept, "elu")
            made = [edit.scaling(x, slope, small), edit.operator(_Kinds.ELU, [small], elu)]
            return [*made, edit.scaling(elu, alpha, kept)]
    return []


def _make_softplus(edit: _Edit, logarithm: Any) -> list[Any]:  # noqa: ANN401 - the schema has no types
    """Return the operators for a logarithm that is softplus: log(exp(x) + 1); none if it is something else."""
    if edit.kind(logarithm) != _Kinds.LOG:
        return []
    exponential, one = edit.by_number(int(logarithm.inputs[0]), _Kinds.ADD)
    (x,) = edit.inputs_of(exponential, _Kinds.EXP) or [-1]
    if one != 1 or x < 0:
        return []
    kept = int(logarithm.outputs[0])
    positive, size, share, rest = (edit.like(kept, name) for name in ("relu", "abs", "sigmoid", "log"))
    return [
        edit.operator(_Kinds.RELU, [x], positive),
        edit.operator(_Kinds.ABS, [x], size),
        edit.operator(_Kinds.LOGISTIC, [size], share),
        edit.operator(_Kinds.LOG, [share], rest),
        edit.operator(_Kinds.SUB, [positive, rest], kept, schema.SubOptionsT()),
    ]


def _find_elu(edit: _Edit, choice: Any) -> tuple[int, float, float] | None:  # noqa: ANN401 - the schema has no types
    """Return x, slope and factor if an operator chooses factor * x above 0 and factor * slope * (exp(x) - 1) below."""
    if edit.kind(choice) not in {_Kinds.SELECT, _Kinds.SELECT_V2}:
        return None
    condition, above, below = map(int, choice.inputs)
    x, zero = edit.by_number(condition, _Kinds.GREATER)
    if zero != 0:
        return None
    negative, scale = edit.by_number(below, _Kinds.MUL)
    if scale is None:
        return None
    if edit.inputs_of(above, _Kinds.ELU) == [x]:  # Keras writes ELU of another slope than 1 like this
        return (x, scale, 1.0) if negative == above or edit.inputs_of(negative, _Kinds.ELU) == [x] else None
    positive, factor = edit.by_number(above, _Kinds.MUL) if above != x else (x, 1.0)
    exponential, one = edit.by_number(negative, _Kinds.SUB)
    if positive != x or not factor or one != 1 or edit.inputs_of(exponential, _Kinds.EXP) != [x]:
        return None
    return x, scale / factor, factor


def with_only_output(model: bytes, index: int) -> bytes:
    """Return the model with one of its outputs, and with the operators alone that it needs."""
    edit = _Edit(model)
    graph = edit.graph
    kept = graph.outputs[index]
    graph.outputs = [kept]
    edit.drop_unused()
    for signature in edit.parsed.signatureDefs or []:
        signature.outputs = [one for one in signature.outputs if one.tensorIndex == kept]
    return edit.finish()


def with_signature(model: bytes, taken: str, given: Sequence[str]) -> bytes:
    """Return the model with a signature, by which programs ask for its input and its outputs.

    Args:
        model: the model.
        taken: name of its input.
        given: names of its outputs, in their order.
    """
    edit = _Edit(model)
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs = [_make_tensor_map(taken, edit.input)]
    signature.outputs = [_make_tensor_map(*one) for one in zip(given, edit.graph.outputs, strict=True)]
    edit.parsed.signatureDefs = [signature]
    return edit.finish()


def _make_tensor_map(name: str, index: int) -> Any:  # noqa: ANN401 - the schema has no types
    named = schema.TensorMapT()
    named.name, named.tensorIndex = name.encode(), int(index)
    return named


def without_input_cast(model: bytes) -> bytes:
    """Return the model without the conversion of its whole-numbered input to float32; it takes float32 then."""
    edit = _Edit(model)
    graph = edit.graph
    readers = [one for one in graph.operators if edit.input in one.inputs]
    casts = [one for one in readers if edit.kind(one) == _Kinds.CAST]
    if readers != casts or any(graph.tensors[one.outputs[0]].type != schema.TensorType.FLOAT32 for one in casts):
        # It calculates with whole numbers: they are made of the floats first.
        old = edit.input
        shape = edit.shape(old)
        edit.prepend(_Kinds.CAST, "image", shape, [], schema.CastOptionsT(), of_type=schema.TensorType.FLOAT32)
        return edit.finish()
    floats = int(casts[0].outputs[0])
    same = {int(one.outputs[0]) for one in casts}
    graph.operators = [one for one in graph.operators if one not in casts]
    for operator in graph.operators:
        operator.inputs = [floats if int(i) in same else i for i in operator.inputs]
    edit.set_input(floats)
    return edit.finish()


class _Edit:
    """A model that is being changed.

    Attributes:
        parsed: the whole model.
        graph: its first subgraph.
    """

    def __init__(self, model: bytes) -> None:
        self.parsed: Any = parse(model)
        self.graph: Any = self.parsed.subgraphs[0]
        self._names = {tensor.name for tensor in self.graph.tensors}

    @property
    def input(self) -> int:
        """Index of the input tensor."""
        return int(self.graph.inputs[0])

    @property
    def output(self) -> int:
        """Index of the output tensor."""
        return int(self.graph.outputs[0])

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(int(length) for length in self.graph.tensors[tensor].shape)

    def kind(self, operator: Any) -> int:  # noqa: ANN401 - the schema has no types
        """Return the code of an operator."""
        return int(self.parsed.operatorCodes[operator.opcodeIndex].builtinCode)

    def constant(self, value: npt.NDArray[Any], name: str = "constant") -> int:
        """Add a constant."""
        tensor = schema.TensorT()
        tensor.type = {"f": schema.TensorType.FLOAT32, "i": schema.TensorType.INT32}[value.dtype.kind]
        tensor.shape = list(value.shape)
        tensor.name, tensor.buffer = self._free_name(name), len(self.parsed.buffers)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(value.astype(value.dtype.newbyteorder("<")).tobytes(), np.uint8)
        self.parsed.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def append(
        self,
        kind: int,
        name: str,
        shape: Sequence[int],
        others: Iterable[int] = (),
        options: Any = None,  # noqa: ANN401 - the schema has no types
    ) -> None:
        """Add an operator after the output."""
        old, new = self.output, self.like(self.output, name, shape)
        self.graph.operators.append(self.operator(kind, [old, *others], new, options))
        self.graph.outputs = [new]
        for signature in self.parsed.signatureDefs or []:
            for output in signature.outputs:
                output.tensorIndex = new

    def prepend(  # noqa: PLR0917 - of one operator
        self,
        kind: int,
        name: str,
        shape: Sequence[int],
        others: Iterable[int] = (),
        options: Any = None,  # noqa: ANN401 - the schema has no types
        of_type: int | None = None,
    ) -> None:
        """Add an operator before the input."""
        old, new = self.input, self.like(self.input, name, shape)
        if of_type is not None:
            self.graph.tensors[new].type = of_type
        self.graph.operators.insert(0, self.operator(kind, [new, *others], old, options))
        self.set_input(new)

    def set_input(self, tensor: int) -> None:
        """Take another tensor as the input."""
        self.graph.inputs = [tensor]
        for signature in self.parsed.signatureDefs or []:
            for one in signature.inputs:
                one.tensorIndex = tensor

    def inputs_of(self, tensor: int, kind: int) -> list[int] | None:
        """Return what an operator of some kind makes a tensor of; None if none of that kind makes it."""
        for one in self.graph.operators:
            if tensor in one.outputs and self.kind(one) == kind:
                return [int(i) for i in one.inputs]
        return None

    def by_number(self, tensor: int, kind: int) -> tuple[int, float | None]:
        """Return a tensor and a number, if an operator of some kind makes another tensor of them."""
        inputs = self.inputs_of(tensor, kind) or []
        order = (inputs, inputs[::-1]) if kind in {_Kinds.ADD, _Kinds.MINIMUM, _Kinds.MUL} else (inputs,)
        for one, other in (pair for pair in order if len(pair) == 2):
            data = self.parsed.buffers[self.graph.tensors[other].buffer].data
            if self.graph.tensors[other].type == schema.TensorType.FLOAT32 and data is not None and len(data) == 4:
                return one, float(np.asarray(data, np.uint8).view("<f4")[0])
        return -1, None

    def drop_unused(self) -> None:
        """Remove the operators that no output needs."""
        needed, operators = set(map(int, self.graph.outputs)), []
        for operator in reversed(self.graph.operators):
            if needed.intersection(map(int, operator.outputs)):
                needed.update(map(int, operator.inputs))
                operators.append(operator)
        self.graph.operators = operators[::-1]

    def finish(self) -> bytes:
        """Return the changed model."""
        return pack(self.parsed)

    def scaling(self, tensor: int, factor: float, result: int) -> Any:  # noqa: ANN401 - the schema has no types
        """Return an operator that multiplies a tensor by a number."""
        number = self.constant(np.array(factor, np.float32))
        return self.operator(_Kinds.MUL, [tensor, number], result, schema.MulOptionsT())

    def like(self, tensor: int, name: str, shape: Sequence[int] | None = None) -> int:
        """Add a tensor without content, of another tensor's type; by default of its shape, too."""
        made = copy.copy(self.graph.tensors[tensor])
        made.name, made.buffer = self._free_name(name), len(self.parsed.buffers)
        made.shape, made.shapeSignature = list(self.shape(tensor) if shape is None else shape), None
        self.parsed.buffers.append(schema.BufferT())
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def _free_name(self, name: str) -> bytes:
        """Return a name that no tensor has yet, because quantizers know tensors by their names."""
        free = name.encode()
        while free in self._names:
            free += b"_"
        self._names.add(free)
        return free

    def operator(self, kind: int, inputs: list[int], output: int, options: Any = None) -> Any:  # noqa: ANN401
        """Return a new operator."""
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = kind, 1
        code.deprecatedBuiltinCode = min(kind, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
        self.parsed.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.parsed.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, [output]
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType, operator.builtinOptions = getattr(schema.BuiltinOptions, name), options
        return operator
