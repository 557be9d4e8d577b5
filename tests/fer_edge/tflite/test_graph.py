from __future__ import annotations

import random
from pathlib import Path

import pytest

from fer_edge.errors import ModelError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes
from fer_edge.tflite.graph import read_graph

MODEL = Path("m.tflite")


def test_reads_the_shipped_model() -> None:
    graph = read_graph(model_bytes(DEFAULT_MODEL), DEFAULT_MODEL)
    assert [tensor.shape for tensor in graph.inputs] == [(1, 48, 48, 1)]
    assert [tensor.shape for tensor in graph.outputs] == [(1, 7)]
    assert {operation.kind for operation in graph.operations} >= {"CONV_2D", "SOFTMAX"}
    assert "TFLITE_METADATA" in graph.metadata
    assert all(tensor.quantized for tensor in graph.inputs)


def test_damaged_graphs_are_one_error() -> None:
    """The schema's own reader follows every offset and believes every length."""
    model = model_bytes(DEFAULT_MODEL)
    generator = random.Random(1)  # noqa: S311 - not for a secret
    damaged = 0
    for _ in range(500):
        changed = bytearray(model)
        for _ in range(generator.randint(1, 8)):
            # Tables lie at both ends of the file, weights between them.
            at = generator.choice((generator.randrange(2000), len(model) - 1 - generator.randrange(40_000)))
            changed[at] = generator.choice((0, 1, 127, 128, 255, generator.randrange(256)))
        try:
            read_graph(bytes(changed), MODEL)
        except ModelError as error:
            damaged += 1
            assert str(error).startswith("m.tflite: ")  # noqa: PT017 - some changes do no harm
    assert damaged > 50


@pytest.mark.parametrize("model", [b"", b"\0" * 8, b"\xff" * 64, b"\x08\0\0\0TFL3\0\0\0\0"])
def test_rejects_what_is_no_flatbuffer(model: bytes) -> None:
    with pytest.raises(ModelError, match=r"m\.tflite: a runtime cannot load it, because it is damaged \("):
        read_graph(model, MODEL)
