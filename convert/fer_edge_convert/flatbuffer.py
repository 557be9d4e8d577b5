"""Change and run the content of a ``.tflite`` file, by the schema that ai-edge-litert brings."""

from __future__ import annotations

import warnings
from collections import Counter
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from fer_edge.errors import ModelError
from fer_edge.tflite.graph import read_graph
from fer_edge.tflite.interpreter import Tensor, make_interpreter
from fer_edge.utils.native_stderr import hide_native_stderr

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import numpy.typing as npt

    from fer_edge.modelcard.schema import PixelSpec

# Activations with kernels for integers that ai-edge-quantizer does not know, and the types of those.
_INTEGER_ACTIVATIONS: Final = {
    schema.BuiltinOperator.ABS: {schema.TensorType.INT8, schema.TensorType.INT16},
    schema.BuiltinOperator.ELU: {schema.TensorType.INT8},
    schema.BuiltinOperator.LEAKY_RELU: {schema.TensorType.INT8, schema.TensorType.INT16},
    schema.BuiltinOperator.LOG: {schema.TensorType.INT8},
    schema.BuiltinOperator.PRELU: {schema.TensorType.INT8},
    schema.BuiltinOperator.RELU6: {schema.TensorType.INT8},
}
_LEFT_OUT: Final = {  # names of the operators with a form for integers that ai-edge-quantizer may leave out
    name
    for name, kind in vars(schema.BuiltinOperator).items()
    if kind in {*_INTEGER_ACTIVATIONS, schema.BuiltinOperator.DEPTH_TO_SPACE}
}


def constants(model: bytes, names: Collection[str]) -> dict[str, npt.NDArray[np.float32]]:
    """Return constants as real values, dequantized along their axis, by name; names without a constant are left out."""
    parsed = parse(model)
    found = {}
    for tensor in parsed.subgraphs[0].tensors:
        name, data = tensor.name.decode(), parsed.buffers[tensor.buffer].data
        if name in names and name not in found and data is not None and len(data):
            found[name] = real_values(tensor, np.asarray(data, np.uint8))
    return found


def with_constants(model: bytes, changes: Mapping[str, npt.NDArray[np.float32]]) -> bytes:
    """Return the model with other values in float constants, by name."""
    parsed = parse(model)
    tensors = parsed.subgraphs[0].tensors
    users = Counter(tensor.buffer for tensor in tensors)
    for tensor in tensors:
        new = changes.get(tensor.name.decode())
        if new is None:
            continue
        if users[tensor.buffer] > 1:  # others share what it held
            tensor.buffer = len(parsed.buffers)
            parsed.buffers.append(schema.BufferT())
        parsed.buffers[tensor.buffer].data = np.frombuffer(new.astype("<f4").tobytes(), np.uint8)
    return pack(parsed)


def with_metadata(model: bytes, name: str, content: bytes) -> bytes:
    """Return the model with a named metadata buffer, in place of one of that name."""
    parsed = parse(model)
    entry = schema.MetadataT()
    entry.name, entry.buffer = name.encode(), len(parsed.buffers)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8)
    parsed.buffers.append(buffer)
    parsed.metadata = [one for one in parsed.metadata or [] if one.name != entry.name] + [entry]
    return pack(parsed)


def deduplicate(model: bytes) -> bytes:
    """Return the same model in fewer bytes: equal vectors are stored once, and names are short.

    A quantized tensor has a zero point of eight bytes for each of its channels, all of them 0. A name lists every layer
    of which a converter made the operator, each with the name of the model and of the operation.
    """
    parsed = parse(model)
    taken: set[bytes] = set()
    for tensor in parsed.subgraphs[0].tensors:
        *path, last = tensor.name.partition(b";")[0].split(b"/")
        short = b"/".join(path[1:]) or last
        tensor.name = next(name for name in _number_names(short) if name not in taken)
        taken.add(tensor.name)
    return pack(parsed, _Sharing(len(model)))


def _number_names(name: bytes) -> Iterator[bytes]:
    yield name
    for number in count(1):
        yield b"%s;%d" % (name, number)


