"""Inspecting a ``.tflite`` file: its tensors, operators, cost and card."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from fer_edge.errors import ModelError, printable
from fer_edge.modelcard.archive import check_flatbuffer, has_card, model_bytes, read_model, refiner_bytes
from fer_edge.modelcard.reader import ensure_file, read_any_card
from fer_edge.modelcard.schema import AnyCard, ClassifierCard, DetectorCard
from fer_edge.reports.html import render
from fer_edge.tflite.graph import Operation, read_graph
from fer_edge.tflite.interpreter import Tensor, check_model_header, make_interpreter, runtime_name

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.tflite.graph import GraphTensor


class TensorInfo(msgspec.Struct, frozen=True):
    """An input or output of a model.

    Attributes:
        shape: dimensions.
        dtype: element type, as NumPy spells it.
        scale: real value of one quantization step; 0 if the tensor is not quantized.
        zero_point: stored value that represents 0: ``real = scale * (stored - zero_point)``.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a model file.

    Attributes:
        path: the file.
        sha256: hash of the file.
        flatbuffer_sha256: hash of the file without its card.
        intact: whether that hash is the one on the card; true if the card has none.
        bytes: size of the file.
        card: the model card; None if the file has none, or a damaged one.
        card_problem: what is wrong with a damaged card; empty if nothing is, or if there is no card.
        input: the model's input.
        outputs: the model's outputs.
        operators: number of operators of each kind.
        layers: operators in the order of execution.
        multiply_adds: multiply-add operations of one invocation, in convolutions and dense layers.
        parameters: number of elements of all constant tensors with more than one element.
        largest_activation_bytes: size of the largest tensor between operators.
        integer_only: whether every tensor that an operator uses has an integer type.
        runtime: package and version that loaded the model.
        not_delegated: kinds of operators that the XNNPACK delegate does not run; None if the delegate is not used.
        metadata: names of the metadata buffers.
        refiner: contents of a face detector's second stage, with the `bytes` and `sha256` of its flatbuffer; None
            without a second stage.
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
    card_problem: str = ""

    @property
    def delegation(self) -> str:
        """What the XNNPACK delegate runs, in words."""
        return delegation(self.not_delegated, self.runtime)


def delegation(not_delegated: tuple[str, ...] | None, runtime: str) -> str:
    """Describe in words what the XNNPACK delegate runs.

    Args:
        not_delegated: the result of `find_not_delegated`.
        runtime: package and version of the runtime.
    """
    if not_delegated is None:
        return f"not used ({runtime})"
    return f"runs {'all but ' + ', '.join(not_delegated) if not_delegated else 'every operator'} ({runtime})"


def inspect_model(path: Path) -> Inspection:
    """Inspect a ``.tflite`` file, with or without a card.

    Raises:
        ModelError: the file is missing or damaged.
        InputError: the installed runtime does not include the schema.
    """
    ensure_file(path)
    card, problem = None, ""
    if has_card(path):
        try:
            card = read_any_card(path)
        except ModelError as error:
            problem = str(error).removeprefix(f"{path}: ")
    refiner = None
    if isinstance(card, DetectorCard) and card.refiner:
        flatbuffer = refiner_bytes(path)
        refiner = _inspect(path, flatbuffer, flatbuffer, card.refiner)
    inspection = _inspect(path, read_model(path), model_bytes(path), card, refiner)
    return msgspec.structs.replace(inspection, card_problem=problem)


def _inspect(
    path: Path, content: bytes, flatbuffer: bytes, card: AnyCard | None, refiner: Inspection | None = None
) -> Inspection:
    check_model_header(flatbuffer, path)
    graph = read_graph(flatbuffer, path)
    digest = hashlib.sha256(flatbuffer).hexdigest()
    try:
        interpreter = make_interpreter(flatbuffer, path)
    except ModelError:
        if card is not None:
            check_flatbuffer(path, card, flatbuffer)  # a difference from the card says more
        raise
    if not interpreter.get_input_details():
        raise ModelError(f"{path}: has no input; copy or make it again")
    return Inspection(
        path=str(path),
        sha256=hashlib.sha256(content).hexdigest(),
        flatbuffer_sha256=digest,
        intact=card is None or card.flatbuffer_sha256 in {"", digest},
        bytes=len(content),
        card=card,
        input=_tensor_info(interpreter.get_input_details()[0]),
        outputs=tuple(map(_tensor_info, interpreter.get_output_details())),
        operators=dict(Counter(operation.kind for operation in graph.operations).most_common()),
        layers=graph.operations,
        multiply_adds=sum(operation.multiply_adds for operation in graph.operations),
        parameters=sum(size for tensor in graph.tensors if tensor.constant and (size := math.prod(tensor.shape)) > 1),
        largest_activation_bytes=max((tensor.bytes for tensor in graph.tensors if not tensor.constant), default=0),
        integer_only=not any(
            "FLOAT" in tensor.dtype for layer in graph.operations for tensor in (*layer.inputs, *layer.outputs)
        ),
        runtime=runtime_name(),
        not_delegated=find_not_delegated(interpreter),
        metadata=graph.metadata,
        refiner=refiner,
    )


