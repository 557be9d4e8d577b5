"""Finding faces in grey pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

import cv2
import numpy as np

from fer_edge.classification.classifier import DEFAULT_MODEL, find_model
from fer_edge.classification.crop import Box, Framing
from fer_edge.detection.postprocess import Cells, scaled
from fer_edge.detection.roi import STAYS, Region
from fer_edge.errors import InputError, ModelError
from fer_edge.utils.native_stderr import native_stderr_hidden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt

DetectorName = Literal["network", "yunet"]
DEFAULT_DETECTOR: Final = DEFAULT_MODEL.with_name("faces.tflite")
_FAR: Final = 1e6  # pixels beyond which there is no face but numbers that overflow
_EYES_APART: Final = 0.15  # of the box's width: in profile, their line says nothing


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

    def detect(self, gray: npt.NDArray[np.uint8]) -> list[Face]:
        """Faces in a uint8 grey picture of shape (rows, columns), largest first."""
        ...


class FollowingDetector(FaceDetector, Protocol):
    """One that need not look everywhere in every frame of a film."""

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


class YuNetDetector:
    """YuNet through OpenCV (Wu, Peng & Yu 2023, doi:10.1007/s11633-023-1423-y); its ONNX file is the user's."""

    # Measured by benchmarks/crop_margin.py.
    framing: Final = Framing(scale=0.9, shift=0.0, level=True)

    _WINDOW: Final = 20  # pixels; it finds smaller faces, but with fewer hits

    def __init__(self, model: Path, min_face: int | None = None, threshold: float = 0.7) -> None:
        """Load a network.

        Args:
            model: ``face_detection_yunet_2023mar.onnx`` of the OpenCV Zoo, or a later one.
            min_face: side of the smallest face to find, in pixels; a sixteenth of a picture's longer side without.
            threshold: least score of a face, 0..1.

        Raises:
            ModelError: the file is missing or not such a network.
        """
        if not model.is_file():
            raise ModelError(f"{model}: no such file; download face_detection_yunet_2023mar.onnx from the OpenCV Zoo")
        try:
            with native_stderr_hidden():  # OpenCV 5 warns of what nobody asked for
                self._network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), threshold)
                self._network.detect(np.zeros((320, 320, 3), np.uint8))
        except cv2.error as error:
            raise ModelError(
                f"{model}: not a YuNet network that OpenCV {cv2.__version__} reads ({error.err})"
            ) from error
        self._min_face, self._threshold = min_face, threshold
        # Pictures of one size are shrunk and coloured in the same memory every time.
        self._small, self._colour = np.empty((0, 0), np.uint8), np.empty((0, 0, 3), np.uint8)

    def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
        """Faces in a uint8 grey picture of shape (rows, columns), largest first; every box lies within the picture."""
        if not gray.size:
            return []
        rows, columns, smallest = reduced_size(gray.shape, self._min_face, self._WINDOW, coarse=coarse)
        return largest_first(self._find(gray, (rows, columns), smallest, self._threshold))

    def detect_near(self, gray: npt.NDArray[np.uint8], box: Box) -> list[Face]:
        """Faces around a box in a uint8 grey picture of shape (rows, columns), largest first."""
        return faces_near(gray, box, lambda part, size: self._find(part, size, 0, STAYS * self._threshold))

    def _find(
        self, gray: npt.NDArray[np.uint8], size: tuple[int, int], smallest: float, threshold: float
    ) -> Iterator[Face]:
        """Faces in a picture that is brought to a size first."""
        rows, columns = size
        if self._small.shape != size:
            self._small, self._colour = np.empty(size, np.uint8), np.empty((*size, 3), np.uint8)
        small = gray
        if gray.shape != size:
            cv2.resize(gray, (columns, rows), self._small, interpolation=cv2.INTER_AREA)
            small = self._small
        cv2.cvtColor(small, cv2.COLOR_GRAY2BGR, self._colour)
        self._network.setInputSize((columns, rows))
        self._network.setScoreThreshold(threshold)
        _, found = self._network.detect(self._colour)
        if found is None:
            return iter(())
        sound = np.asarray(found[(np.abs(found) < _FAR).all(axis=1)], np.float32)
        cells = Cells(sound[:, :4], sound[:, -1], sound[:, 4:14].reshape(-1, 5, 2))
        return faces_within(scaled(cells, gray.shape[0] / rows, gray.shape[1] / columns), gray.shape, smallest)


def make_detector(
    name: DetectorName = "network", model: Path | None = None, min_face: int | None = None
) -> FollowingDetector:
    """The detector of that name.

    Args:
        name: ``network`` or ``yunet``.
        model: see `detector_file`.
        min_face: side of the smallest face to find, in pixels; a sixteenth of a picture's longer side without.

    Raises:
        InputError: ``yunet`` without a file.
        ModelError: the file is missing or damaged.
    """
    path = detector_file(name, model)
    if name == "network":
        from fer_edge.detection.network import NetworkDetector  # noqa: PLC0415 - it finds `Face` here

        return NetworkDetector(path, min_face)
    return YuNetDetector(path, min_face)


def detector_file(name: DetectorName, model: Path | None) -> Path:
    """The file that a detector is loaded from.

    Args:
        name: ``network`` or ``yunet``.
        model: a file, or the bare name of a shipped one (``faces``); the shipped network's without.

    Raises:
        InputError: ``yunet`` without a file, or its file without ``yunet``.
    """
    if model is not None:
        if name == "network" and model.suffix == ".onnx":
            raise InputError(f"{model}: for YuNet's file, say that the detector is yunet (--detector yunet)")
        return find_model(model)
    if name == "yunet":
        raise InputError(
            "yunet needs --detector-model FILE, in a configuration faces.detector_model: download"
            " face_detection_yunet_2023mar.onnx from the OpenCV Zoo"
        )
    return DEFAULT_DETECTOR


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


def faces_near(
    gray: npt.NDArray[np.uint8],
    box: Box,
    find: Callable[[npt.NDArray[np.uint8], tuple[int, int]], Iterator[Face]],
) -> list[Face]:
    """Faces in the region around a box, in pixels of the whole picture, largest first.

    Args:
        gray: uint8 grey picture of shape (rows, columns).
        box: where a face was.
        find: finds faces in a part of the picture that it brings to so many rows and columns.
    """
    region = Region.around(gray, box)
    return largest_first(region.placed(find(region.part, region.size))) if region else []


def faces_within(cells: Cells, shape: tuple[int, ...], smallest: float) -> Iterator[Face]:
    """Faces in a picture, cut at its edges.

    Args:
        cells: in pixels of the picture, one of each face.
        shape: its rows and columns.
        smallest: longer side of the smallest face, in pixels.
    """
    for (x, y, width, height), score, five in zip(
        cells.boxes.tolist(), cells.scores.tolist(), cells.landmarks, strict=True
    ):
        left, right = (min(max(value, 0.0), float(shape[1])) for value in (x, x + width))
        top, bottom = (min(max(value, 0.0), float(shape[0])) for value in (y, y + height))
        if right > left and bottom > top and max(width, height) >= smallest:
            yield Face(Box(left, top, right - left, bottom - top), score, landmarks(five))


def largest_first(faces: Iterable[Face]) -> list[Face]:
    """Faces by the area of their boxes."""
    return sorted(faces, key=lambda face: face.box.width * face.box.height, reverse=True)
