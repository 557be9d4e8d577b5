"""The network of the face detector, loaded for one input size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.detection.postprocess import Level, Output
from fer_edge.detection.resampling import PADDING, Shrinker
from fer_edge.errors import ModelError
from fer_edge.modelcard.selftest import SelfTest
from fer_edge.tflite.interpreter import Tensor, invoke, make_interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.modelcard.schema import DetectorCard

CHANNELS: Final = (1, 4, 10)  # of score, box and landmarks


class FaceNetwork:
    """A detection network, loaded for one input size.

    Attributes:
        outputs: score, box and landmarks of each level, finest level first.
    """

    def __init__(
        self, flatbuffer: bytes, card: DetectorCard, path: Path, *, height: int, width: int, threads: int = 1
    ) -> None:
        """Load a network.

        Args:
            flatbuffer: the network.
            card: the detector's card.
            path: the file, for errors.
            height: rows of the input, a multiple of the largest stride.
            width: columns of the input, a multiple of the largest stride.
            threads: number of threads that the runtime may use.

        Raises:
            ModelError: the network is damaged or does not match its card.
        """
        self._strides, self._size = card.strides, (height, width)
        shape = (1, height, width, card.input.channels)
        self._interpreter = make_interpreter(flatbuffer, path, threads, input_shape=shape)
        inputs = [Tensor.from_detail(detail) for detail in self._interpreter.get_input_details()]
        if len(inputs) != 1 or inputs[0].shape != shape or card.input.channels != 1:
            raise ModelError(
                f"{path}: it takes {[one.shape for one in inputs]}, but a face detector takes {shape} of one channel;"
                " convert it again"
            )
        found = {tensor.shape: tensor for tensor in map(Tensor.from_detail, self._interpreter.get_output_details())}
        expected = [(1, height // stride, width // stride, n) for stride in card.strides for n in CHANNELS]
        if set(found) != set(expected):
            raise ModelError(
                f"{path}: it gives {', '.join(map(str, found))}, but a face detector with strides"
                f" {', '.join(map(str, card.strides))} gives {', '.join(map(str, expected))}; convert it again"
            )
        # Outputs are identified by their shapes, because converters change their order and names.
        self.outputs = tuple(found[shape] for shape in expected)
        self._views = [self._interpreter.tensor(tensor.index) for tensor in self.outputs]
        self._input = self._interpreter.tensor(inputs[0].index)
        self._element_of_pixel = inputs[0].quantize(card.input.pixels)
        # If the element is the pixel minus 128, flipping the highest bit converts it faster than a table.
        self._flips_bit = inputs[0].dtype == np.int8 and np.array_equal(self._element_of_pixel, np.arange(-128, 128))
        self._image = np.empty((0, 0) if self._flips_bit else (height, width), np.uint8)
        self._shrinker = Shrinker()
        self._filled = (0, 0)

    def run(self, gray: npt.NDArray[np.uint8], rows: int, columns: int, threshold: float = 0.0) -> list[Level]:
        """Run the network on an image.

        Args:
            gray: uint8 image of any size with at least one pixel.
            rows: rows to which the image is resized; it is placed in the upper left corner of the input.
            columns: columns to which the image is resized.
            threshold: levels without a score of at least this value, 0..1, are omitted.

        Returns:
            The network's outputs, as views of the runtime's memory, which must be released before the next run.
        """
        self._fill_input(gray, rows, columns)
        invoke(self._interpreter)
        return list(self._levels(threshold))

    def self_test_outputs(self) -> npt.NDArray[np.float32]:
        """Return the stored elements of scores and boxes for the self-test's images, of shape (images, elements)."""
        return np.stack([_flatten(self.run(gray, *gray.shape)) for gray in SelfTest.images(*self._size)])

    def _levels(self, threshold: float) -> Iterator[Level]:
        for i, stride in enumerate(self._strides):
            score = self._output(3 * i)
            if not score.values.max() < score.quantize(threshold):
                yield Level(stride, score, self._output(3 * i + 1), self._output(3 * i + 2))

    def _output(self, i: int) -> Output:
        tensor = self.outputs[i]
        return Output(self._views[i](), tensor.scale, tensor.zero_point)

    def _fill_input(self, gray: npt.NDArray[np.uint8], rows: int, columns: int) -> None:
        """Write an image to the input; the padding around it is written only if the size has changed."""
        image = self._input()[0, :, :, 0].view(np.uint8) if self._flips_bit else self._image
        if self._filled != (rows, columns):
            image[:] = PADDING ^ 0x80 if self._flips_bit else PADDING
            self._filled = (rows, columns)
        target = image[:rows, :columns]
        if gray.shape != target.shape:
            self._shrinker.shrink(gray, target)
            gray = target
        if self._flips_bit:
            np.bitwise_xor(gray, 0x80, out=target)
        else:
            target[:] = gray
            self._input()[0, :, :, 0] = self._element_of_pixel[image]


def _flatten(levels: list[Level]) -> npt.NDArray[np.float32]:
    return np.concatenate(
        [one.values.ravel() for level in levels for one in (level.score, level.box)], dtype=np.float32
    )
