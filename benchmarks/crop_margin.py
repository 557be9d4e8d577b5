"""Find the crop specification that makes each detector's crops look like FER-2013's images.

    python benchmarks/crop_margin.py fer2013.csv [--detector faces.tflite] [--yunet face_detection_yunet_2023mar.onnx]

Faces of FER-2013 are enlarged, pasted on a plain background and detected. For each crop specification (scale of the
box and shift of its centre) the crops are classified and the accuracy is printed, beside the accuracy on the original
images. With the present crop specification, the accuracy is then measured for rotated faces, with and without
aligning the eyes.

The card of a detector and `YuNetDetector.crop_spec` contain a rounded value from the middle of the best region;
neighbouring values differ by less than the noise, which is about 0.8 percentage points. Haar is measured, too, if
OpenCV has it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.classification.crop import crop_face
from fer_edge.datasets.readers import load_dataset
from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.yunet import YuNetDetector
from fer_edge.errors import FerEdgeError
from fer_edge.geometry import Box, CropSpec, Face
from fer_edge.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from haar import HAS_HAAR, HaarDetector

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge.detection.base import FaceDetector

CANVAS = 320
SCALES = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3)
ROLLS = (0, 10, 20, 30)  # degrees
SHIFTS = (-0.1, -0.05, 0.0, 0.05, 0.1)


def paste(
    face: npt.NDArray[np.uint8], rng: np.random.Generator, degrees: float = 0.0
) -> tuple[npt.NDArray[np.uint8], Box]:
    """Paste a face, enlarged to 96 to 192 pixels and rotated, at a random position; return the image and the box."""
    side = int(rng.integers(96, 193))
    canvas = np.full((CANVAS, CANVAS), rng.integers(60, 190), np.uint8)
    left, top = (int(value) for value in rng.integers(0, CANVAS - side + 1, 2))
    large = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
    if not degrees:
        canvas[top : top + side, left : left + side] = large
        return canvas, Box(left, top, side, side)
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1)
    matrix[:, 2] += left, top
    cv2.warpAffine(large, matrix, (CANVAS, CANVAS), canvas, borderMode=cv2.BORDER_TRANSPARENT)
    return canvas, Box(left, top, side, side)


def find_pasted(detector: FaceDetector, image: npt.NDArray[np.uint8], true_box: Box) -> Face | None:
    """Return the detected face at the position of the pasted one, if there is one."""
    (x, y), side = centre(true_box), true_box.width
    for one in detector.detect(image):
        cx, cy = centre(one.box)
        if abs(cx - x) < side / 4 and abs(cy - y) < side / 4:
            return one
    return None


def centre(box: Box) -> tuple[float, float]:
    """Return the centre of a box."""
    return box.x + box.width / 2, box.y + box.height / 2


def measure(
    name: str,
    detector: FaceDetector,
    classifier: TFLiteClassifier,
    faces: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.int64],
) -> None:
    """Print the accuracy of each crop specification for one detector."""
    rng = np.random.default_rng(1)
    found: list[tuple[npt.NDArray[np.uint8], Box]] = []
    kept, ratios = [], []
    for number, face in enumerate(faces):
        image, true_box = paste(face, rng)
        if one := find_pasted(detector, image, true_box):
            found.append((image, one.box))
            kept.append(number)
            down = (centre(true_box)[1] - centre(one.box)[1]) / one.box.height
            ratios.append((true_box.width / max(one.box.width, one.box.height), down))
    print(f"\n{name}: {len(found)} of {len(faces)} pasted faces found")
    ratio, shift = np.median(ratios, axis=0)
    print(f"the pasted square is {ratio:.3f} of the box (median) and its centre {shift:+.3f} of its height below")
    right = truth[kept]
    original = (classifier.classify(faces[kept]).argmax(axis=1) == right).mean()
    print(f"accuracy on the original images of these faces: {original:.2%}")
    print("scale \\ shift" + "".join(f"{shift:>9.2f}" for shift in SHIFTS))
    best = (0.0, CropSpec())
    for scale in SCALES:
        row = []
        for shift in SHIFTS:
            crop_spec = CropSpec(scale, shift)
            crops = np.stack([crop_face(image, box, 48, 48, crop_spec) for image, box in found])
            accuracy = float((classifier.classify(crops).argmax(axis=1) == right).mean())
            best = max(best, (accuracy, crop_spec))
            row.append(f"{accuracy:>9.2%}")
        print(f"{scale:>13.2f}" + "".join(row))
    print(f"best: {best[0]:.2%} at scale {best[1].scale}, shift {best[1].shift}; at present {detector.crop_spec}")


def measure_alignment(
    name: str,
    detector: FaceDetector,
    classifier: TFLiteClassifier,
    faces: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.int64],
) -> None:
    """Print the accuracy with and without aligning the eyes, for increasing rotation."""
    spec = classifier.card.input
    for degrees in ROLLS:
        rng = np.random.default_rng(1)
        kept, unaligned, aligned = [], [], []
        for number, face in enumerate(faces):
            image, true_box = paste(face, rng, degrees * rng.choice((-1, 1)))
            if one := find_pasted(detector, image, true_box):
                kept.append(number)
                unaligned.append(crop_face(image, one.box, spec.height, spec.width, detector.crop_spec))
                aligned += [crop_face(image, one.box, spec.height, spec.width, detector.crop_spec, roll=one.roll)]
        shares = (
            (classifier.classify(np.stack(crops)).argmax(axis=1) == truth[kept]).mean()
            for crops in (unaligned, aligned, list(faces[kept]))
        )
        without, with_alignment, original = (f"{share:.2%}" for share in shares)
        print(
            f"{name}, rotated by {degrees} degrees: {len(kept)} found; accuracy {without}, with aligned eyes"
            f" {with_alignment}; on the original images {original}"
        )


def main() -> None:
    """Measure each available detector."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="FER-2013 in any form")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--detector", type=Path, default=DEFAULT_DETECTOR, help="our detector, a .tflite")
    parser.add_argument("--yunet", type=Path, help="measure YuNet too, from this ONNX file")
    parser.add_argument("--faces", type=int, default=3589, help="largest number of test faces")
    options = parser.parse_args()
    part = load_dataset(options.data).select_usage()
    classifier = TFLiteClassifier(options.model)
    chosen = np.sort(np.random.default_rng(0).permutation(len(part))[: options.faces])
    truth = part.classes_for(classifier.card.labels)[chosen]
    detectors: dict[str, FaceDetector] = {"network": NetworkDetector(options.detector)}
    if options.yunet:
        detectors["yunet"] = YuNetDetector(options.yunet)
    if HAS_HAAR:
        detectors["haar"] = HaarDetector()
    for name, detector in detectors.items():
        measure(name, detector, classifier, part.faces[chosen], truth)
        if name != "haar":  # Haar finds no landmarks
            measure_alignment(name, detector, classifier, part.faces[chosen], truth)


if __name__ == "__main__":
    try:
        main()
    except FerEdgeError as error:
        sys.exit(f"crop_margin: {error}")
