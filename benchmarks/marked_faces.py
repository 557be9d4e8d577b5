"""Compare face detectors on the images whose faces were marked by eye (benchmarks/face_marks).

``python benchmarks/marked_faces.py faces/ --yunet yunet_s.onnx [--yunet yunet_n.onnx] [--model faces.tflite]
[--first-stage]``

Prints average precision, recall by face size, pose and cover, and false positives of each detector, with 95 % intervals
from resampling groups of near-duplicate images. The first YuNet file, at the threshold of ``fer-edge --detector
yunet``, gives the number of false positives per image; each other detector uses the threshold with the same number.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import msgspec
import numpy as np

from faces import FullSizeYuNet
from fer_edge.datasets.faces import FaceDataset, FaceImage, load_faces
from fer_edge.detection.metrics import MATCH_IOU, Matches, detect_all, match
from fer_edge.detection.network import NetworkDetector
from fer_edge.model_zoo import DEFAULT_DETECTOR
from fer_edge.modelcard.archive import model_bytes, with_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import DetectorCard
from fer_edge.tflite.interpreter import runtime_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from fer_edge.detection.base import FaceDetector

MARKS: Final = Path(__file__).with_name("face_marks")
YUNET_THRESHOLD: Final = 0.7  # of `fer-edge --detector yunet`
SIDES: Final = ((12, 20), (20, 32), (32, 64), (64, 128), (128, np.inf), (64, np.inf))  # pixels
COLUMNS: Final = ("pose", "covered")
POSES: Final = ("frontal", "turned", "profile", "bowed", "tilted")
COVERS: Final = {
    "behind glasses": {"glasses", "sunglasses"},
    "behind a hand, mask or object": {"hand", "mask", "object"},
}
MIN_POSE_SIDE: Final = 32  # pixels; pose and cover of smaller faces are not certain
SEED: Final = 7


class MarkedMatches(NamedTuple):
    """Detected faces, matched with the marked ones, and the pose and covers of each marked face."""

    all: Matches
    poses: npt.NDArray[np.str_]
    covers: npt.NDArray[np.str_]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/ and val/")
    parser.add_argument("--yunet", type=Path, required=True, action="append", help="YuNet's ONNX file")
    parser.add_argument("--model", type=Path, default=DEFAULT_DETECTOR, help="our detector, a .tflite")
    parser.add_argument("--first-stage", action="store_true", help="measure our detector's first stage alone, too")
    parser.add_argument("--marks", type=Path, default=MARKS, help="folder with marks.csv and split.csv")
    parser.add_argument("--min-iou", type=float, default=MATCH_IOU, help="lowest overlap of a box with its face, 0..1")
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"OpenCV {cv2.__version__}, {runtime_name()}; {options.model.name}")
    # Low thresholds keep every score; the thresholds to compare are chosen afterwards.
    detectors: dict[str, FaceDetector] = {path.stem: FullSizeYuNet(path) for path in options.yunet}
    detectors["ours"] = NetworkDetector(options.model, min_face=1, min_score=1e-4)
    if options.first_stage:
        detectors["first stage"] = first_stage(options.model)
    with (options.marks / "split.csv").open(newline="") as rows:
        split = {row["file"]: row for row in csv.DictReader(rows)}
    for part, title in (("val", "Images of sources without training images"), ("train", "Images seen in training")):
        data, rows_of = read_marked(load_faces(options.data, part), options.marks)
        clusters: dict[str, list[int]] = defaultdict(list)
        for i, image in enumerate(data.images):
            clusters[split[image.name]["group"]].append(i)
        print(f"\n{title}: {len(data)} in {len(clusters)} groups, {sum(len(one.boxes) for one in data.images)} faces")
        found = {name: detect_all(detector, data) for name, detector in detectors.items()}
        matches = {
            name: [
                MarkedMatches(
                    match([boxes], [image], options.min_iou),
                    *(np.array([row[key] for row in rows], str) for key in COLUMNS),
                )
                for boxes, image, rows in zip(ones, data.images, rows_of, strict=True)
            ]
            for name, ones in found.items()
        }
        subsets = {
            "without a face": np.array([not len(image.boxes) for image in data.images]),
            "of animals and other distractors": np.array(
                [split[image.name]["type"] == "distractor" for image in data.images]
            ),
        }
        compare(matches, subsets, list(clusters.values()), options.resamples)


def first_stage(model: Path) -> NetworkDetector:
    """Return the first stage of a detector as a detector."""
    card = msgspec.structs.replace(read_card(model, DetectorCard), refiner=None, calibration=None)
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "first.tflite"
        alone.write_bytes(with_card(model_bytes(model), card))
        return NetworkDetector(alone, min_face=1, min_score=1e-4)


def read_marked(data: FaceDataset, marks: Path) -> tuple[FaceDataset, list[list[dict[str, str]]]]:
    """Return the marked images with the marks as labels, and the table's row of each face in each image."""
    marked: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (marks / "marks.csv").open(newline="") as rows:
        for row in csv.DictReader(rows):
            marked[row["file"]].append(row)
    indices = [i for i, image in enumerate(data.images) if image.name in marked]
    images, face_rows = [], []
    for rows_of in (marked[data.images[i].name] for i in indices):
        faces = [row for row in rows_of if row["kind"] == "face"]
        ignored = [row for row in rows_of if row["kind"] == "ignore"]
        unknown = np.full((len(faces), 5, 2), np.nan, np.float32)
        ones = np.ones(len(faces), np.float32)
        images.append(FaceImage(rows_of[0]["file"], boxes_of(faces), ones, unknown, boxes_of(ignored)))
        face_rows.append(faces)
    files = tuple(data.files[i] for i in indices)
    return FaceDataset(data.name, tuple(images), labelled=True, files=files), face_rows