class _Sharing(flatbuffers.Builder):  # type: ignore[misc]  # it has no types
    """A builder that refers to an equal vector instead of writing it again."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._places: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: npt.NDArray[Any]) -> int:  # noqa: N802 - the builder's own name
        key = x.dtype.str, x.tobytes()
        if key not in self._places:
            self._places[key] = super().CreateNumpyVector(x)
        return self._places[key]


def with_integer_operators(model: bytes, ranges: Mapping[str, tuple[float, float]]) -> bytes:
    """Return the quantized model with integers in the operators that have a form for them but the quantizer left out.

    Such an operator is between a DEQUANTIZE and a QUANTIZE, which are removed: around one that only moves elements if
    their scale and zero point are the same, and around an activation in any case. Between activations in a row, there
    is neither: the tensor gets a scale of its own.

    Args:
        model: the model.
        ranges: smallest and largest value of each activation in int8, by tensor; empty if they are not in int8.
    """
    if not _LEFT_OUT & {one.kind for one in read_graph(model, Path("model")).operations}:
        return model
    parsed = parse(model)
    graph = parsed.subgraphs[0]
    _quantize_between(parsed, ranges)
    kinds = schema.BuiltinOperator

    def are(operators: list[Any], kind: int) -> bool:
        return len(operators) == 1 and parsed.operatorCodes[operators[0].opcodeIndex].builtinCode == kind

    gone = []
    for operator in graph.operators:
        kind = parsed.operatorCodes[operator.opcodeIndex].builtinCode
        if kind != kinds.DEPTH_TO_SPACE and kind not in _INTEGER_ACTIVATIONS:
            continue
        before = [one for one in graph.operators if operator.inputs[0] in one.outputs]
        after = [one for one in graph.operators if operator.outputs[0] in one.inputs]
        if not (are(before, kinds.DEQUANTIZE) and are(after, kinds.QUANTIZE)):
            continue
        ends = [graph.tensors[i] for i in (before[0].inputs[0], after[0].outputs[0])]
        if kind == kinds.DEPTH_TO_SPACE:
            if len({(*one.quantization.scale, *one.quantization.zeroPoint) for one in ends}) > 1:
                continue
        elif any(one.type not in _INTEGER_ACTIVATIONS[kind] for one in ends):
            continue
        if kind == kinds.PRELU:
            operator.inputs[1] = _add_int8_constant(parsed, operator.inputs[1])
        operator.inputs, operator.outputs = [before[0].inputs[0], *operator.inputs[1:]], after[0].outputs
        gone += [before[0], after[0]]
    still = {int(i) for one in graph.operators if one not in gone for i in one.inputs}
    graph.operators = [
        one
        for one in graph.operators
        if one not in gone or (are([one], kinds.DEQUANTIZE) and int(one.outputs[0]) in still)
    ]
    return pack(parsed) if gone else model


def _quantize_between(parsed: Any, ranges: Mapping[str, tuple[float, float]]) -> None:  # noqa: ANN401
    """Add a QUANTIZE and a DEQUANTIZE between activations in a row that come after and before integers."""
    graph, kinds = parsed.subgraphs[0], schema.BuiltinOperator

    def kind(operator: Any) -> int:  # noqa: ANN401
        return int(parsed.operatorCodes[operator.opcodeIndex].builtinCode)

    def reader(operator: Any) -> Any:  # noqa: ANN401
        found = [one for one in graph.operators if operator.outputs[0] in one.inputs]
        return found[0] if len(found) == 1 else None

    for begin in [one for one in graph.operators if kind(one) == kinds.DEQUANTIZE]:
        row, end = [], reader(begin)
        while end is not None and schema.TensorType.INT8 in _INTEGER_ACTIVATIONS.get(kind(end), ()):
            row.append(end)
            end = reader(end)
        if end is None or kind(end) != kinds.QUANTIZE:
            continue
        for one, after in pairwise(row):
            name = graph.tensors[one.outputs[0]].name.decode()
            if name not in ranges:
                break
            stored, again = _add_int8_tensors(parsed, int(one.outputs[0]), ranges[name])
            place = graph.operators.index(after)
            # Operators of their kinds are there already: that at the begin of the row, and that at its end.
            graph.operators[place:place] = [
                _make_operator(end.opcodeIndex, one.outputs[0], stored),
                _make_operator(begin.opcodeIndex, stored, again),
            ]
            after.inputs = [again if i == one.outputs[0] else i for i in after.inputs]


def _make_operator(code: int, taken: int, given: int) -> Any:  # noqa: ANN401 - the schema has no types
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, [taken], [given]
    return operator


def _add_int8_tensors(parsed: Any, index: int, limits: tuple[float, float]) -> tuple[int, int]:  # noqa: ANN401
    """Add a tensor in int8 for the values of one in floats, and another one in floats."""
    graph = parsed.subgraphs[0]
    low, high = limits
    scale = (high - low) / 255
    for suffix, is_stored in ((b";int8", True), (b";again", False)):
        tensor = schema.TensorT()
        old = graph.tensors[index]
        tensor.name, tensor.shape, tensor.shapeSignature = old.name + suffix, old.shape, old.shapeSignature
        tensor.type, tensor.buffer = schema.TensorType.FLOAT32, len(parsed.buffers)
        if is_stored:
            tensor.type = schema.TensorType.INT8
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [round(-128 - low / scale)]
        parsed.buffers.append(schema.BufferT())
        graph.tensors.append(tensor)
    return len(graph.tensors) - 2, len(graph.tensors) - 1


def _add_int8_constant(parsed: Any, index: int) -> int:  # noqa: ANN401 - the schema has no types
    """Add a constant in int8 with the values of one in floats."""
    graph = parsed.subgraphs[0]
    old = graph.tensors[index]
    values = real_values(old, np.asarray(parsed.buffers[old.buffer].data, np.uint8))
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = old.name + b";int8", old.shape, schema.TensorType.INT8
    scale = max(float(np.abs(values).max()), 1e-6) / 127
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
    tensor.buffer = len(parsed.buffers)
    buffer = schema.BufferT()
    buffer.data = np.rint(values / scale).astype(np.int8).view(np.uint8).ravel()
    parsed.buffers.append(buffer)
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


class Images:
    """Grey images as a model's real-valued input, each made on demand: all at once may not fit in memory."""

    def __init__(self, faces: npt.NDArray[np.uint8], spec: PixelSpec) -> None:
        """Take images of shape (n, height, width)."""
        self._faces, self._spec = faces, spec

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._faces)

    def __getitem__(self, i: int) -> npt.NDArray[np.float32]:
        """Return an image of shape (height, width, channels)."""
        image: npt.NDArray[np.float32] = self._spec.normalize(self._faces[i : i + 1])[0]
        return image

    def select(self, rows: npt.NDArray[np.int64]) -> Images:
        """Return the images of some rows."""
        return Images(self._faces[rows], self._spec)


