"""An ONNX network with YuNet's outputs that finds bright squares, because the real YuNet cannot be shipped.

ONNX uses protocol buffers; this writes only the fields that are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt

STRIDES = (8, 16, 32)
CHANNELS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
FLOAT = 1
INTS = 7


def integer_field(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def bytes_field(field: int, value: str | bytes) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def repeated_field(field: int, values: Iterable[int]) -> bytes:
    return b"".join(integer_field(field, value) for value in values)


def tensor_proto(name: str, values: npt.NDArray[np.float32]) -> bytes:
    return (
        repeated_field(1, values.shape)
        + integer_field(2, FLOAT)
        + bytes_field(8, name)
        + bytes_field(9, values.tobytes())
    )


def value_info(name: str, shape: tuple[int, ...]) -> bytes:
    dimensions = b"".join(bytes_field(1, integer_field(1, size)) for size in shape)
    return bytes_field(1, name) + bytes_field(2, bytes_field(1, integer_field(1, FLOAT) + bytes_field(2, dimensions)))


def convolution_node(name: str, stride: int) -> bytes:
    sides = (("kernel_shape", (stride, stride)), ("strides", (stride, stride)))
    attributes = (
        bytes_field(5, bytes_field(1, key) + repeated_field(8, ints) + integer_field(20, INTS)) for key, ints in sides
    )
    inputs = b"".join(bytes_field(1, part) for part in ("input", f"{name}_weight", f"{name}_bias"))
    return inputs + bytes_field(2, name) + bytes_field(3, name) + bytes_field(4, "Conv") + b"".join(attributes)


def write_network(path: Path, box: float, level: int = 8) -> None:
    """Write a network that finds white squares of the size of one level's cells.

    Args:
        path: the file to write.
        box: the four box outputs of each cell: offset right and down in cells, and logarithms of width and height.
        level: the stride of these cells.
    """
    graph = b""
    for stride in STRIDES:
        for kind, channels in CHANNELS.items():
            weight, bias = np.zeros((channels, 3, stride, stride), np.float32), np.zeros(channels, np.float32)
            if kind in {"cls", "obj"}:  # 1 for white, 0 for values below 200
                weight += 1 / (55 * 3 * stride * stride)
                bias -= 200 / 55 if stride == level else 1e6
            if kind == "bbox":
                bias += box
            name = f"{kind}_{stride}"
            graph += bytes_field(1, convolution_node(name, stride))
            graph += bytes_field(5, tensor_proto(f"{name}_weight", weight)) + bytes_field(
                5, tensor_proto(f"{name}_bias", bias)
            )
            graph += bytes_field(12, value_info(name, (1, channels, 640 // stride, 640 // stride)))
    graph += bytes_field(2, "squares") + bytes_field(11, value_info("input", (1, 3, 640, 640)))
    path.write_bytes(integer_field(1, 8) + bytes_field(8, integer_field(2, 11)) + bytes_field(7, graph))