def _tensor_info(detail: dict[str, Any]) -> TensorInfo:
    tensor = Tensor.from_detail(detail)
    return TensorInfo(tensor.shape, np.dtype(tensor.dtype).name, tensor.scale, tensor.zero_point)


def find_not_delegated(interpreter: Any) -> tuple[str, ...] | None:  # noqa: ANN401 - not in the protocol
    """Return the kinds of operators that the XNNPACK delegate does not run; None if the delegate is not used."""
    # There is no public call for this. This one exists in every runtime and lists the delegate as an operator.
    nodes = interpreter._get_ops_details()  # noqa: SLF001
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    if not delegates:
        return None
    operators = [node for node in nodes if node["op_name"] != "DELEGATE"]
    producer = {int(output): node for node in operators for output in node["outputs"]}
    delegated: set[int] = set()
    for delegate in delegates:
        # The operators between the delegate's inputs and its outputs.
        inputs = set(map(int, delegate["inputs"]))
        pending = [int(output) for output in delegate["outputs"]]
        while pending:
            node = producer.get(pending.pop())
            if node is not None and node["index"] not in delegated:
                delegated.add(node["index"])
                pending += [tensor for tensor in map(int, node["inputs"]) if tensor not in inputs]
    return tuple(dict.fromkeys(node["op_name"] for node in operators if node["index"] not in delegated))


def as_html(inspection: Inspection) -> str:
    """Return a page that draws the network: each operator with its shapes, types and cost."""
    card = inspection.card
    return render(
        "inspect.html",
        title=card.name if card else printable(inspection.path),
        headline=_headline(inspection),
        facts=_list_facts(inspection).items(),
        layers=_list_layers(inspection.layers),
    )


def _headline(inspection: Inspection) -> str:
    kind = "integers only" if inspection.integer_only else "floats, at least in part"
    return f"{inspection.bytes / 1e3:.0f} kB, {inspection.multiply_adds / 1e6:.1f} million multiply-adds, {kind}."


def _list_facts(inspection: Inspection) -> dict[str, object]:
    card = inspection.card
    return {
        "file": printable(inspection.path),
        "sha256": inspection.sha256,
        "flatbuffer's sha256": inspection.flatbuffer_sha256,
        "size": f"{inspection.bytes / 1e3:.1f} kB",
        "input": f"{inspection.input.dtype} {list(inspection.input.shape)}",
        "output": ", ".join(f"{output.dtype} {list(output.shape)}" for output in inspection.outputs),
        "task": card.task if card else inspection.card_problem or "no card",
        **({"labels": ", ".join(card.labels)} if isinstance(card, ClassifierCard) else {}),
        "multiply-adds": f"{inspection.multiply_adds / 1e6:.1f} million",
        "parameters": f"{inspection.parameters:,}",
        "largest activation": f"{inspection.largest_activation_bytes / 1e3:.1f} kB",
        "integer only": "yes" if inspection.integer_only else "no",
        "XNNPACK": inspection.delegation,
    }


def _list_layers(layers: tuple[Operation, ...]) -> list[dict[str, str]]:
    largest = max((layer.multiply_adds for layer in layers), default=0) or 1
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
                "percent": f"{100 * layer.multiply_adds / largest:.1f}",
            }
        )
    return rows


def _shape(node: GraphTensor) -> str:
    return f"{node.dtype.lower()} {'×'.join(map(str, node.shape))}"  # noqa: RUF001 - the multiplication sign
