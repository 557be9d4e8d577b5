"""What is inside a ``.tflite`` file: its tensors, operators, cost and card."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from fer_edge.errors import ModelError, printable
from fer_edge.modelcard.archive import ensure_file, model_bytes, read_any_card, refiner_bytes
from fer_edge.modelcard.schema import AnyCard, ClassifierCard, DetectorCard
from fer_edge.reports.html import render
from fer_edge.tflite.graph import Operation, read_graph
from fer_edge.tflite.interpreter import Tensor, make_interpreter, runtime_name

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.tflite.graph import Node


class TensorInfo(msgspec.Struct, frozen=True):
    """An input or output: shape, element type, and ``real = scale * (stored - zero_point)`` where it is quantised."""

    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What is inside a model file.

    Attributes:
        path: the file.
        sha256: of the file.
        flatbuffer_sha256: of the file without its card.
        intact: whether that is what its card says; true where the card says nothing.
        bytes: its size.
        card: what it says of itself; None where it has no card.
        input: what it takes.
        outputs: what it gives.
        operators: how many there are of each kind.
        layers: the operators in the order in which they run.
        multiply_adds: of one invocation, in convolutions and dense layers.
        parameters: elements of all constant tensors of more than one element.
        largest_activation_bytes: of the largest tensor between operators.
        integer_only: whether every tensor that an operator uses is of an integer type.
        runtime: package and version that loaded it.
        not_delegated: kinds of the operators that the XNNPACK delegate leaves to slower kernels; None where the
            runtime has no such delegate at work.
        metadata: names of the buffers that say something about the model.
        refiner: what is inside a face detector's second stage, of which `bytes` and `sha256` are the flatbuffer's; None
            where it has none.
    """

    path: str
    sha256: str
    flatbuffer_sha256: str
    intact: bool
    bytes: int
    card: AnyCard | None
    input: TensorInfo
    outputs: tuple[TensorInfo, ...]
    operators: dict[str, int]
    layers: tuple[Operation, ...]
    multiply_adds: int
    parameters: int
    largest_activation_bytes: int
    integer_only: bool
    runtime: str
    not_delegated: tuple[str, ...] | None
    metadata: tuple[str, ...]
    refiner: Inspection | None = None

    @property
    def delegation(self) -> str:
        """What the XNNPACK delegate takes, in words."""
        return delegation(self.not_delegated, self.runtime)


def delegation(left: tuple[str, ...] | None, runtime: str) -> str:
    """What `not_delegated` says, in words."""
    if left is None:
        return f"not at work ({runtime})"
    return f"takes {'all but ' + ', '.join(left) if left else 'every operator'} ({runtime})"


def inspect_model(path: Path) -> Inspection:
    """Look into a ``.tflite`` file, with a card or without.

    Raises:
        ModelError: the file is missing or damaged.
        InputError: the installed runtime does not bring the schema that this needs.
    """
    ensure_file(path)
    try:
        card = read_any_card(path)
    except ModelError:
        card = None
    second = None
    if isinstance(card, DetectorCard) and card.refiner:
        flatbuffer = refiner_bytes(path)
        second = _inspected(path, flatbuffer, flatbuffer, card.refiner)
    return _inspected(path, path.read_bytes(), model_bytes(path), card, second)


def _inspected(
    path: Path, content: bytes, flatbuffer: bytes, card: AnyCard | None, second: Inspection | None = None
) -> Inspection:
    interpreter = make_interpreter(flatbuffer, path)
    graph = read_graph(flatbuffer, path)
    digest = hashlib.sha256(flatbuffer).hexdigest()
    return Inspection(
        path=str(path),
        sha256=hashlib.sha256(content).hexdigest(),
        flatbuffer_sha256=digest,
        intact=card is None or card.flatbuffer_sha256 in {"", digest},
        bytes=len(content),
        card=card,
        input=_info(interpreter.get_input_details()[0]),
        outputs=tuple(map(_info, interpreter.get_output_details())),
        operators=dict(Counter(operation.kind for operation in graph.operations).most_common()),
        layers=graph.operations,
        multiply_adds=sum(operation.multiply_adds for operation in graph.operations),
        parameters=sum(size for node in graph.tensors if node.constant and (size := math.prod(node.shape)) > 1),
        largest_activation_bytes=max((node.bytes for node in graph.tensors if not node.constant), default=0),
        integer_only=not any(
            "FLOAT" in node.dtype for layer in graph.operations for node in (*layer.inputs, *layer.outputs)
        ),
        runtime=runtime_name(),
        not_delegated=not_delegated(interpreter),
        metadata=graph.metadata,
        refiner=second,
    )


