"""Read a ``.tflite`` of any age, whose activations are in floats, with its weights in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fer_edge.errors import ModelError
from fer_edge.modelcard.archive import model_bytes
from fer_edge.tflite.graph import read_graph
from fer_edge.tflite.interpreter import check_model_header, make_interpreter
from fer_edge_convert.flatbuffer import pack, parse, real_values
from fer_edge_convert.formats.outputs import choose_output
from fer_edge_convert.graph_edit import with_only_output, without_input_cast

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_convert.formats.request import ReadOptions

_FLOAT32: Final = schema.TensorType.FLOAT32
_SMALL: Final = {schema.TensorType.INT8, schema.TensorType.FLOAT16}  # types in which weights are stored


def read_tflite(path: Path, options: ReadOptions) -> tuple[str, bytes]:
    """Read a ``.tflite`` whose activations are in floats; see `read_keras_archive`."""
    content = model_bytes(path)
    check_model_header(content, path)
    read_graph(content, path)  # refuses what is damaged
    parsed = parse(content)
    if any(not subgraph.operators for subgraph in parsed.subgraphs[:1]):
        raise ModelError(f"{path}: it has no operators")
    _modernize(parsed)
    kind = _restore_floats(path, parsed)
    model = pack(parsed)
    interpreter = make_interpreter(model, path)
    outputs = {str(one["name"]): tuple(map(int, one["shape"])) for one in interpreter.get_output_details()}
    if len(outputs) > 1 and not options.every_output:
        model = with_only_output(model, list(outputs).index(choose_output(path, outputs, options)))
    given = np.dtype(interpreter.get_input_details()[0]["dtype"])
    return kind, model if given == np.float32 else without_input_cast(model)


def _modernize(parsed: Any) -> None:  # noqa: ANN401 - the schema has no types
    """Write operator codes as TensorFlow 2.4 and later do: before, they stood in another field."""
    for code in parsed.operatorCodes:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)


def _restore_floats(path: Path, parsed: Any) -> str:  # noqa: ANN401 - the schema has no types
    """Put weights in float32 in place of those in int8 or float16; return what the file was, for people."""
    graph = parsed.subgraphs[0]
    tensors = graph.tensors
    constants = {
        i: tensor
        for i, tensor in enumerate(tensors)
        if tensor.type in _SMALL and (data := parsed.buffers[tensor.buffer].data) is not None and len(data)
    }
    activations = [tensor for i, tensor in enumerate(tensors) if i not in constants]
    if any(_has_scale(tensor) and tensor.type != _FLOAT32 for tensor in activations):
        raise ModelError(
            f"{path}: it is quantized already; give the float model it was made of, or use it as it is after"
            f" fer-edge card set {path} --labels ... --input-range ..."
        )
    stored = {tensor.type for tensor in constants.values()}
    for tensor in constants.values():
        values = real_values(tensor, np.asarray(parsed.buffers[tensor.buffer].data, np.uint8))
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
        tensor.buffer, tensor.type, tensor.quantization = len(parsed.buffers), _FLOAT32, None
        parsed.buffers.append(buffer)
    _drop_dequantize(parsed, constants)
    if schema.TensorType.INT8 in stored:
        return ".tflite with weights in int8"
    return ".tflite with weights in float16" if stored else "float .tflite"


def _has_scale(tensor: Any) -> bool:  # noqa: ANN401 - the schema has no types
    quantization = tensor.quantization
    return quantization is not None and quantization.scale is not None and len(quantization.scale) > 0


def _drop_dequantize(parsed: Any, constants: dict[int, Any]) -> None:  # noqa: ANN401
    """Let operators read constants that are in float32 now without converting them first."""
    graph = parsed.subgraphs[0]
    codes = parsed.operatorCodes
    replaced: dict[int, int] = {}
    kept = []
    for operator in graph.operators:
        is_dequantize = codes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.DEQUANTIZE
        if is_dequantize and int(operator.inputs[0]) in constants:
            replaced[int(operator.outputs[0])] = int(operator.inputs[0])
        else:
            kept.append(operator)
    for operator in kept:
        operator.inputs = [replaced.get(int(i), int(i)) for i in operator.inputs]
    graph.operators = kept
