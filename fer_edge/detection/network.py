"""Our own face detector: a small network of convolutions, run by the runtime that classifies faces, too."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import cv2
import msgspec
import numpy as np

from fer_edge.detection.base import faces_in_roi, faces_within, reduced_size
from fer_edge.detection.postprocess import Level, Output, RawDetections, chosen, decode, scaled, sound, suppress
from fer_edge.detection.refiner import FaceRefiner, self_test_of
from fer_edge.detection.roi import ROI_SCORE_RATIO
from fer_edge.errors import ModelError, RuntimeMismatchError
from fer_edge.geometry import largest_first
from fer_edge.modelcard.archive import check_flatbuffer, model_bytes, read_detector_card, refiner_bytes
from fer_edge.modelcard.selftest import SelfTest
from fer_edge.tflite.interpreter import Tensor, invoke, make_interpreter, runtime_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.geometry import Box, CropSpec, Face
    from fer_edge.modelcard.schema import DetectorCard

CHANNELS: Final = (1, 4, 10)  # of score, box and landmarks
PADDING: Final = 128  # the pixel value of what lies past the image's right and lower edge
_SIZES: Final = 6  # sizes of input that are kept ready: to prepare one takes as long as many frames
_SLACK: Final = 0.85  # share of the side of the smallest wanted face from which on boxes count: they are not exact
_TEST_SIDE: Final = 32  # of the self-test's images, so that the card stays small


class FaceNetwork:
    """A detector's flatbuffer, loaded for one size of input."""

    def __init__(
        self, flatbuffer: bytes, card: DetectorCard, where: Path, *, height: int, width: int, threads: int = 1
    ) -> None:
        """Load it.

        Args:
            flatbuffer: the network.
            card: what it is and takes.
            where: the file it came from, for errors.
            height: rows of the input, a multiple of the largest stride.
            width: columns of the input, likewise.
            threads: how many threads an invocation may use.

        Raises:
            ModelError: it is damaged, or not what its card says.
        """
        self._strides = card.strides
        shape = (1, height, width, card.input.channels)
        self._interpreter = make_interpreter(flatbuffer, where, threads, input_shape=shape)
        inputs = [Tensor.of(detail) for detail in self._interpreter.get_input_details()]
        if len(inputs) != 1 or inputs[0].shape != shape or card.input.channels != 1:
            raise ModelError(
                f"{where}: it takes {[one.shape for one in inputs]}, but a face detector takes {shape} of one channel;"
                " convert it again"
            )
        found = {tensor.shape: tensor for tensor in map(Tensor.of, self._interpreter.get_output_details())}
        wanted = [(1, height // stride, width // stride, n) for stride in card.strides for n in CHANNELS]
        if set(found) != set(wanted):
            raise ModelError(
                f"{where}: it gives {', '.join(map(str, found))}, but a face detector with strides"
                f" {', '.join(map(str, card.strides))} gives {', '.join(map(str, wanted))}; convert it again"
            )
        # By shape, for converters change the order and the names.
        self.outputs = tuple(found[shape] for shape in wanted)
        self._views = [self._interpreter.tensor(tensor.index) for tensor in self.outputs]
        self._input = self._interpreter.tensor(inputs[0].index)
        self._pixels = inputs[0].stored(card.input.pixels)
        # Then a pixel becomes its element when its highest bit is turned round, which takes no table.
        self._turns = inputs[0].dtype == np.int8 and np.array_equal(self._pixels, np.arange(-128, 128))
        self._image = np.empty((0, 0) if self._turns else (height, width), np.uint8)
        self._halves: list[npt.NDArray[np.uint8]] = []
        self._filled = (0, 0)

    def run(self, gray: npt.NDArray[np.uint8], rows: int, columns: int, threshold: float = 0.0) -> list[Level]:
        """Look at an image.

        Args:
            gray: uint8 image of any size but none.
            rows: of the image in the input, where it lies at the top on the left.
            columns: likewise.
            threshold: levels without a score of so much, 0..1, are left out.

        Returns:
            What the network gives, as views of the runtime's memory, which must be gone before the next run.
        """
        self._fill(gray, rows, columns)
        invoke(self._interpreter)
        return list(self._levels(threshold))

    def _levels(self, threshold: float) -> Iterator[Level]:
        for i, stride in enumerate(self._strides):
            score = self._output(3 * i)
            if not score.values.max() < score.stored(threshold):
                yield Level(stride, score, self._output(3 * i + 1), self._output(3 * i + 2))

    def _output(self, i: int) -> Output:
        tensor = self.outputs[i]
        return Output(self._views[i](), tensor.scale, tensor.zero_point)

    def _fill(self, gray: npt.NDArray[np.uint8], rows: int, columns: int) -> None:
        """Bring an image to its place in the input; what lies past it stays as it was filled once."""
        image = self._input()[0, :, :, 0].view(np.uint8) if self._turns else self._image
        if self._filled != (rows, columns):
            image[:] = PADDING ^ 0x80 if self._turns else PADDING
            self._filled = (rows, columns)
        place = image[:rows, :columns]
        if gray.shape != place.shape:
            self._shrink(gray, place)
            gray = place
        if self._turns:
            np.bitwise_xor(gray, 0x80, out=place)
        else:
            place[:] = gray
            self._input()[0, :, :, 0] = self._pixels[image]

    def _shrink(self, gray: npt.NDArray[np.uint8], place: npt.NDArray[np.uint8]) -> None:
        """Halve an image by means of four pixels, and bilinearly to its place from there, which aliases little.

        Means over areas of any other size would take longer than the network.
        """
        rows, columns = place.shape
        for step in range(int(math.log2(max(min(gray.shape[0] / rows, gray.shape[1] / columns), 1)))):
            half = (gray.shape[0] // 2, gray.shape[1] // 2)
            if half == place.shape:
                break
            if step == len(self._halves):
                self._halves.append(np.empty(half, np.uint8))
            elif self._halves[step].shape != half:
                self._halves[step] = np.empty(half, np.uint8)
            even = gray[: 2 * half[0], : 2 * half[1]]
            cv2.resize(even, half[::-1], self._halves[step], interpolation=cv2.INTER_AREA)
            gray = self._halves[step]
        how = cv2.INTER_AREA if gray.shape == (2 * rows, 2 * columns) else cv2.INTER_LINEAR
        cv2.resize(gray, (columns, rows), place, interpolation=how)


class NetworkDetector:
    """A face detector in a ``.tflite`` file with a card.

    Attributes:
        card: what the model is and takes.
        path: the file.
        sha256: of the file, as hexadecimal digits.
    """

    def __init__(
        self, path: Path, min_face: int | None = None, *, threshold: float | None = None, threads: int = 1
    ) -> None:
        """Load a network.

        Args:
            path: the file.
            min_face: side of the smallest face to find, in pixels; without, whatever is found in images that were
                shrunk as for a sixteenth of their longer side.
            threshold: least score of a face, 0..1; what the card says without.
            threads: how many threads an invocation may use.

        Raises:
            MissingExtraError: no TFLite runtime is installed.
            ModelError: the file is missing, damaged, or not what its card says.
        """
        self.path = path
        self.card = read_detector_card(path)
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self._flatbuffer = model_bytes(path)
        check_flatbuffer(path, self.card, self._flatbuffer)
        self._min_face, self._threads = min_face, threads
        self._threshold = self.card.threshold if threshold is None else threshold
        self._networks: OrderedDict[tuple[int, int], FaceNetwork] = OrderedDict()
        self._refiner: FaceRefiner | None = None
        if self.card.refiner:
            second = refiner_bytes(path)
            check_flatbuffer(path, self.card.refiner, second)
            self._refiner = FaceRefiner(second, self.card.refiner, path, threads=threads)
        self._network(1, 1)  # what is wrong with the file is found now, not with the first frame

    @property
    def crop_spec(self) -> CropSpec:
        """How its boxes become the squares that FER-2013's images show."""
        return self.card.crop_spec

    def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
        """Faces in a uint8 grey image of shape (rows, columns), largest first; every box lies within the image."""
        if not gray.size:
            return []
        rows, columns, _ = reduced_size(gray.shape, self._min_face, self.card.smallest_face, coarse=coarse)
        smallest = _SLACK * (self._min_face or 0)
        return largest_first(self._find(gray, (rows, columns), smallest, self._threshold))

    def detect_in_roi(self, gray: npt.NDArray[np.uint8], box: Box) -> list[Face]:
        """Faces around a box in a uint8 grey image of shape (rows, columns), largest first."""
        return faces_in_roi(gray, box, lambda part, size: self._find(part, size, 0, ROI_SCORE_RATIO * self._threshold))

    def _find(
        self, gray: npt.NDArray[np.uint8], size: tuple[int, int], smallest: float, threshold: float
    ) -> Iterator[Face]:
        """Faces in an image that is brought to a size first."""
        if not self._refiner:
            return faces_within(self.propose(gray, size, threshold, landmarks=True), gray.shape, smallest)
        cells = self.propose(gray, size, self._refiner.card.min_score)
        if smallest and len(cells.scores):
            cells = chosen(cells, cells.boxes[:, 2:].max(axis=1) >= _SLACK * smallest)
        if len(cells.scores):
            # What the first stage takes for several faces may be one from near.
            cells = suppress(sound(self._refiner.refined(gray, cells), threshold))
        return faces_within(cells, gray.shape, smallest)

    def propose(
        self, gray: npt.NDArray[np.uint8], size: tuple[int, int], least: float, *, landmarks: bool = False
    ) -> RawDetections:
        """What the first stage takes for faces, one of each, in pixels of the image.

        Args:
            gray: uint8 image of shape (rows, columns), at least one pixel.
            size: rows and columns to bring it to first.
            least: score, 0..1, from which on a cell counts.
            landmarks: whether they are wanted; without, they are zeros.
        """
        cells = decode(self._network(*size).run(gray, *size, least), least, landmarks=landmarks)
        if not len(cells.scores):
            return cells
        return scaled(suppress(cells), gray.shape[0] / size[0], gray.shape[1] / size[1])

    def self_test(self) -> float | None:
        """Whether this machine computes what the one did that wrote the card.

        Returns:
            The largest difference of a stored element from what the card says; None where it says nothing.

        Raises:
            RuntimeMismatchError: it is larger than the card allows.
        """
        test = self.card.self_test
        if test is None:
            return None
        apart = self._apart(test, _known_outputs(self._network(_TEST_SIDE, _TEST_SIDE)))
        if self._refiner and self._refiner.card.self_test:
            apart = max(apart, self._apart(self._refiner.card.self_test, self._refiner.known_outputs()))
        return apart

    def _apart(self, test: SelfTest, given: npt.NDArray[np.float32]) -> float:
        """How far what is given here is from what a card says, if not too far."""
        apart = test.apart(given)
        if not apart <= test.tolerance:  # which not-a-number is not, either
            raise RuntimeMismatchError(
                f"{self.path}: {runtime_name()} gives faces here that are up to {apart:g} steps from those on its card,"
                f" where {test.tolerance:g} are allowed; install the runtime anew, or another version"
            )
        return apart

    def _network(self, rows: int, columns: int) -> FaceNetwork:
        """The network for images of a size, which is filled up to what its strides divide."""
        stride = max(self.card.strides)
        size = (-(-rows // stride) * stride, -(-columns // stride) * stride)
        network = self._networks.get(size)
        if network is None:
            height, width = size
            network = FaceNetwork(
                self._flatbuffer, self.card, self.path, height=height, width=width, threads=self._threads
            )
            self._networks[size] = network
            if len(self._networks) > _SIZES:
                self._networks.popitem(last=False)
        self._networks.move_to_end(size)
        return network


def with_detector_self_test(flatbuffer: bytes, card: DetectorCard, path: Path) -> DetectorCard:
    """A card with what the model gives on this machine for known images.

    Args:
        flatbuffer: the model.
        card: what it is and takes.
        path: where it is or will be, for errors.

    Raises:
        ModelError: the model is damaged, or not what its card says.
    """
    network = FaceNetwork(flatbuffer, card, path, height=_TEST_SIDE, width=_TEST_SIDE)
    return msgspec.structs.replace(card, self_test=self_test_of(_known_outputs(network), network.outputs))


def _known_outputs(network: FaceNetwork) -> npt.NDArray[np.float32]:
    """Stored elements of scores and boxes for the self-test's images, of shape (images, elements)."""
    return np.stack([_flat(network.run(gray, *gray.shape)) for gray in SelfTest.images(_TEST_SIDE, _TEST_SIDE)])


def _flat(levels: list[Level]) -> npt.NDArray[np.float32]:
    return np.concatenate(
        [one.values.ravel() for level in levels for one in (level.score, level.box)], dtype=np.float32
    )
