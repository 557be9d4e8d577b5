"""How well and how fast face detectors find faces: ours, YuNet and, where OpenCV has it, Haar, in one run.

``python benchmarks/faces.py faces/ --yunet face_detection_yunet_2023mar.onnx [--model faces.tflite]``

The marks of the validation part are YuNet's own, of a wider network of it (yunet_n, score 0.6 or more; what scored less
is ignored), so that its recall here is how well it agrees with its kin, and that of the others how well they agree with
YuNet. An eighth of those of 20 pixels and more are dogs, things or backs of heads, by eye: all is told with them and
without, too. Neither finds all of them again in the images as they are stored. Quality is measured in images as
large as they are; below each of YuNet's thresholds, the others have the one that gives as many false alarms an image.
Times are of the processor, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.datasets.faces import FaceImage, load_faces
from fer_edge.detection.metrics import detect_all, match
from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.yunet import YuNetDetector
from fer_edge.geometry import Box, Face, largest_first
from fer_edge.model_zoo import DEFAULT_DETECTOR
from fer_edge.tflite.interpreter import runtime_name
from haar import IS_THERE, HaarDetector

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.detection.base import FaceDetector
    from fer_edge.detection.metrics import ImageDetections

LEAST: Final = 20  # pixels of the longer side of the faces that count
YUNET_THRESHOLDS: Final = (0.5, 0.6, 0.8, 0.7)  # the last is that of `fer-edge --detector yunet`
PORTRAIT: Final = 0.25  # of an image's longer side that the only face in a portrait fills
NO_FACES: Final = Path(__file__).with_name("no_faces.csv")
WARM_UP: Final = 3


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with val/, or that part itself")
    parser.add_argument("--yunet", type=Path, required=True, help="YuNet's ONNX file")
    parser.add_argument("--model", type=Path, default=DEFAULT_DETECTOR, help="our detector, a .tflite")
    parser.add_argument("--images", type=int, help="so many instead of all")
    parser.add_argument("--runs", type=int, default=100, help="frames of each size that each detector is timed on")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    data = load_faces(given.data, "val")
    if given.images:
        data = data.subset(range(0, len(data), max(len(data) // given.images, 1)))
    print(f"OpenCV {cv2.__version__}, {runtime_name()}; {given.model.name}; one thread")
    quality(data, given.model, given.yunet)
    for columns, rows in ((320, 240), (640, 480)):
        speed(data, given.model, given.yunet, (columns, rows), given.runs)


def quality(data: FaceDataset, model: Path, yunet: Path) -> None:
    """Print how well each detector finds what is marked, and what of that is a face."""
    # Every score is kept: thresholds are chosen afterwards.
    detectors: dict[str, FaceDetector] = {
        "yunet": WholeYuNet(yunet),
        "ours": NetworkDetector(model, min_face=1, threshold=0.02),
    }
    if IS_THERE:
        detectors["haar"] = HaarDetector(min_face=1)
    found = {name: detect_all(detector, data) for name, detector in detectors.items()}
    own = NetworkDetector(model).card.threshold
    print("\nAs marked:")
    compare(data, data.images, found, own)
    faces = faces_alone(data)
    none = sum(len(image.boxes) for image in data.images) - sum(len(image.boxes) for image in faces)
    print(f"\nWithout the {none} marks of {LEAST} pixels and more that are no faces ({NO_FACES.name}):")
    compare(data, faces, found, own)


def faces_alone(data: FaceDataset) -> list[FaceImage]:
    """The images with marks of dogs, things and backs of heads as regions that count as neither face nor not."""
    with NO_FACES.open(newline="") as rows:
        listed = {(row["file"], int(row["row"])) for row in csv.DictReader(rows)}
    images = []
    for one in data.images:
        face = np.array([(one.name, row) not in listed for row in range(len(one.boxes))], bool)
        ignored = np.concatenate((one.ignored, one.boxes[~face]))
        images.append(FaceImage(one.name, one.boxes[face], one.scores[face], one.landmarks[face], ignored))
    return images


def compare(
    data: FaceDataset, images: Sequence[FaceImage], found: Mapping[str, Sequence[ImageDetections]], own: float
) -> None:
    """Print recall, portraits and false alarms of each detector at as many false alarms as YuNet has."""
    matches = {name: match(one, images) for name, one in found.items()}
    alone, empty = portraits(data, images), [i for i, one in enumerate(data.images) if not len(one.boxes)]
    without = data.subset(empty).images
    alarms = {name: match([one[i] for i in empty], without) for name, one in found.items()}
    print(f"{len(data)} images, {len(empty)} of them empty; {len(alone)} faces, {alone.sum()} of them portraits")
    print(f"detector  threshold  recall from {LEAST} pixels (of yunet's)  portraits  alarms an image (without faces)")

    def tell(name: str, threshold: float, reference: float) -> None:
        one = matches[name]
        recall = one.recall(threshold, LEAST)
        share = recall / reference if reference else float("nan")
        print(
            f"{name:<10}{threshold:>9.3f}{recall:>14.2%} ({share:.1%})"
            f"{(one.face_scores[alone] >= threshold).mean():>16.2%}"
            f"{one.false_positives_per_image(threshold):>12.4f} "
            f"({alarms[name].false_positives_per_image(threshold):.4f})"
        )

    for threshold in YUNET_THRESHOLDS:
        allowed = matches["yunet"].false_positives_per_image(threshold)
        reference = matches["yunet"].recall(threshold, LEAST)
        tell("yunet", threshold, reference)
        for name in list(found)[1:]:
            tell(name, matches[name].threshold_at(allowed), reference)
    tell("ours", own, reference)
    for name, one in matches.items():
        threshold = one.threshold_at(allowed)
        shares = ", ".join(f"{side}: {share:.1%}" for side, share in one.metrics(threshold).recall_by_side.items())
        print(f"{name:<10}average precision {one.average_precision(LEAST):.2%}; recall by side {shares}")


def portraits(data: FaceDataset, images: Sequence[FaceImage]) -> npt.NDArray[np.bool_]:
    """Of every face, whether it is alone in its image and fills enough of it."""
    chosen: list[bool] = []
    for i, image in enumerate(images):
        sides = image.boxes[:, 2:].max(axis=1)
        alone = len(sides) == 1 and not len(data.images[i].ignored)
        chosen += [alone and bool(side >= PORTRAIT * max(data.gray(i).shape)) for side in sides]
    return np.array(chosen, bool)


class WholeYuNet(YuNetDetector):
    """YuNet in images as large as they are, with every box that scores 0.1 or more."""

    def __init__(self, model: Path) -> None:
        """Load it."""
        super().__init__(model, threshold=0.1)

    def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
        """Faces of any size."""
        del coarse
        self._network.setInputSize(gray.shape[::-1])
        _, rows = self._network.detect(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR))
        found = rows if rows is not None else ()
        return largest_first(Face(Box(*row[:4].tolist()), float(row[-1])) for row in found)


def timed(
    detectors: Mapping[str, FaceDetector], frames: Sequence[npt.NDArray[np.uint8]], runs: int
) -> dict[str, float]:
    """Median of the processor's time that a frame takes each, in milliseconds; they are measured in turns."""
    taken: dict[str, list[float]] = {name: [] for name in detectors}
    for run in range(-WARM_UP, runs):
        frame = frames[run % len(frames)]
        for name, detector in detectors.items():
            begin = time.process_time_ns()
            detector.detect(frame)
            if run >= 0:
                taken[name].append((time.process_time_ns() - begin) / 1e6)
    return {name: float(np.median(times)) for name, times in taken.items()}


def speed(data: FaceDataset, model: Path, yunet: Path, size: tuple[int, int], runs: int) -> None:
    """Print what a frame takes each detector, in turns, for machines are noisy."""
    rows = [i for i, image in enumerate(data.images) if len(image.boxes)][:runs]
    frames = [np.asarray(cv2.resize(data.gray(i), size), np.uint8) for i in rows]
    for what, min_face in (("smallest face a sixteenth of the width", None), ("of twenty pixels", LEAST)):
        detectors: dict[str, FaceDetector] = {
            "yunet": YuNetDetector(yunet, min_face),
            "ours": NetworkDetector(model, min_face),
        }
        if IS_THERE:
            detectors["haar"] = HaarDetector(min_face)
        p50 = timed(detectors, frames, runs)
        shown = ", ".join(f"{name} {one:.2f} ms ({one / p50['yunet']:.2f} of yunet)" for name, one in p50.items())
        print(f"{size[0]}x{size[1]}, {what}: {shown}")


if __name__ == "__main__":
    main()
