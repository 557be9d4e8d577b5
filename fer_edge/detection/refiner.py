"""The second stage of a face detector: every box that the first one proposes is looked at again, large and alone.

A cascade as Zhang et al. 2016 (doi:10.1109/LSP.2016.2603342) have it: the first network looks everywhere, and must be
small for that; the second one looks at a few squares, from the image's own pixels, and says how surely each shows a
face and where exactly it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import msgspec
import numpy as np

from fer_edge.detection.postprocess import RawDetections
from fer_edge.errors import ModelError
from fer_edge.modelcard.selftest import SelfTest
from fer_edge.tflite.interpreter import Tensor, invoke, make_interpreter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.modelcard.schema import RefinerCard

_LEAST: Final = np.float32(1 / 512)
_FAR: Final = 64.0  # a logarithm, or times a square's side, beyond which there is no face but numbers that overflow
OUTPUTS: Final = {"score": 1, "box": 4, "landmarks": 10}
PADDING: Final = 128  # the pixel value of what lies past the image's edges
_TOLERANCE: Final = 0.1  # of all steps, or real: what sound kernels may differ by, as for classifiers


class FaceRefiner:
    """The second stage of a detector, loaded.

    Attributes:
        card: what it is and takes.
    """

    def __init__(self, flatbuffer: bytes, card: RefinerCard, where: Path, *, threads: int = 1) -> None:
        """Load it.

        Args:
            flatbuffer: the network.
            card: what it is and takes.
            where: the file it came from, for errors.
            threads: how many threads an invocation may use.

        Raises:
            ModelError: it is damaged, or not what its card says.
        """
        self.card = card
        self._interpreter = make_interpreter(flatbuffer, where, threads)
        inputs = [Tensor.of(detail) for detail in self._interpreter.get_input_details()]
        wanted = (1, card.side, card.side, 1)
        if len(inputs) != 1 or inputs[0].shape != wanted or card.input.channels != 1:
            raise ModelError(
                f"{where}: its second stage takes {[one.shape for one in inputs]}, not {wanted} as its card says;"
                " convert it again"
            )
        found = {tensor.shape: tensor for tensor in map(Tensor.of, self._interpreter.get_output_details())}
        if set(found) != {(1, n) for n in OUTPUTS.values()}:
            raise ModelError(
                f"{where}: its second stage gives {', '.join(map(str, found))}, where one score, a box of four numbers"
                " and five points are due; convert it again"
            )
        # By shape, for converters change the order and the names.
        self.outputs = tuple(found[1, n] for n in OUTPUTS.values())
        self._views = [self._interpreter.tensor(tensor.index) for tensor in self.outputs]
        self._input = self._interpreter.tensor(inputs[0].index)
        self._elements = inputs[0].stored(card.input.pixels)
        # Then a pixel becomes its element when its highest bit is turned round, which takes no table.
        self._turns = inputs[0].dtype == np.int8 and np.array_equal(self._elements, np.arange(-128, 128))
        widths = list(OUTPUTS.values())
        self._scales = np.repeat([np.float32(one.scale or 1) for one in self.outputs], widths)
        self._zero_points = np.repeat([np.float32(one.zero_point) for one in self.outputs], widths)

    def refined(self, gray: npt.NDArray[np.uint8], cells: RawDetections) -> RawDetections:
        """Faces as they look from near.

        Args:
            gray: uint8 image of shape (rows, columns), at least one pixel.
            cells: what the first stage says of faces, in pixels of ``gray``; one at least.

        Returns:
            As many, each with the box and landmarks that this stage gives it, and the mean of both stages' odds.
        """
        squares = [square_around(box, self.card.extent) for box in cells.boxes.tolist()]
        stored = np.empty((len(squares), len(self._scales)), np.float32)
        for square, row in zip(squares, stored, strict=True):
            self.run(cut(gray, square, self.card.side), row)
        given = np.minimum(np.maximum((stored - self._zero_points) * self._scales, -_FAR), _FAR)
        return placed(np.array(squares, np.float32), given, cells.scores)

    def run(self, square: npt.NDArray[np.uint8], out: npt.NDArray[np.float32]) -> None:
        """Look at one square.

        Args:
            square: uint8 of shape (side, side).
            out: takes the fifteen stored elements of all outputs, float32.
        """
        if self._turns:
            np.bitwise_xor(square, 0x80, out=self._input()[0, :, :, 0].view(np.uint8))
        else:
            self._input()[0, :, :, 0] = self._elements[square]
        invoke(self._interpreter)
        score, box, landmarks = self._views
        out[:1], out[1:5], out[5:] = score()[0], box()[0], landmarks()[0]

    def known_outputs(self) -> npt.NDArray[np.float32]:
        """Stored elements of all outputs for the self-test's images, of shape (images, elements)."""
        images = SelfTest.images(self.card.side, self.card.side)
        stored = np.empty((len(images), len(self._scales)), np.float32)
        for square, row in zip(images, stored, strict=True):
            self.run(square, row)
        return stored


