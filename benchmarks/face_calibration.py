"""Calibrate the scores of a face detector, so that a score is the expected precision of boxes with this score.

``python benchmarks/face_calibration.py faces/ [--model faces.tflite] [--write]``

The scores are fitted on the development part of the validation images by Platt scaling of the log odds (Platt 1999);
beta calibration (Kull, Silva Filho & Flach 2017), which has one number more, gives no lower log loss there. The labels
come from YuNet; ``face_marks/development.csv`` corrects them wherever they are wrong for a box of the shipped detector
with an uncalibrated score of 0.3 or more. The boxes of other detectors were not looked at.

Prints the calibration, and how far scores and shares of faces differ: on the development part, where each box gets its
score from a fit to other groups of images (ten folds), and on the images of the test part of sources without training
images, which no fit has seen. Intervals of 95 % come from resampling groups of near-duplicates. ``--write`` puts the
calibration into the detector's card.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import msgspec
import numpy as np

from faces import without_other_objects
from fer_edge.datasets.faces import FaceImage, load_faces
from fer_edge.detection.label_corrections import correct_labels
from fer_edge.detection.metrics import ImageDetections, detect_all, match
from fer_edge.detection.network import NetworkDetector
from fer_edge.model_zoo import DEFAULT_DETECTOR
from fer_edge.modelcard.archive import attached_members, model_bytes, with_card
from fer_edge.modelcard.schema import DetectorCard, ScoreCalibration
from fer_edge.tflite.interpreter import runtime_name
from fer_edge.utils.atomic_file import replacing
from marked_faces import MARKS, read_marked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset

MIN_SCORE: Final = 0.3  # before calibration; boxes with lower scores were not looked at
FOLDS: Final = 10
BINS: Final = 10
MIN_SCORES: Final = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
SEED: Final = 7
ERROR: Final = "expected calibration error"


class Boxes(NamedTuple):
    """The detected boxes of one part.

    Attributes:
        scores: before calibration, of shape (boxes,).
        correct: whether each is a face, 0 or 1.
        groups: number of the group of near-duplicate images of each.
        faces: number of marked faces.
    """

    scores: npt.NDArray[np.float64]
    correct: npt.NDArray[np.float64]
    groups: npt.NDArray[np.intp]
    faces: int


def main() -> None:
    """Measure, print and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/ and val/")
    parser.add_argument("--model", type=Path, default=DEFAULT_DETECTOR, help="the detector, a .tflite")
    parser.add_argument("--marks", type=Path, default=MARKS, help="folder with split.csv and the marks")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="put the calibration into the detector's card")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"OpenCV {cv2.__version__}, {runtime_name()}; {options.model.name}")
    with (options.marks / "split.csv").open(newline="") as rows:
        split = {row["file"]: row for row in csv.DictReader(rows)}
    groups = {name: row["group"] for name, row in split.items()}
    detector = NetworkDetector(options.model, min_face=1, min_score=1e-4)

    val = load_faces(options.data, "val")
    chosen = [i for i, one in enumerate(val.images) if split.get(one.name, {}).get("part") == "development"]
    development = val.subset(chosen)
    boxes = find_boxes(detector, development, read_corrected(development, options.marks), groups)
    calibration = fit(boxes.scores, boxes.correct)
    fits = [fit(boxes.scores[draw], boxes.correct[draw]) for draw in resample(boxes.groups, options.resamples)]

    def interval(of: Callable[[ScoreCalibration], float]) -> str:
        return show(of(calibration), [of(one) for one in fits])

    print(f"\nslope {interval(lambda one: one.slope)}, intercept {interval(lambda one: one.intercept)}")
    threshold = detector.card.threshold
    print(
        f"precision of boxes with a score of {threshold:g} before: {interval(lambda one: one.precision_at(threshold))}"
    )
    error = report("Development part, cross-validated", boxes, cross_validate(boxes), options.resamples)
    marked, _ = read_marked(val, options.marks)
    test = find_boxes(detector, marked, marked.images, groups)
    report("Test part, sources without training images", test, apply(calibration, test.scores), options.resamples)
    if options.write:
        card = msgspec.structs.replace(
            detector.card, calibration=calibration, scores={**detector.card.scores, ERROR: round(error, 4)}
        )
        write_card(options.model, card)


def read_corrected(data: FaceDataset, marks: Path) -> tuple[FaceImage, ...]:
    """Return the labels, with the rows of ``development.csv`` in place of labels and ignored regions there."""
    return correct_labels(replace(data, images=tuple(without_other_objects(data))), marks / "development.csv").images


def find_boxes(
    detector: NetworkDetector, data: FaceDataset, images: Sequence[FaceImage], groups: dict[str, str]
) -> Boxes:
    """Run the detector on the images of a dataset, and match its boxes with labels."""
    calibration = detector.card.calibration
    numbers = {name: number for number, name in enumerate(sorted(set(groups.values())))}
    scores: list[float] = []
    correct: list[float] = []
    members: list[int] = []
    for detections, image in zip(detect_all(detector, data), images, strict=True):
        if calibration:
            raw = [calibration.score_at(score) for score in detections.scores.tolist()]
            detections = ImageDetections(detections.boxes, np.array(raw, np.float32))  # noqa: PLW2901
        matches = match([detections], [image])
        hits = matches.face_scores[matches.face_scores >= MIN_SCORE]
        alarms = matches.false_positives[matches.false_positives >= MIN_SCORE]
        scores += [*hits.tolist(), *alarms.tolist()]
        correct += [1.0] * len(hits) + [0.0] * len(alarms)
        members += [numbers[groups[image.name]]] * (len(hits) + len(alarms))
    faces = sum(len(image.boxes) for image in images)
    return Boxes(np.array(scores), np.array(correct), np.array(members, np.intp), faces)


