"""Where a model's time goes, operator by operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_edge.bench.interleave import take_turns
from fer_edge.bench.results import Operator, Profile
from fer_edge.errors import InputError
from fer_edge.modelcard.archive import model_bytes
from fer_edge.tflite.graph import read_graph
from fer_edge.tflite.interpreter import make_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_HOW: Final = (
    "the runtime's Python package does not tell what its operators take: the model was cut off after each and measured"
)


def profile(path: Path, name: str, threads: int, runs: int, *, xnnpack: bool) -> Profile:
    """Measure a model that is cut off after each of its operators.

    Args:
        path: the file.
        name: what to call it.
        threads: of the classifier.
        runs: of each.
        xnnpack: whether the delegate takes what it can.
    """
    flatbuffer = model_bytes(path)
    try:
        graph = read_graph(flatbuffer, path)
        import flatbuffers  # noqa: PLC0415 - beside the schema or not at all
    except (InputError, ImportError) as error:
        return Profile(model=name, how=f"not offered by this runtime: {error}")
    operators = []
    before: Callable[[int], object] = _nothing
    for count, operation in enumerate(graph.operations, start=1):
        job = _job(make_interpreter(_cut(flatbuffer, count, flatbuffers), path, threads, xnnpack=xnnpack))
        # By turns with the one before, for drift must not be taken for a difference.
        without, until = (float(np.median(samples)) for samples in take_turns([before, job], runs))
        operators.append(
            Operator(
                kind=operation.kind,
                multiply_adds=operation.multiply_adds,
                until_ms=round(until, 4),
                own_ms=round(until - without, 4),
            )
        )
        before = job
    how = f"{_HOW}, with XNNPACK {'on' if xnnpack else 'off'}"
    return Profile(model=name, how=how, operators=tuple(operators))


def _nothing(_run: int) -> None:
    """What comes before the first operator."""


def _job(interpreter: Any) -> Callable[[int], object]:  # noqa: ANN401 - a protocol, from another module
    return lambda _run: interpreter.invoke()


def _cut(flatbuffer: bytes, count: int, flatbuffers: Any) -> bytes:  # noqa: ANN401 - a module without types
    """The model of the first operators alone."""
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - absent beside tflite-runtime

    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    graph = model.subgraphs[0]
    graph.operators = graph.operators[:count]
    graph.outputs = graph.operators[-1].outputs
    model.signatureDefs = None
    builder = flatbuffers.Builder(len(flatbuffer))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