def boxes_of(rows: Sequence[Mapping[str, str]]) -> npt.NDArray[np.float32]:
    """Return the boxes of some rows, of shape (n, 4)."""
    return np.array([[float(row[key]) for key in "xywh"] for row in rows], np.float32).reshape(-1, 4)


def compare(
    matches: Mapping[str, Sequence[MarkedMatches]],
    subsets: Mapping[str, npt.NDArray[np.bool_]],
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
    for title, chosen in subsets.items():
        counts = [
            sum(int((ones[i].all.false_positives >= limits[name]).sum()) for i in np.flatnonzero(chosen).tolist())
            for name, ones in matches.items()
        ]
        print(f"| false positives in the {chosen.sum()} images {title} | " + " | ".join(map(str, counts)) + " | |")
    print_overlap(whole, limits)


def measure(matches: MarkedMatches, limit: float) -> dict[str, float]:
    """Compute all rows of the table."""
    rows = {"average precision": matches.all.average_precision(min(SIDES)[0])}
    for low, high in SIDES:
        name = f"recall {low} px and more" if high == np.inf else f"recall {low} to {high:g} px"
        rows[name] = matches.all.recall(limit, low, high)
    for name, members in classes(matches).items():
        scores = matches.all.face_scores[members]
        rows[f"recall {name}, {MIN_POSE_SIDE} px and more"] = float((scores >= limit).mean()) if len(scores) else np.nan
    rows["false positives per image"] = matches.all.false_positives_per_image(limit)
    return rows


def classes(matches: MarkedMatches) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which of the larger faces belong to each class of pose or cover."""
    groups = {pose: matches.poses == pose for pose in POSES}
    for name, covers in COVERS.items():
        groups[name] = np.array([bool(covers & set(one.split("+"))) for one in matches.covers], bool)
    return {name: members & (matches.all.sides >= MIN_POSE_SIDE) for name, members in groups.items()}


def print_overlap(matches: Mapping[str, MarkedMatches], limits: Mapping[str, float]) -> None:
    """Print how many of the larger faces are found by both the first detector and ours, by one, and by neither."""
    first = next(iter(matches))
    other, ours = (matches[name].all.face_scores >= limits[name] for name in (first, "ours"))
    print(f"\n| faces of {MIN_POSE_SIDE} px and more | all | by both | only by ours | only by {first} | by neither |")
    print("|---|---|---|---|---|---|")
    for name, members in classes(matches[first]).items():
        found = (members, ours & other, ours & ~other, other & ~ours, ~other & ~ours)
        print(f"| {name} | " + " | ".join(str((members & one).sum()) for one in found) + " |")


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
        np.concatenate([one.covers for one in parts]),
    )


def show(value: float, samples: npt.NDArray[np.float64]) -> str:
    """Write a value and its 95 % interval."""
    low, high = np.nanpercentile(samples, (2.5, 97.5))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
