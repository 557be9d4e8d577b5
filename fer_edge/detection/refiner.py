"""The second stage of a face detector, which checks every box that the first stage proposes.

This is a cascade as in Zhang et al. 2016 (doi:10.1109/LSP.2016.2603342). The first network searches the whole image
and must be small for that. The second network sees only a few squares, in the image's full resolution, and decides for
each whether it shows a face, and where exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.detection.postprocess import RawDetections
from fer_edge.detection.resampling import crop_square, expand_to_square
from fer_edge.errors import ModelError
from fer_edge.modelcard.selftest import SelfTest
from fer_edge.tflite.interpreter import Tensor, invoke, make_interpreter

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.modelcard.schema import RefinerCard

OUTPUTS: Final = {"score": 1, "box": 4, "landmarks": 10}
_MIN_SCORE: Final = np.float32(1 / 512)  # half a step of an int8 score, which keeps the odds finite
_MAX_OFFSET: Final = 64.0  # limit of relative positions and logarithms, far beyond any face, to prevent overflow


class FaceRefiner:
    """The second stage of a face detector.

    Attributes:
        card: description of the model and its input.
        outputs: score, box and landmarks.
    """

    def __init__(self, flatbuffer: bytes, card: RefinerCard, path: Path, *, threads: int = 1) -> None:
        """Load a second stage.

        Args:
            flatbuffer: the network.
            card: its card.
            path: the detector's file, for errors.
            threads: number of threads that the runtime may use.

        Raises:
            ModelError: the network is damaged or does not match its card.
        """
        self.card = card
        self._interpreter = make_interpreter(flatbuffer, path, threads)
        inputs = [Tensor.from_detail(detail) for detail in self._interpreter.get_input_details()]
        expected = (1, card.side, card.side, 1)
        if len(inputs) != 1 or inputs[0].shape != expected or card.input.channels != 1:
            raise ModelError(
                f"{path}: its second stage takes {[one.shape for one in inputs]}, not {expected} as its card says;"
                " convert it again"
            )
        found = {tensor.shape: tensor for tensor in map(Tensor.from_detail, self._interpreter.get_output_details())}
        if set(found) != {(1, n) for n in OUTPUTS.values()}:
            raise ModelError(
                f"{path}: its second stage gives {', '.join(map(str, found))}, not one score, a box of four numbers"
                " and five points; convert it again"
            )
        # Outputs are identified by their shapes, because converters change their order and names.
        self.outputs = tuple(found[1, n] for n in OUTPUTS.values())
        self._views = [self._interpreter.tensor(tensor.index) for tensor in self.outputs]
        self._input = self._interpreter.tensor(inputs[0].index)
        self._element_of_pixel = inputs[0].quantize(card.input.pixels)
        # If the element is the pixel minus 128, flipping the highest bit converts it faster than a table.
        self._flips_bit = inputs[0].dtype == np.int8 and np.array_equal(self._element_of_pixel, np.arange(-128, 128))
        widths = list(OUTPUTS.values())
        self._scales = np.repeat([np.float32(tensor.scale or 1) for tensor in self.outputs], widths)
        self._zero_points = np.repeat([np.float32(tensor.zero_point) for tensor in self.outputs], widths)

    def refine(self, gray: npt.NDArray[np.uint8], detections: RawDetections) -> RawDetections:
        """Recompute the boxes, scores and landmarks of the first stage's detections.

        Args:
            gray: uint8 image of shape (rows, columns), at least one pixel.
            detections: at least one detection of the first stage, in pixels of the image.

        Returns:
            The same number of detections, with this stage's boxes and landmarks and the mean of both stages' odds.
        """
        squares = [expand_to_square(box, self.card.extent) for box in detections.boxes.tolist()]
        stored = np.empty((len(squares), len(self._scales)), np.float32)
        for square, row in zip(squares, stored, strict=True):
            self.run(crop_square(gray, square, self.card.side), row)
        outputs = np.minimum(np.maximum((stored - self._zero_points) * self._scales, -_MAX_OFFSET), _MAX_OFFSET)
        return decode_squares(np.array(squares, np.float32), outputs, detections.scores)

    def run(self, crop: npt.NDArray[np.uint8], out: npt.NDArray[np.float32]) -> None:
        """Run the network on one crop.

        Args:
            crop: uint8 of shape (side, side).
            out: float32 array that receives the fifteen stored elements of all outputs.
        """
        if self._flips_bit:
            np.bitwise_xor(crop, 0x80, out=self._input()[0, :, :, 0].view(np.uint8))
        else:
            self._input()[0, :, :, 0] = self._element_of_pixel[crop]
        invoke(self._interpreter)
        score, box, landmarks = self._views
        out[:1], out[1:5], out[5:] = score()[0], box()[0], landmarks()[0]

    def self_test_outputs(self) -> npt.NDArray[np.float32]:
        """Return the stored elements of all outputs for the self-test's images, of shape (images, elements)."""
        images = SelfTest.images(self.card.side, self.card.side)
        stored = np.empty((len(images), len(self._scales)), np.float32)
        for image, row in zip(images, stored, strict=True):
            self.run(image, row)
        return stored


def decode_squares(
    squares: npt.NDArray[np.float32], outputs: npt.NDArray[np.float32], first_scores: npt.NDArray[np.float32]
) -> RawDetections:
    """Convert the network's outputs for squares of an image to detections.

    Args:
        squares: left, top and side of each square, float32 of shape (n, 3).
        outputs: float32 of shape (n, 15): the score, 0..1; the centre of the face relative to the square's centre,
            divided by the square's side; the logarithms of width and height divided by that side; and five points
            relative to the square's centre, divided by that side, as x, y, x, y, ...
        first_scores: the first stage's scores, 0..1, float32 of shape (n,).

    Returns:
        Detections in pixels of the image. The score is the geometric mean of both stages' odds, because the stages
        make different errors.
    """
    sides = squares[:, 2:]
    centres = squares[:, :2] + sides / 2
    sizes = np.exp(outputs[:, 3:5]) * sides
    boxes = np.concatenate((centres + outputs[:, 1:3] * sides - sizes / 2, sizes), axis=1)
    points = centres[:, None] + outputs[:, 5:].reshape(-1, 5, 2) * sides[:, None]
    first, second = (
        np.minimum(np.maximum(score, _MIN_SCORE), 1 - _MIN_SCORE) for score in (first_scores, outputs[:, 0])
    )
    odds = np.sqrt(first * second / ((1 - first) * (1 - second)))
    return RawDetections(np.asarray(boxes, np.float32), np.asarray(odds / (1 + odds), np.float32), points)
