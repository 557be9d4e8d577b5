"""Finding faces in grey pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

import cv2
import numpy as np

from fer_edge.crop import Box, Framing
from fer_edge.errors import InputError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

DetectorName = Literal["haar", "yunet"]


class Face(NamedTuple):
    """A face in a picture.

    Attributes:
        box: where it is, in pixels of the picture.
        score: the detector's own measure of how sure it is; comparable only within one detector.
    """

    box: Box
    score: float


class FaceDetector(Protocol):
    """Anything that finds faces."""

    @property
    def framing(self) -> Framing:
        """How its boxes become the squares that FER-2013's pictures show."""
        ...

    def detect(self, gray: npt.NDArray[np.uint8]) -> list[Face]:
        """Faces in a uint8 grey picture of shape (rows, columns), largest first."""
        ...


class HaarDetector:
    """Viola-Jones cascade of OpenCV (Viola & Jones 2001); needs no download."""

    # Measured by benchmarks/crop_margin.py.
    framing: Final = Framing(scale=1.0, shift=0.0)

    def __init__(self, min_face: int = 40) -> None:
        """Load the cascade.

        Args:
            min_face: side of the smallest face to find, in pixels.
        """
        name = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"
        self._cascade = cv2.CascadeClassifier(str(name))
        if self._cascade.empty():
            raise InputError(f"{name}: OpenCV's cascade is missing; install opencv-python-headless>=4.9,<5 again")
        self._min = (min_face, min_face)

    def detect(self, gray: npt.NDArray[np.uint8]) -> list[Face]:
        """Faces in a uint8 grey picture of shape (rows, columns), largest first."""
        boxes, _, weights = self._cascade.detectMultiScale3(
            gray, scaleFactor=1.1, minNeighbors=4, minSize=self._min, outputRejectLevels=True
        )
        return _largest_first(
            Face(Box(*map(float, box)), float(np.ravel(weight)[0])) for box, weight in zip(boxes, weights, strict=True)
        )


class YuNetDetector:
    """YuNet through OpenCV (Wu, Peng & Yu 2023, doi:10.1007/s11633-023-1423-y); its ONNX file is the user's."""

    # Measured by benchmarks/crop_margin.py.
    framing: Final = Framing(scale=1.0, shift=0.0)

    def __init__(self, model: Path, min_face: int = 20, threshold: float = 0.7) -> None:
        """Load a network.

        Args:
            model: ``face_detection_yunet_2023mar.onnx`` of the OpenCV Zoo, or a later one.
            min_face: side of the smallest face to report, in pixels.
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
        self._min = min_face

    def detect(self, gray: npt.NDArray[np.uint8]) -> list[Face]:
        """Faces in a uint8 grey picture of shape (rows, columns), largest first."""
        self._network.setInputSize(gray.shape[::-1])
        _, rows = self._network.detect(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR))
        faces = (Face(Box(*map(float, row[:4])), float(row[-1])) for row in (rows if rows is not None else ()))
        return _largest_first(face for face in faces if max(face.box.width, face.box.height) >= self._min)


def make_detector(name: DetectorName, model: Path | None = None, min_face: int = 40) -> FaceDetector:
    """The detector of that name.

    Args:
        name: ``haar`` or ``yunet``.
        model: the network file that ``yunet`` needs.
        min_face: side of the smallest face to find, in pixels.

    Raises:
        InputError: ``yunet`` without a file, or ``haar`` with one.
        ModelError: the file is missing or damaged.
    """
    if name == "haar":
        if model is not None:
            raise InputError("--detector-model goes with --detector yunet; haar has its own")
        return HaarDetector(min_face)
    if model is None:
        raise InputError(
            "--detector yunet needs --detector-model FILE: download face_detection_yunet_2023mar.onnx"
            " from the OpenCV Zoo"
        )
    return YuNetDetector(model, min_face)


def _largest_first(faces: Iterable[Face]) -> list[Face]:
    return sorted(faces, key=lambda face: face.box.width * face.box.height, reverse=True)
