"""Finding faces in grey pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

import cv2
import numpy as np

from fer_edge.crop import Box, Framing
from fer_edge.errors import InputError, ModelError
from fer_edge.regions import STAYS, Region

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

_EYES_APART: Final = 0.15  # of the box's width: in profile, their line says nothing

DetectorName = Literal["haar", "network", "yunet"]


class Point(NamedTuple):
    """A point in a picture, in pixels; it may lie past the picture's edges."""

    x: float
    y: float


class Landmarks(NamedTuple):
    """Where the parts of a face are; left and right are those of the picture."""

    left_eye: Point
    right_eye: Point
    nose: Point
    mouth_left: Point
    mouth_right: Point

    def moved(self, right: float, down: float) -> Landmarks:
        """The same points so many pixels further to the right and down."""
        return Landmarks(*(Point(x + right, y + down) for x, y in self))


class Face(NamedTuple):
    """A face in a picture.

    Attributes:
        box: where it is, in pixels of the picture.
        score: the detector's own measure of how sure it is; comparable only within one detector.
        landmarks: where its parts are; None where the detector does not tell.
    """

    box: Box
    score: float
    landmarks: Landmarks | None = None

    @property
    def tilt(self) -> float:
        """By how much the line through its eyes is turned clockwise, in radians; 0 where that is not known."""
        if self.landmarks is None:
            return 0.0
        one, other = self.landmarks.left_eye, self.landmarks.right_eye
        across, down = other.x - one.x, other.y - one.y
        return math.atan2(down, across) if across > _EYES_APART * self.box.width else 0.0


class FaceDetector(Protocol):
    """Anything that finds faces."""

    @property
    def framing(self) -> Framing:
        """How its boxes become the squares that FER-2013's pictures show."""
        ...

    def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
        """Faces in a uint8 grey picture of shape (rows, columns), largest first.

        Args:
            gray: the picture.
            coarse: look only for faces twice as large as the smallest wanted, and larger, in a quarter of the time.
        """
        ...

    def detect_near(self, gray: npt.NDArray[np.uint8], box: Box) -> list[Face]:
        """Faces around ``box``, in pixels of the picture, where one was a moment ago: less sure ones, too."""
        ...


class HaarDetector:
    """Viola-Jones cascade of OpenCV (Viola & Jones 2001); needs no download."""

    # Measured by benchmarks/crop_margin.py.
    framing: Final = Framing(scale=0.95, shift=0.0)

    _WINDOW: Final = 24  # the cascade's own window is 20 pixels; a little above it, faces are found more surely

    def __init__(self, min_face: int | None = None) -> None:
        """Load the cascade.

        Args:
            min_face: side of the smallest face to find, in pixels; a sixteenth of a picture's longer side without.
        """
        name = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"
        self._cascade = cv2.CascadeClassifier(str(name))
        if self._cascade.empty():
            raise InputError(f"{name}: OpenCV's cascade is missing; install opencv-python-headless>=4.9,<5 again")
        self._reduced = _Reduced(min_face, self._WINDOW)

    def detect(self, gray: npt.NDArray[np.uint8]) -> list[Face]:
        """Faces in a uint8 grey picture of shape (rows, columns), largest first."""
        small, factor, smallest = self._reduced.take(gray)
        boxes, _, weights = self._cascade.detectMultiScale3(
            small, scaleFactor=1.1, minNeighbors=4, minSize=(smallest, smallest), outputRejectLevels=True
        )
        return largest_first(
            Face(Box(*(float(value) * factor for value in box)), float(np.ravel(weight)[0]))
            for box, weight in zip(boxes, weights, strict=True)
        )


