"""Measure how the accuracy of a classifier falls with the size, the sharpness and the yaw of a face.

``python benchmarks/face_quality.py fer2013.csv [--model edge.tflite]``

The faces are made smaller and enlarged again as `crop_face` does, blurred (Gaussian), or moved (a horizontal
mean). Yaw cannot be made, so faces are grouped by the yaw that the detector's landmarks give for the pasted face, as in
``crop_margin.py``. The limits of `fer_edge.quality` are where a quarter of the right answers is lost. Intervals of 95 %
are Wilson's.
"""

from __future__ import annotations

import argparse
import itertools
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from crop_margin import find_pasted, paste
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.classification.comparison import wilson_interval
from fer_edge.classification.crop import crop_whole_image
from fer_edge.datasets.readers import load_dataset
from fer_edge.detection.network import NetworkDetector
from fer_edge.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from fer_edge.quality import estimate_yaw, measure_sharpness

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from fer_edge.modelcard.schema import InputSpec

SIDES: Final = (32, 24, 20, 16, 12)  # pixels
SIGMAS: Final = (0.5, 0.75, 1.0, 1.5, 2.0)  # pixels of the 48
LENGTHS: Final = (3, 5, 7, 9)  # pixels of the 48
SHARPNESS: Final = (0.0, 0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.4, np.inf)
YAWS: Final = (0, 10, 20, 30, 40, 90)  # degrees


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="FER-2013 in any form")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--faces", type=int, default=3589, help="largest number of test faces")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    classifier = TFLiteClassifier(options.model)
    part = load_dataset(options.data).select_usage()
    chosen = np.sort(np.random.default_rng(0).permutation(len(part))[: options.faces])
    faces, truth = part.faces[chosen], part.classes_for(classifier.card.labels)[chosen]
    print(f"{options.model.name}, {len(faces)} faces of {part.name}\n")
    print("| faces | sharpness (median) | accuracy | mean score |\n|---|---|---|---|")
    right, scores, sharpness = measure_all(classifier, faces, truth)
    print("\n| sharpness, all of the above | faces | accuracy | mean score |\n|---|---|---|---|")
    for low, high in itertools.pairwise(SHARPNESS):
        print_group(f"{low:g} to {high:g}", (sharpness >= low) & (sharpness < high), right, scores)
    yaws, found = find_yaws(faces)
    answers = classifier.classify(crops_of(faces, classifier.card.input))[found]
    print("\n| yaw, as they are | faces | accuracy | mean score |\n|---|---|---|---|")
    for low, high in itertools.pairwise(YAWS):
        group = (np.abs(yaws) >= low) & (np.abs(yaws) < high)
        print_group(f"{low} to {high} degrees", group, answers.argmax(axis=1) == truth[found], answers.max(axis=1))


def measure_all(
    classifier: TFLiteClassifier, faces: npt.NDArray[np.uint8], truth: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Print a row for each change of the faces; return which answers are right, their scores and the sharpness."""
    changes: dict[str, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]] = {"as they are": np.copy}
    changes |= {f"of {side} pixels": partial(shrink, side=side) for side in SIDES}
    changes |= {f"blurred, sigma {sigma:g} pixels": partial(blur, sigma=sigma) for sigma in SIGMAS}
    changes |= {f"moved by {length} pixels": partial(move, length=length) for length in LENGTHS}
    right, scores, sharpness = [], [], []
    for name, change in changes.items():
        crops = crops_of(np.array([change(face) for face in faces]), classifier.card.input)
        answers = classifier.classify(crops)
        right.append(answers.argmax(axis=1) == truth)
        scores.append(answers.max(axis=1))
        sharpness.append(np.array([measure_sharpness(crop) for crop in crops]))
        print(f"| {name} | {np.median(sharpness[-1]):.3f} | {share(right[-1])} | {scores[-1].mean():.3f} |", flush=True)
    return np.concatenate(right), np.concatenate(scores), np.concatenate(sharpness)


def crops_of(faces: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Return the faces in the size of a classifier's input."""
    return np.stack([crop_whole_image(face, spec.height, spec.width) for face in faces])


def shrink(face: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Return a face as a camera sees it that has so few pixels for it."""
    return np.asarray(cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def blur(face: npt.NDArray[np.uint8], sigma: float) -> npt.NDArray[np.uint8]:
    """Return a face out of focus; the deviation is in pixels."""
    return np.asarray(cv2.GaussianBlur(face, (0, 0), sigma), np.uint8)


def move(face: npt.NDArray[np.uint8], length: int) -> npt.NDArray[np.uint8]:
    """Return a face that moved to the side while the shutter was open; the length is in pixels."""
    return np.asarray(cv2.blur(face, (length, 1)), np.uint8)


def find_yaws(faces: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Paste each face and detect it; return the yaw of those that were found, in degrees, and their numbers."""
    detector, random = NetworkDetector(DEFAULT_DETECTOR), np.random.default_rng(1)
    yaws, found = [], []
    for number, face in enumerate(faces):
        image, box = paste(face, random)
        one = find_pasted(detector, image, box)
        if one and one.landmarks and (yaw := estimate_yaw(one.landmarks)) is not None:
            yaws.append(yaw)
            found.append(number)
    return np.array(yaws), np.array(found, np.intp)


def print_group(
    name: str,
    group: npt.NDArray[np.bool_],
    right: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.float32],
) -> None:
    """Print a row of a table."""
    if group.any():
        print(f"| {name} | {group.sum()} | {share(right[group])} | {scores[group].mean():.3f} |")


def share(right: npt.NDArray[np.bool_]) -> str:
    """Write the share of right answers and its interval."""
    low, high = wilson_interval(float(right.mean()), len(right))
    return f"{right.mean():.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
