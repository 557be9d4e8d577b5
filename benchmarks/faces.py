"""Compare the accuracy and speed of face detectors: ours, YuNet and, if OpenCV has it, Haar.

``python benchmarks/faces.py faces/ --yunet face_detection_yunet_2023mar.onnx [--model faces.tflite]``

The labels of the validation part come from a wider YuNet network (yunet_n, score 0.6 or more; boxes with lower scores
are ignored). YuNet's recall here therefore shows how well it agrees with its own family, and the recall of the others
how well they agree with YuNet. Checked by eye, an eighth of the labelled boxes of 20 pixels and more are dogs, objects
or backs of heads, so the results are printed with and without them. No detector finds all labelled boxes in the
stored images.

Accuracy is measured on images of the original size. Below each of YuNet's thresholds, the other detectors use the
threshold with the same number of false positives per image. Times are processor time, which other programs on the
machine disturb less than elapsed time.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.datasets.faces import FaceImage, load_faces, without_test_images
from fer_edge.detection.metrics import detect_all, match
from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.yunet import YuNetDetector
from fer_edge.geometry import Box, Face, largest_first
from fer_edge.model_zoo import DEFAULT_DETECTOR
from fer_edge.tflite.interpreter import runtime_name
from haar import HAS_HAAR, HaarDetector

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.detection.base import FaceDetector
    from fer_edge.detection.metrics import ImageDetections

MIN_SIDE: Final = 20  # pixels; smaller faces do not count
YUNET_THRESHOLDS: Final = (0.5, 0.6, 0.8, 0.7)  # the last is the threshold of `fer-edge --detector yunet`
PORTRAIT: Final = 0.25  # lowest side of the only face in a portrait, relative to the image's longer side
NOT_FACES: Final = Path(__file__).with_name("no_faces.csv")
WARM_UP: Final = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with val/, or the validation part itself")
    parser.add_argument("--yunet", type=Path, required=True, help="YuNet's ONNX file")
    parser.add_argument("--model", type=Path, default=DEFAULT_DETECTOR, help="our detector, a .tflite")
    parser.add_argument("--split", type=Path, help="table of the images that are reserved for tests, to leave them out")
    parser.add_argument("--images", type=int, help="number of images to use instead of all")
    parser.add_argument("--runs", type=int, default=100, help="number of timed frames of each size for each detector")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    data = load_faces(options.data, "val")
    if options.split:
        (data,) = without_test_images([data], options.split)
    if options.images:
        data = data.subset(range(0, len(data), max(len(data) // options.images, 1)))
    print(f"OpenCV {cv2.__version__}, {runtime_name()}; {options.model.name}; one thread")
    measure_accuracy(data, options.model, options.yunet)
    for columns, rows in ((320, 240), (640, 480)):
        measure_speed(data, options.model, options.yunet, (columns, rows), options.runs)


def measure_accuracy(data: FaceDataset, model: Path, yunet: Path) -> None:
    """Print the accuracy of each detector for all labelled boxes and for those that are faces."""
    # Low thresholds keep every score; the thresholds to compare are chosen afterwards.
    detectors: dict[str, FaceDetector] = {
        "yunet": FullSizeYuNet(yunet),
        "ours": NetworkDetector(model, min_face=1, min_score=1e-4),
    }
    if HAS_HAAR:
        detectors["haar"] = HaarDetector(min_face=1)
    found = {name: detect_all(detector, data) for name, detector in detectors.items()}
    own = NetworkDetector(model).card.min_score
    print("\nAs labelled:")
    compare(data, data.images, found, own)
    faces = without_other_objects(data)
    removed = sum(len(image.boxes) for image in data.images) - sum(len(image.boxes) for image in faces)
    print(f"\nWithout the {removed} labels of {MIN_SIDE} pixels and more that are not faces ({NOT_FACES.name}):")
    compare(data, faces, found, own)


def without_other_objects(data: FaceDataset) -> list[FaceImage]:
    """Return the labels with boxes of dogs, objects and backs of heads turned into ignored regions."""
    with NOT_FACES.open(newline="") as rows:
        listed = {(row["file"], int(row["row"])) for row in csv.DictReader(rows)}
    images = []
    for image in data.images:
        face = np.array([(image.name, row) not in listed for row in range(len(image.boxes))], bool)
        ignored = np.concatenate((image.ignored, image.boxes[~face]))
        images.append(FaceImage(image.name, image.boxes[face], image.scores[face], image.landmarks[face], ignored))
    return images


def compare(
    data: FaceDataset, images: Sequence[FaceImage], found: Mapping[str, Sequence[ImageDetections]], own: float
) -> None:
    """Print recall, portraits and false positives of each detector at YuNet's number of false positives."""
    matches = {name: match(one, images) for name, one in found.items()}
    portrait, empty = find_portraits(data, images), [i for i, one in enumerate(data.images) if not len(one.boxes)]
    empty_images = data.subset(empty).images
    empty_matches = {name: match([one[i] for i in empty], empty_images) for name, one in found.items()}
    print(f"{len(data)} images, {len(empty)} of them empty; {len(portrait)} faces, {portrait.sum()} of them portraits")
    print(
        f"detector  threshold  recall from {MIN_SIDE} pixels (relative to yunet)  portraits"
        "  false positives per image (without faces)"
    )

    def print_row(name: str, threshold: float, reference: float) -> None:
        one = matches[name]
        recall = one.recall(threshold, MIN_SIDE)
        share = recall / reference if reference else float("nan")
        print(
            f"{name:<10}{threshold:>9.3f}{recall:>14.2%} ({share:.1%})"
            f"{(one.face_scores[portrait] >= threshold).mean():>16.2%}"
            f"{one.false_positives_per_image(threshold):>12.4f} "
            f"({empty_matches[name].false_positives_per_image(threshold):.4f})"
        )

    for threshold in YUNET_THRESHOLDS:
        allowed = matches["yunet"].false_positives_per_image(threshold)
        reference = matches["yunet"].recall(threshold, MIN_SIDE)
        print_row("yunet", threshold, reference)
        for name in list(found)[1:]:
            print_row(name, matches[name].threshold_at(allowed), reference)
    print_row("ours", own, reference)
    for name, one in matches.items():
        threshold = one.threshold_at(allowed)
        shares = ", ".join(f"{side}: {share:.1%}" for side, share in one.metrics(threshold).recall_by_side.items())
        print(f"{name:<10}average precision {one.average_precision(MIN_SIDE):.2%}; recall by side {shares}")