def with_refiner_self_test(flatbuffer: bytes, card: RefinerCard, path: Path) -> RefinerCard:
    """A card with what the network gives on this machine for known images.

    Args:
        flatbuffer: the network.
        card: what it is and takes.
        path: where it is or will be, for errors.

    Raises:
        ModelError: the network is damaged, or not what its card says.
    """
    refiner = FaceRefiner(flatbuffer, card, path)
    return msgspec.structs.replace(card, self_test=self_test_of(refiner.known_outputs(), refiner.outputs))


def self_test_of(given: npt.NDArray[np.float32], outputs: Sequence[Tensor]) -> SelfTest:
    """What a network of a detector gave for known images.

    Args:
        given: stored elements of its outputs, float32 of shape (images, elements).
        outputs: these.
    """
    quantised = all(one.scale for one in outputs)
    steps = 256 ** np.dtype(outputs[0].dtype).itemsize if quantised else 1
    return SelfTest.of(given, _TOLERANCE * steps, quantised=quantised)


def square_around(box: Sequence[float], extent: float) -> tuple[float, float, float]:
    """The square that is looked at for a box.

    Args:
        box: left, top, width and height, in pixels.
        extent: side of the square over the longer side of the box.

    Returns:
        Its left and upper edge and its side, a pixel at least.
    """
    left, top, width, height = box
    side = max(extent * max(width, height), 1.0)
    return left + (width - side) / 2, top + (height - side) / 2, side


def squares_of(
    gray: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float32], extent: float, side: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """What is looked at for boxes of an image.

    Args:
        gray: uint8 image of shape (rows, columns), at least one pixel.
        boxes: left, top, width and height of each, in its pixels, float32 of shape (n, 4).
        extent: side of the square over the longer side of the box.
        side: rows and columns of each result.

    Returns:
        Where the squares are, float32 of shape (n, 3), and what they show, uint8 of shape (n, side, side).
    """
    where = [square_around(box, extent) for box in boxes.tolist()]
    squares = [cut(gray, square, side) for square in where]
    return np.array(where, np.float32).reshape(-1, 3), np.array(squares, np.uint8).reshape(-1, side, side)


def placed(
    squares: npt.NDArray[np.float32], given: npt.NDArray[np.float32], first: npt.NDArray[np.float32]
) -> RawDetections:
    """Faces in an image by what the network says of squares of it.

    Args:
        squares: left and upper edge and side of each, float32 of shape (n, 3).
        given: how surely a face, 0..1; its centre from the square's over the square's side, and logarithms of its width
            and height over that; five points from the square's centre over its side, x and y in turn; float32 of shape
            (n, 15).
        first: the first stage's score of each, 0..1, float32 of shape (n,).

    Returns:
        As many, with the geometric mean of both stages' odds as their score, for each errs on other things.
    """
    sides = squares[:, 2:]
    middles = squares[:, :2] + sides / 2
    sizes = np.exp(given[:, 3:5]) * sides
    boxes = np.concatenate((middles + given[:, 1:3] * sides - sizes / 2, sizes), axis=1)
    points = middles[:, None] + given[:, 5:].reshape(-1, 5, 2) * sides[:, None]
    # Whose logarithms are logits, of which a score in int8 has none past half a step from 0 and 1.
    one, other = (np.minimum(np.maximum(score, _LEAST), 1 - _LEAST) for score in (first, given[:, 0]))
    odds = np.sqrt(one * other / ((1 - one) * (1 - other)))
    return RawDetections(np.asarray(boxes, np.float32), np.asarray(odds / (1 + odds), np.float32), points)


def cut(gray: npt.NDArray[np.uint8], square: tuple[float, float, float], side: int) -> npt.NDArray[np.uint8]:
    """Cut a square out of an image, to fractions of a pixel, for a face of twenty pixels has none to lose.

    Args:
        gray: uint8 image of shape (rows, columns), at least one pixel.
        square: its left and upper edge and its side, in pixels of the image, whose edges it may pass.
        side: rows and columns of the result.

    Returns:
        uint8 of shape (side, side).
    """
    left, top, length = square
    rows, columns = gray.shape
    scale = side / length
    # By means of four pixels first, for a large face would alias.
    halvings = int(math.log2(max(1 / scale, 1)))
    more = 1 << halvings  # pixels around the square, so that its edge is none
    x, y = (min(max(math.floor(edge) - more, 0), size - 1) for edge, size in ((left, columns), (top, rows)))
    part = gray[y : max(math.ceil(top + length) + more, y + 1), x : max(math.ceil(left + length) + more, x + 1)]
    for _ in range(halvings):
        if min(part.shape) < 2:
            break
        half = (part.shape[0] // 2, part.shape[1] // 2)
        part = np.asarray(
            cv2.resize(part[: 2 * half[0], : 2 * half[1]], half[::-1], interpolation=cv2.INTER_AREA), np.uint8
        )
        scale *= 2
    # From a pixel of the part to one of the result, by their middles.
    shift = (scale - 1) / 2
    matrix = np.array(
        [[scale, 0, (x - left) * side / length + shift], [0, scale, (y - top) * side / length + shift]], np.float64
    )
    return np.asarray(
        cv2.warpAffine(
            part, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(PADDING,)
        ),
        np.uint8,
    )