class YuNetDetector:
    """YuNet through OpenCV (Wu, Peng & Yu 2023, doi:10.1007/s11633-023-1423-y); its ONNX file is the user's."""

    # Measured by benchmarks/crop_margin.py.
    framing: Final = Framing(scale=0.9, shift=0.0)

    _WINDOW: Final = 20  # it finds smaller ones, but with fewer hits

    def __init__(self, model: Path, min_face: int | None = None, threshold: float = 0.7) -> None:
        """Load a network.

        Args:
            model: ``face_detection_yunet_2023mar.onnx`` of the OpenCV Zoo, or a later one.
            min_face: as for `HaarDetector`.
            threshold: least score of a face, 0..1.

        Raises:
            ModelError: the file is missing or not such a network.
        """
        if not model.is_file():
            raise ModelError(f"{model}: no such file; download face_detection_yunet_2023mar.onnx from the OpenCV Zoo")
        try:
            self._network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), threshold)
            self._network.detect(np.zeros((320, 320, 3), np.uint8))
        except cv2.error as error:
            raise ModelError(
                f"{model}: not a YuNet network that OpenCV {cv2.__version__} reads ({error.err})"
            ) from error
        self._threshold = threshold
        self._reduced = {coarse: _Reduced(min_face, self._WINDOW, coarse=coarse) for coarse in (False, True)}
        self._colour = np.empty((0, 0, 3), np.uint8)

    def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
        """Faces in a uint8 grey picture of shape (rows, columns), largest first."""
        if not gray.size:
            return []
        small, factor, smallest = self._reduced[coarse].take(gray)
        return largest_first(self._find(small, (factor, factor), smallest, self._threshold))

    def detect_near(self, gray: npt.NDArray[np.uint8], box: Box) -> list[Face]:
        """Faces around a box in a uint8 grey picture of shape (rows, columns), largest first."""
        region = Region.around(gray, box)
        if region is None:
            return []
        rows, columns = region.size
        small = np.asarray(cv2.resize(region.part, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
        factor = region.part.shape[1] / columns, region.part.shape[0] / rows
        return largest_first(region.placed(self._find(small, factor, 0, STAYS * self._threshold)))

    def _find(
        self, small: npt.NDArray[np.uint8], factor: tuple[float, float], smallest: float, threshold: float
    ) -> Iterator[Face]:
        """Faces in a picture that was made so many times smaller, across and down, in pixels of that before."""
        self._network.setInputSize(small.shape[::-1])
        self._network.setScoreThreshold(threshold)
        if self._colour.shape[:2] != small.shape:
            self._colour = np.empty((*small.shape, 3), np.uint8)
        cv2.cvtColor(small, cv2.COLOR_GRAY2BGR, self._colour)
        _, rows = self._network.detect(self._colour)
        scale = np.tile(np.array(factor, np.float32), 7)
        for row in rows if rows is not None else ():
            if max(row[2:4]) >= smallest:
                values = row[:14] * scale
                yield Face(Box(*values[:4].tolist()), float(row[-1]), landmarks(values[4:]))


def make_detector(name: DetectorName, model: Path | None = None, min_face: int | None = None) -> FaceDetector:
    """The detector of that name.

    Args:
        name: ``haar``, ``yunet`` or ``network``.
        model: the file that ``yunet`` and ``network`` need.
        min_face: side of the smallest face to find, in pixels; a sixteenth of a picture's longer side without.

    Raises:
        InputError: ``haar`` with a file, or another without.
        ModelError: the file is missing or damaged.
    """
    if name == "haar":
        if model is not None:
            raise InputError("--detector-model goes with --detector yunet or network; haar has its own")
        return HaarDetector(min_face)
    if model is None:
        source = {
            "yunet": "download face_detection_yunet_2023mar.onnx from the OpenCV Zoo",
            "network": "a .tflite that `fer-edge train-faces` and `convert` made",
        }[name]
        raise InputError(f"--detector {name} needs --detector-model FILE: {source}")
    if name == "network":
        from fer_edge.face_network import NetworkDetector  # noqa: PLC0415 - it finds `Face` here

        return NetworkDetector(model, min_face)
    return YuNetDetector(model, min_face)


def reduced_size(
    shape: tuple[int, ...], min_face: int | None, window: float, *, coarse: bool = False
) -> tuple[int, int, float]:
    """How far a picture is shrunk until the smallest wanted face just fills a detector's window.

    Args:
        shape: rows and columns of the picture.
        min_face: side of the smallest face to find, in pixels; a sixteenth of the picture's longer side without.
        window: side of the smallest face that the detector finds.
        coarse: as though the smallest wanted were twice as large.

    Returns:
        Rows and columns of the small picture, and the side of the smallest face in the large one.
    """
    smallest = max((min_face or max(shape) // 16) * (2 if coarse else 1), window)
    rows, columns = (max(1, round(side * window / smallest)) for side in shape)
    return rows, columns, smallest


def landmarks(points: npt.NDArray[np.float32]) -> Landmarks:
    """Five points, as x and y in turn or of shape (5, 2), by their names."""
    return Landmarks(*map(Point._make, points.reshape(5, 2).tolist()))


class _Reduced:
    """Shrinks pictures until the smallest wanted face just fills a detector's window: the rest is time for nothing.

    Pictures of one size are shrunk into the same memory every time.
    """

    def __init__(self, min_face: int | None, window: int, *, coarse: bool = False) -> None:
        self._min_face, self._window, self._coarse = min_face, window, coarse
        self._small = np.empty((0, 0), np.uint8)

    def take(self, gray: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], float, int]:
        """Shrink a picture.

        Returns:
            The small picture, how many times smaller it is, and the side of the smallest face in it.
        """
        rows, columns, smallest = reduced_size(gray.shape, self._min_face, self._window, coarse=self._coarse)
        if (rows, columns) == gray.shape:
            return gray, 1.0, round(smallest)
        factor = smallest / self._window
        if self._small.shape != (rows, columns):
            self._small = np.empty((rows, columns), np.uint8)
        cv2.resize(gray, (columns, rows), self._small, interpolation=cv2.INTER_AREA)
        return self._small, factor, self._window


def largest_first(faces: Iterable[Face]) -> list[Face]:
    """Faces by the area of their boxes."""
    return sorted(faces, key=lambda face: face.box.width * face.box.height, reverse=True)
