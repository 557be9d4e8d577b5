"""Measure how long each operator of a model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_edge.bench.interleave import interleave
from fer_edge.bench.results import Operator, Profile
from fer_edge.errors import InputError
from fer_edge.modelcard.archive import model_bytes
from fer_edge.tflite.graph import read_graph
from fer_edge.tflite.interpreter import make_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_METHOD: Final = (
    "the runtime's Python package does not report the times of operators: the model was cut off after each operator"
    " and measured"
)


def profile(path: Path, name: str, threads: int, runs: int, *, xnnpack: bool) -> Profile:
    """Measure a model that is cut off after each of its operators.

    Args:
        path: the model file.
        name: name of the model.
        threads: threads of the classifier.
        runs: runs of each cut.
        xnnpack: whether to use the XNNPACK delegate.
    """
    flatbuffer = model_bytes(path)
    try:
        graph = read_graph(flatbuffer, path)
        import flatbuffers  # noqa: PLC0415 - comes with the schema or not at all
    except (InputError, ImportError) as error:
        return Profile(model=name, method=f"this runtime does not offer it: {error}")
    operators = []
    previous: Callable[[int], object] = _do_nothing
    for count, operation in enumerate(graph.operations, start=1):
        invoke = _invoker(
            make_interpreter(_truncate(flatbuffer, count, flatbuffers), path, threads, xnnpack=xnnpack, own=True)
        )
        # In turns with the previous cut, so that drift does not count as a difference.
        before, until = (float(np.median(samples)) for samples in interleave([previous, invoke], runs))
        operators.append(
            Operator(
                kind=operation.kind,
                multiply_adds=operation.multiply_adds,
                until_ms=round(until, 4),
                own_ms=round(until - before, 4),
            )
        )
        previous = invoke
    method = f"{_METHOD}, with XNNPACK {'on' if xnnpack else 'off'}"
    return Profile(model=name, method=method, operators=tuple(operators))


def _do_nothing(_run: int) -> None:
    """Stand for the model before its first operator."""


def _invoker(interpreter: Any) -> Callable[[int], object]:  # noqa: ANN401 - the runtime has no types
    return lambda _run: interpreter.invoke()


def _truncate(flatbuffer: bytes, count: int, flatbuffers: Any) -> bytes:  # noqa: ANN401 - a module without types
    """Return the model that consists of the first operators alone."""
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - tflite-runtime does not have it

    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    graph = model.subgraphs[0]
    graph.operators = graph.operators[:count]
    graph.outputs = graph.operators[-1].outputs
    model.signatureDefs = None
    builder = flatbuffers.Builder(len(flatbuffer))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
