"""Compare face detectors on the images whose faces were marked by eye (benchmarks/face_marks).

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
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

from faces import FullSizeYuNet
from fer_edge.datasets.faces import FaceDataset, FaceImage, load_faces
from fer_edge.detection.metrics import Matches, detect_all, match
from fer_edge.detection.network import NetworkDetector
from fer_edge.model_zoo import DEFAULT_DETECTOR
from fer_edge.tflite.interpreter import runtime_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from fer_edge.detection.base import FaceDetector

MARKS: Final = Path(__file__).with_name("face_marks")
YUNET_THRESHOLD: Final = 0.7  # of `fer-edge --detector yunet`
SIDES: Final = ((12, 20), (20, 32), (32, 64), (64, 128), (128, np.inf), (64, np.inf))  # pixels
POSES: Final = ("frontal", "turned", "profile", "bowed", "tilted")
MIN_POSE_SIDE: Final = 32  # pixels; the pose of smaller faces is not certain
SEED: Final = 7


class MarkedMatches(NamedTuple):
    """Detected faces, matched with the marked ones, and the pose of each marked face."""

    all: Matches
    poses: npt.NDArray[np.str_]


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
        data, poses = read_marked(load_faces(options.data, part))
        clusters: dict[str, list[int]] = defaultdict(list)
        for i, image in enumerate(data.images):
            clusters[split[image.name]["group"]].append(i)
        print(f"\n{title}: {len(data)} in {len(clusters)} groups, {sum(len(one.boxes) for one in data.images)} faces")
        found = {name: detect_all(detector, data) for name, detector in detectors.items()}
        matches = {
            name: [
                MarkedMatches(match([boxes], [image]), np.array(pose, str))
                for boxes, image, pose in zip(ones, data.images, poses, strict=True)
            ]
            for name, ones in found.items()
        }
        empty = np.array([not len(image.boxes) for image in data.images])
        compare(matches, empty, list(clusters.values()), options.resamples)


def read_marked(data: FaceDataset) -> tuple[FaceDataset, list[list[str]]]:
    """Return the marked images with the marks as labels, and the pose of each face in each image."""
    marked: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (MARKS / "marks.csv").open(newline="") as rows:
        for row in csv.DictReader(rows):
            marked[row["file"]].append(row)
    indices = [i for i, image in enumerate(data.images) if image.name in marked]
    images, poses = [], []
    for rows_of in (marked[data.images[i].name] for i in indices):
        faces = [row for row in rows_of if row["kind"] == "face"]
        ignored = [row for row in rows_of if row["kind"] == "ignore"]
        unknown = np.full((len(faces), 5, 2), np.nan, np.float32)
        ones = np.ones(len(faces), np.float32)
        images.append(FaceImage(rows_of[0]["file"], boxes_of(faces), ones, unknown, boxes_of(ignored)))
        poses.append([row["pose"] for row in faces])
    files = tuple(data.files[i] for i in indices)
    return FaceDataset(data.name, tuple(images), labelled=True, files=files), poses


def boxes_of(rows: Sequence[Mapping[str, str]]) -> npt.NDArray[np.float32]:
    """Return the boxes of some rows, of shape (n, 4)."""
    return np.array([[float(row[key]) for key in "xywh"] for row in rows], np.float32).reshape(-1, 4)


def compare(
    matches: Mapping[str, Sequence[MarkedMatches]],
    empty: npt.NDArray[np.bool_],
    clusters: Sequence[Sequence[int]],
    resamples: int,
) -> None:
    """Print a table of all detectors at the first one's number of false positives."""
    first = next(iter(matches))
    random = np.random.default_rng(SEED)
    draws = [
        np.concatenate([clusters[k] for k in random.integers(len(clusters), size=len(clusters))])
        for _ in range(resamples)
    ]
    whole = {name: join(one) for name, one in matches.items()}
    rate = whole[first].all.false_positives_per_image(YUNET_THRESHOLD)
    limits = {name: YUNET_THRESHOLD if name == first else one.all.threshold_at(rate) for name, one in whole.items()}
    values, samples = {}, {}
    for name, one in matches.items():
        values[name] = measure(whole[name], limits[name])
        drawn = [measure(join([one[i] for i in draw]), limits[name]) for draw in draws]
        samples[name] = {row: np.array([sample[row] for sample in drawn]) for row in values[name]}
    print("| | " + " | ".join(f"{name} at {limits[name]:.2f}" for name in matches) + f" | ours minus {first} |")
    print("|---" * (len(matches) + 2) + "|")
    for row in values[first]:
        cells = [show(values[name][row], samples[name][row]) for name in matches]
        difference = show(values["ours"][row] - values[first][row], samples["ours"][row] - samples[first][row])
        print(f"| {row} | " + " | ".join(cells) + f" | {difference} |")
    counts = [
        sum(int((one.all.false_positives >= limits[name]).sum()) for one, none in zip(ones, empty, strict=True) if none)
        for name, ones in matches.items()
    ]
    print(f"| false positives in the {empty.sum()} images without a face | " + " | ".join(map(str, counts)) + " | |")


def measure(matches: MarkedMatches, limit: float) -> dict[str, float]:
    """Compute all rows of the table."""
    rows = {"average precision": matches.all.average_precision(min(SIDES)[0])}
    for low, high in SIDES:
        name = f"recall {low} px and more" if high == np.inf else f"recall {low} to {high:g} px"
        rows[name] = matches.all.recall(limit, low, high)
    for pose in POSES:
        of_pose = matches.all.face_scores[(matches.poses == pose) & (matches.all.sides >= MIN_POSE_SIDE)]
        rows[f"recall {pose}, {MIN_POSE_SIDE} px and more"] = (
            float((of_pose >= limit).mean()) if len(of_pose) else float("nan")
        )
    rows["false positives per image"] = matches.all.false_positives_per_image(limit)
    return rows


def join(parts: Sequence[MarkedMatches]) -> MarkedMatches:
    """Return the matches of several images as one."""
    return MarkedMatches(
        Matches(
            np.concatenate([one.all.face_scores for one in parts]),
            np.concatenate([one.all.sides for one in parts]),
            np.concatenate([one.all.false_positives for one in parts]),
            len(parts),
        ),
        np.concatenate([one.poses for one in parts]),
    )


def show(value: float, samples: npt.NDArray[np.float64]) -> str:
    """Write a value and its 95 % interval."""
    low, high = np.nanpercentile(samples, (2.5, 97.5))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