def _info(detail: dict[str, Any]) -> TensorInfo:
    tensor = Tensor.of(detail)
    return TensorInfo(tensor.shape, np.dtype(tensor.dtype).name, tensor.scale, tensor.zero_point)


def not_delegated(interpreter: Any) -> tuple[str, ...] | None:  # noqa: ANN401 - not in the protocol
    """Kinds of the operators that the XNNPACK delegate leaves to slower kernels; None where it is not at work."""
    # No public call tells; this one is in every runtime, and a node of the delegate is listed like an operator.
    nodes = interpreter._get_ops_details()  # noqa: SLF001
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    if not delegates:
        return None
    operators = [node for node in nodes if node["op_name"] != "DELEGATE"]
    maker = {int(output): node for node in operators for output in node["outputs"]}
    taken: set[int] = set()
    for delegate in delegates:
        given = set(map(int, delegate["inputs"]))
        waiting = [int(output) for output in delegate["outputs"]]
        while waiting:
            node = maker.get(waiting.pop())
            if node is not None and node["index"] not in taken:
                taken.add(node["index"])
                waiting += [tensor for tensor in map(int, node["inputs"]) if tensor not in given]
    return tuple(dict.fromkeys(node["op_name"] for node in operators if node["index"] not in taken))


def as_html(inspection: Inspection) -> str:
    """Return a page that draws the network: each operator with its shapes, types and cost."""
    card = inspection.card
    return render(
        "inspect.html",
        title=card.name if card else printable(inspection.path),
        facts=_list_facts(inspection).items(),
        layers=_list_layers(inspection.layers),
    )


def _list_facts(inspection: Inspection) -> dict[str, object]:
    card = inspection.card
    return {
        "file": printable(inspection.path),
        "sha256": inspection.sha256,
        "flatbuffer's sha256": inspection.flatbuffer_sha256,
        "size": f"{inspection.bytes / 1e3:.1f} kB",
        "input": f"{inspection.input.dtype} {list(inspection.input.shape)}",
        "output": ", ".join(f"{output.dtype} {list(output.shape)}" for output in inspection.outputs),
        "task": card.task if card else "no card",
        **({"labels": ", ".join(card.labels)} if isinstance(card, ClassifierCard) else {}),
        "multiply-adds": f"{inspection.multiply_adds / 1e6:.1f} million",
        "parameters": inspection.parameters,
        "largest activation": f"{inspection.largest_activation_bytes / 1e3:.1f} kB",
        "integer only": "yes" if inspection.integer_only else "no",
        "XNNPACK": inspection.delegation,
    }


def _list_layers(layers: tuple[Operation, ...]) -> list[dict[str, str]]:
    most = max((layer.multiply_adds for layer in layers), default=0) or 1
    producers = {node.name: number for number, layer in enumerate(layers) for node in layer.outputs}
    rows = []
    for number, layer in enumerate(layers):
        # An arrow shows the input from the operator before; inputs from further back are named.
        shortcuts = [
            producers[node.name] for node in layer.inputs if producers.get(node.name, number - 1) != number - 1
        ]
        weights = next((node for node in layer.inputs if node.constant and len(node.shape) > 1), None)
        rows.append(
            {
                "kind": layer.kind,
                "shortcuts": ", ".join(f"#{producer + 1}" for producer in shortcuts),
                "output": _shape(layer.outputs[0]) if layer.outputs else "",
                "weights": _shape(weights) if weights else "",
                "cost": f"{layer.multiply_adds / 1e6:.2f} M multiply-adds, {layer.constant_bytes / 1e3:.1f} kB",
                "percent": f"{100 * layer.multiply_adds / most:.1f}",
            }
        )
    return rows


def _shape(node: Node) -> str:
    return f"{node.dtype.lower()} {'×'.join(map(str, node.shape))}"  # noqa: RUF001 - the multiplication sign
