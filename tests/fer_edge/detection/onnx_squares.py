"""An ONNX file shaped as YuNet's that finds bright squares, for want of faces: the real one is not ours to ship.

ONNX is protocol buffers, of which no more is written here than this needs.
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


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, value: str | bytes) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def several(field: int, values: Iterable[int]) -> bytes:
    return b"".join(number(field, value) for value in values)


def tensor(name: str, values: npt.NDArray[np.float32]) -> bytes:
    return several(1, values.shape) + number(2, FLOAT) + text(8, name) + text(9, values.tobytes())


def value(name: str, shape: tuple[int, ...]) -> bytes:
    dimensions = b"".join(text(1, number(1, size)) for size in shape)
    return text(1, name) + text(2, text(1, number(1, FLOAT) + text(2, dimensions)))


def convolution(name: str, stride: int) -> bytes:
    sides = (("kernel_shape", (stride, stride)), ("strides", (stride, stride)))
    attributes = (text(5, text(1, key) + several(8, ints) + number(20, INTS)) for key, ints in sides)
    inputs = b"".join(text(1, part) for part in ("input", f"{name}_weight", f"{name}_bias"))
    return inputs + text(2, name) + text(3, name) + text(4, "Conv") + b"".join(attributes)


def write(path: Path, box: float, level: int = 8) -> None:
    """Write a network the cells of one level of which tell of squares as large as they are that are white.

    Args:
        path: where.
        box: what each tells of its face: how many cells right of and below it, and the logarithms of its sides.
        level: the stride of these cells.
    """
    graph = b""
    for stride in STRIDES:
        for kind, channels in CHANNELS.items():
            weight, bias = np.zeros((channels, 3, stride, stride), np.float32), np.zeros(channels, np.float32)
            if kind in {"cls", "obj"}:  # 1 for white, 0 for what is darker than 200
                weight += 1 / (55 * 3 * stride * stride)
                bias -= 200 / 55 if stride == level else 1e6
            if kind == "bbox":
                bias += box
            name = f"{kind}_{stride}"
            graph += text(1, convolution(name, stride))
            graph += text(5, tensor(f"{name}_weight", weight)) + text(5, tensor(f"{name}_bias", bias))
            graph += text(12, value(name, (1, channels, 640 // stride, 640 // stride)))
    graph += text(2, "squares") + text(11, value("input", (1, 3, 640, 640)))
    path.write_bytes(number(1, 8) + text(8, number(2, 11)) + text(7, graph))
