"""Compare face detectors on the images whose faces one person marked by eye (benchmarks/face_marks).

``python benchmarks/marked_faces.py faces/ --yunet yunet_s.onnx [--yunet yunet_n.onnx] [--model faces.tflite]``

Prints average precision, recall by face size and false positives of each detector, with 95 % intervals from resampling
groups of near-duplicate images.  The first YuNet file, at the threshold of ``fer-edge --detector yunet``, gives the
number of false positives per image; each other detector uses the threshold with the same number.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from faces import FullSizeYuNet
from fer_edge.datasets.faces import FaceDataset, FaceImage, load_faces
from fer_edge.detection.metrics import Matches, detect_all, match
from fer_edge.detection.network import NetworkDetector
from fer_edge.model_zoo import DEFAULT_DETECTOR
from fer_edge.tflite.interpreter import runtime_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fer_edge.detection.base import FaceDetector

MARKS: Final = Path(__file__).with_name("face_marks")
YUNET_THRESHOLD: Final = 0.7  # of `fer-edge --detector yunet`
SIDES: Final = ((12, 20), (20, 32), (32, 64), (64, 128), (128, np.inf), (64, np.inf))  # pixels
SEED: Final = 7


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/ and val/")
    parser.add_argument("--yunet", type=Path, required=True, action="append", help="YuNet's ONNX file")
    parser.add_argument("--model", type=Path, default=DEFAULT_DETECTOR, help="our detector, a .tflite")
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"OpenCV {cv2.__version__}, {runtime_name()}; {options.model.name}")
    # Low thresholds keep every score; the thresholds to compare are chosen afterwards.
    detectors: dict[str, FaceDetector] = {path.stem: FullSizeYuNet(path) for path in options.yunet}
    detectors["ours"] = NetworkDetector(options.model, min_face=1, threshold=0.02)
    with (MARKS / "split.csv").open(newline="") as rows:
        split = {row["file"]: row for row in csv.DictReader(rows)}
    for part, title in (("val", "Images of sources without training images"), ("train", "Images seen in training")):
        data = read_marked(load_faces(options.data, part))
        clusters: dict[str, list[int]] = defaultdict(list)
        for i, image in enumerate(data.images):
            clusters[split[image.name]["group"]].append(i)
        print(f"\n{title}: {len(data)} in {len(clusters)} groups, {sum(len(one.boxes) for one in data.images)} faces")
        found = {name: detect_all(detector, data) for name, detector in detectors.items()}
        matches = {
            name: [match([boxes], [image]) for boxes, image in zip(boxes_of, data.images, strict=True)]
            for name, boxes_of in found.items()
        }
        empty = np.array([not len(image.boxes) for image in data.images])
        compare(matches, empty, list(clusters.values()), options.resamples)


def read_marked(data: FaceDataset) -> FaceDataset:
    """Return the marked images with the marks as labels."""
    faces, ignored = defaultdict[str, list[list[float]]](list), defaultdict[str, list[list[float]]](list)
    names = set()
    with (MARKS / "marks.csv").open(newline="") as rows:
        for row in csv.DictReader(rows):
            names.add(row["file"])
            if row["kind"]:
                boxes = faces if row["kind"] == "face" else ignored
                boxes[row["file"]].append([float(row[key]) for key in "xywh"])
    indices = [i for i, image in enumerate(data.images) if image.name in names]
    images = []
    for name in (data.images[i].name for i in indices):
        boxes = np.array(faces[name], np.float32).reshape(-1, 4)
        unknown = np.full((len(boxes), 5, 2), np.nan, np.float32)
        regions = np.array(ignored[name], np.float32).reshape(-1, 4)
        images.append(FaceImage(name, boxes, np.ones(len(boxes), np.float32), unknown, regions))
    return FaceDataset(data.name, tuple(images), labelled=True, files=tuple(data.files[i] for i in indices))


def compare(
    matches: Mapping[str, Sequence[Matches]], empty: np.ndarray, clusters: Sequence[Sequence[int]], resamples: int
) -> None:
    """Print a table of all detectors at the first one's number of false positives."""
    first = next(iter(matches))
    images = len(empty)
    random = np.random.default_rng(SEED)
    draws = [
        np.concatenate([clusters[k] for k in random.integers(len(clusters), size=len(clusters))])
        for _ in range(resamples)
    ]
    rate = join(matches[first], range(images)).false_positives_per_image(YUNET_THRESHOLD)
    limits = {
        name: YUNET_THRESHOLD if name == first else join(one, range(images)).threshold_at(rate)
        for name, one in matches.items()
    }

    def measures(limit: float) -> dict[str, Callable[[Matches], float]]:
        return {
            "average precision": lambda one: one.average_precision(12),
            **{
                f"recall {low} px and more" if high == np.inf else f"recall {low} to {high} px": (
                    lambda one, low=low, high=high: one.recall(limit, low, high)
                )
                for low, high in SIDES
            },
            "false positives per image": lambda one: one.false_positives_per_image(limit),
        }

    print("| | " + " | ".join(f"{name} at {limits[name]:.2f}" for name in matches) + f" | ours minus {first} |")
    print("|---" * (len(matches) + 2) + "|")
    for row in measures(0):
        values, samples = {}, {}
        for name, one in matches.items():
            measure = measures(limits[name])[row]
            values[name] = measure(join(one, range(images)))
            samples[name] = np.array([measure(join(one, draw)) for draw in draws])
        cells = [show(values[name], samples[name]) for name in matches]
        difference = show(values["ours"] - values[first], samples["ours"] - samples[first])
        print(f"| {row} | " + " | ".join(cells) + f" | {difference} |")
    counts = [
        sum(len(one.false_positives[one.false_positives >= limits[name]]) for one in np.array(found, object)[empty])
        for name, found in matches.items()
    ]
    print(f"| false positives in the {empty.sum()} images without a face | " + " | ".join(map(str, counts)) + " | |")


def join(matches: Sequence[Matches], chosen: Sequence[int] | np.ndarray) -> Matches:
    """Return the matches of several images as one."""
    ones = [matches[i] for i in chosen]
    return Matches(
        np.concatenate([one.face_scores for one in ones]),
        np.concatenate([one.sides for one in ones]),
        np.concatenate([one.false_positives for one in ones]),
        len(ones),
    )


def show(value: float, samples: np.ndarray) -> str:
    """Write a value and its 95 % interval."""
    low, high = np.nanpercentile(samples, (2.5, 97.5))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