def find_portraits(data: FaceDataset, images: Sequence[FaceImage]) -> npt.NDArray[np.bool_]:
    """Return for each face whether it is the only one in its image and large enough for a portrait."""
    result: list[bool] = []
    for i, image in enumerate(images):
        sides = image.boxes[:, 2:].max(axis=1)
        alone = len(sides) == 1 and not len(data.images[i].ignored)
        result += [alone and bool(side >= PORTRAIT * max(data.gray(i).shape)) for side in sides]
    return np.array(result, bool)


class FullSizeYuNet(YuNetDetector):
    """YuNet on images of the original size, with every box that scores 0.1 or more."""

    def __init__(self, model: Path) -> None:
        """Load the network."""
        super().__init__(model, min_score=0.1)

    def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
        """Find faces of any size."""
        del coarse
        self._network.setInputSize(gray.shape[::-1])
        _, rows = self._network.detect(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR))
        found = rows if rows is not None else ()
        return largest_first(Face(Box(*row[:4].tolist()), float(row[-1])) for row in found)


def time_detectors(
    detectors: Mapping[str, FaceDetector], frames: Sequence[npt.NDArray[np.uint8]], runs: int
) -> dict[str, float]:
    """Return each detector's median processor time per frame, in milliseconds; the detectors take turns."""
    taken: dict[str, list[float]] = {name: [] for name in detectors}
    for run in range(-WARM_UP, runs):
        frame = frames[run % len(frames)]
        for name, detector in detectors.items():
            begin = time.process_time_ns()
            detector.detect(frame)
            if run >= 0:
                taken[name].append((time.process_time_ns() - begin) / 1e6)
    return {name: float(np.median(times)) for name, times in taken.items()}


def measure_speed(data: FaceDataset, model: Path, yunet: Path, size: tuple[int, int], runs: int) -> None:
    """Print each detector's time per frame; the detectors take turns, because the machine's speed varies."""
    rows = [i for i, image in enumerate(data.images) if len(image.boxes)][:runs]
    frames = [np.asarray(cv2.resize(data.gray(i), size), np.uint8) for i in rows]
    for setting, min_face in (("smallest face a sixteenth of the width", None), ("of twenty pixels", MIN_SIDE)):
        detectors: dict[str, FaceDetector] = {
            "yunet": YuNetDetector(yunet, min_face),
            "ours": NetworkDetector(model, min_face),
        }
        if HAS_HAAR:
            detectors["haar"] = HaarDetector(min_face)
        p50 = time_detectors(detectors, frames, runs)
        times = ", ".join(f"{name} {one:.2f} ms ({one / p50['yunet']:.2f} of yunet)" for name, one in p50.items())
        print(f"{size[0]}x{size[1]}, {setting}: {times}")


if __name__ == "__main__":
    main()