def run_model(model: bytes, images: Images | npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the real outputs of shape (n, outputs) of a model with one output; see `run_all`."""
    (outputs,) = run_all(model, images)
    return outputs


def run_all(model: bytes, images: Images | npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """Return every real output, of shape (n, ...), for real inputs of shape (n, height, width, channels).

    The model's input and outputs may be of any type. Several outputs are in the order of their shapes, because
    converters change the order of the model.
    """
    interpreter = make_interpreter(model, Path("model"), own=True)
    taken = Tensor.from_detail(interpreter.get_input_details()[0])
    given = sorted(map(Tensor.from_detail, interpreter.get_output_details()), key=lambda tensor: tensor.shape)
    outputs = [np.empty((len(images), *tensor.shape[1:]), np.float32) for tensor in given]
    for i in range(len(images)):
        interpreter.tensor(taken.index)()[0] = taken.quantize(images[i])
        interpreter.invoke()
        for output, tensor in zip(outputs, given, strict=True):
            output[i] = interpreter.tensor(tensor.index)()[0]
    return [
        (output - tensor.zero_point) * np.float32(tensor.scale) if tensor.scale else output
        for output, tensor in zip(outputs, given, strict=True)
    ]


class Tracer:
    """Runs a model and keeps the output of every operator.

    Uses the plain kernels, because a delegate does not expose its intermediate tensors.
    """

    def __init__(self, model: bytes) -> None:
        """Prepare the model.

        Raises:
            ModelError: the plain kernels cannot run it.
        """
        try:
            # The runtime warns that keeping all tensors takes memory.
            with hide_native_stderr(), warnings.catch_warnings(action="ignore"):
                self._interpreter = litert.Interpreter(
                    model_content=model,
                    experimental_preserve_all_tensors=True,
                    experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                "the runtime cannot run this model with its plain kernels; `fer-edge --debug convert ...` shows why"
            ) from error
        self._input = Tensor.from_detail(self._interpreter.get_input_details()[0])
        graph = parse(model).subgraphs[0]
        indices = [*graph.inputs, *(i for operator in graph.operators for i in operator.outputs)]
        details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}
        self._kept = {details[i]["name"]: (i, details[i]["quantization_parameters"]) for i in indices if i in details}

    def __call__(self, image: npt.NDArray[np.float32]) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Yield name and real values of the input and of each operator's output, for a real image."""
        self._interpreter.set_tensor(self._input.index, self._input.quantize(image)[None])
        self._interpreter.invoke()
        for name, (index, quantization) in self._kept.items():
            value = self._interpreter.get_tensor(index)
            if len(quantization["scales"]) == 1:
                yield name, (value.astype(np.float32) - quantization["zero_points"][0]) * quantization["scales"][0]
            elif value.dtype.kind == "f":
                yield name, value.astype(np.float32)


def real_values(tensor: Any, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:  # noqa: ANN401 - no types
    """Return the content of a constant as real values, dequantized along its axis."""
    kinds = {
        schema.TensorType.FLOAT32: "<f4",
        schema.TensorType.FLOAT16: "<f2",
        schema.TensorType.INT8: "<i1",
        schema.TensorType.INT32: "<i4",
        schema.TensorType.INT64: "<i8",
    }
    values = data.view(kinds[tensor.type]).reshape([int(n) for n in tensor.shape]).astype(np.float32)
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return values
    shape = [1] * values.ndim
    if len(quantization.scale) > 1:
        shape[quantization.quantizedDimension] = -1
    scale = np.asarray(quantization.scale, np.float32).reshape(shape)
    real: npt.NDArray[np.float32] = (values - np.asarray(quantization.zeroPoint, np.float32).reshape(shape)) * scale
    return real


def parse(model: bytes) -> Any:  # noqa: ANN401 - the schema has no types
    """Return the content of a flatbuffer as objects that can be changed."""
    return flatbuffer_utils.read_model_from_bytearray(bytearray(model))


def pack(parsed: Any, builder: flatbuffers.Builder | None = None) -> bytes:  # noqa: ANN401 - the schema has no types
    """Return the flatbuffer of such objects."""
    for buffer in parsed.buffers:  # arrays are written at once, lists a byte at a time
        if buffer.data is not None:
            buffer.data = np.asarray(buffer.data, np.uint8)
    builder = builder or flatbuffers.Builder(1024)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())
