"""Change what a float model takes and gives, by operators before its input and after its output.

Models of one task differ at their ends alone: logits or scores, images with or without an axis of channels, channels
first or last.  Here they all come to take one image, [1, height, width, channels], and to give [1, labels].
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fer_edge_convert.flatbuffer import pack, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

OPACITY: Final = "opacity"  # name of the constant that fills a channel of opacity
_Kinds = schema.BuiltinOperator


def with_softmax(model: bytes) -> bytes:
    """Return the model with a softmax after its output, which holds logits."""
    edit = _Edit(model)
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
    order = edit.constant(np.array((0, 3, 1, 2), np.int32))
    edit.prepend(_Kinds.TRANSPOSE, "image", (one, height, width, channels), [order], schema.TransposeOptionsT())
    return edit.finish()


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
        old, new = self.output, self._like(self.output, name, shape)
        self.graph.operators.append(self._operator(kind, [old, *others], new, options))
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
        old, new = self.input, self._like(self.input, name, shape)
        if of_type is not None:
            self.graph.tensors[new].type = of_type
        self.graph.operators.insert(0, self._operator(kind, [new, *others], old, options))
        self.set_input(new)

    def set_input(self, tensor: int) -> None:
        """Take another tensor as the input."""
        self.graph.inputs = [tensor]
        for signature in self.parsed.signatureDefs or []:
            for one in signature.inputs:
                one.tensorIndex = tensor

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

    def _like(self, tensor: int, name: str, shape: Sequence[int]) -> int:
        """Add a tensor without content, of another tensor's type."""
        made = copy.copy(self.graph.tensors[tensor])
        made.name, made.buffer = self._free_name(name), len(self.parsed.buffers)
        made.shape, made.shapeSignature = list(shape), None
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

    def _operator(self, kind: int, inputs: list[int], output: int, options: Any) -> Any:  # noqa: ANN401
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