def fit(scores: npt.NDArray[np.float64], correct: npt.NDArray[np.float64]) -> ScoreCalibration:
    """Fit Platt scaling by maximum likelihood (Newton's method).

    Args:
        scores: scores before calibration, each in (0, 1).
        correct: whether each box is a face, 0 or 1.
    """
    columns = np.column_stack([np.log(scores / (1 - scores)), np.ones(len(scores))])
    weights = np.zeros(2)
    for _ in range(30):
        precision = 1 / (1 + np.exp(-columns @ weights))
        hessian = columns.T @ (columns * (precision * (1 - precision))[:, None]) + 1e-9 * np.eye(2)
        weights += np.linalg.solve(hessian, columns.T @ (correct - precision))
    return ScoreCalibration(slope=round(float(weights[0]), 4), intercept=round(float(weights[1]), 4))


def apply(calibration: ScoreCalibration, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the calibrated scores."""
    return np.array([calibration.precision_at(score) for score in scores.tolist()])


def cross_validate(boxes: Boxes) -> npt.NDArray[np.float64]:
    """Return a calibrated score for each box, from a fit to the boxes of other groups."""
    names = np.unique(boxes.groups)
    fold_of = dict(zip(names.tolist(), np.random.default_rng(SEED).integers(FOLDS, size=len(names)), strict=True))
    folds = np.array([fold_of[group] for group in boxes.groups.tolist()])
    calibrated = np.empty(len(folds))
    for fold in range(FOLDS):
        rest, own = folds != fold, folds == fold
        calibrated[own] = apply(fit(boxes.scores[rest], boxes.correct[rest]), boxes.scores[own])
    return calibrated


def calibration_error(calibrated: npt.NDArray[np.float64], correct: npt.NDArray[np.float64]) -> float:
    """Compute the expected calibration error in bins of equal counts (Naeini, Cooper & Hauskrecht 2015)."""
    order = np.argsort(calibrated, kind="stable")
    gaps = [abs(calibrated[one].mean() - correct[one].mean()) * len(one) for one in np.array_split(order, BINS)]
    return float(sum(gaps) / len(order))


def resample(groups: npt.NDArray[np.intp], count: int) -> list[npt.NDArray[np.intp]]:
    """Return the indices of the boxes of resampled groups."""
    random = np.random.default_rng(SEED)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    return [
        np.concatenate([members[k] for k in random.integers(len(members), size=len(members))]) for _ in range(count)
    ]


def report(title: str, boxes: Boxes, calibrated: npt.NDArray[np.float64], resamples: int) -> float:
    """Print how far scores and shares of faces differ, and what a lowest score gives; return the calibration error."""
    draws = resample(boxes.groups, resamples)
    error = calibration_error(calibrated, boxes.correct)
    errors = [calibration_error(calibrated[draw], boxes.correct[draw]) for draw in draws]
    # A bin of few boxes differs by chance alone, which resampling adds to; so much of it even a perfect score has.
    random = np.random.default_rng(SEED)
    by_chance = [
        calibration_error(calibrated, (random.random(len(calibrated)) < calibrated).astype(np.float64))
        for _ in range(resamples)
    ]
    print(f"\n{title}: {len(boxes.scores)} boxes, {boxes.correct.sum():.0f} of {boxes.faces} faces")
    print(f"{ERROR} {show(error, errors)}; of scores that are exactly right: {np.mean(by_chance):.3f}")
    print("| score | boxes | mean score | faces among them |\n|---|---|---|---|")
    order = np.argsort(calibrated, kind="stable")
    for part in np.array_split(order, BINS // 2):
        low, high = calibrated[part[0]], calibrated[part[-1]]
        share, mean = boxes.correct[part].mean(), calibrated[part].mean()
        print(f"| {low:.2f} to {high:.2f} | {len(part)} | {mean:.3f} | {share:.3f} |")
    print("| `--min-score` | precision of all boxes from there | recall |\n|---|---|---|")
    for least in MIN_SCORES:
        kept = calibrated >= least
        shares = [boxes.correct[draw][kept[draw]].mean() for draw in draws if kept[draw].any()]
        recall = boxes.correct[kept].sum() / boxes.faces
        print(f"| {least:g} | {show(boxes.correct[kept].mean(), shares)} | {recall:.3f} |")
    return error


def show(value: float, samples: Sequence[float]) -> str:
    """Write a value and its 95 % interval."""
    low, high = np.percentile(samples, (2.5, 97.5))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def write_card(path: Path, card: DetectorCard) -> None:
    """Replace the card of a detector; the rest of the file stays the same."""
    content = with_card(model_bytes(path), card, attached_members(path))
    with replacing(path) as temporary:
        temporary.write_bytes(content)


if __name__ == "__main__":
    main()
