"""Turned, bowed and tilted heads that two teachers agree on (experiment 094).

    pip download --no-deps facenet-pytorch==2.6.0 mediapipe==0.10.21  # unpack these wheels for their weights
    python 094_turned_heads.py agree faces --mtcnn facenet_pytorch/data --split benchmarks/face_marks/split.csv \
        --blaze face_detection_full_range_sparse.tflite --out agreed.csv
    python 094_turned_heads.py agree faces --part val ... --out agreed-val.csv
    python 094_turned_heads.py check faces agreed-val.csv

``agree`` asks three teachers about each face and ignored region of those images that have a turned, bowed, tilted or
uncertain one: YuNet (n), whose answers are the data's labels (0.6 or more) and ignored regions (0.3 or more);
BlazeFace for the full range of distances, on the whole image; and the two later networks of MTCNN, which look at what
either of the other two proposes. What two of them find is a face, what only one finds is ignored. ``check`` compares
their agreement with boxes that were looked at.
"""

# ruff: noqa: INP001, T201, PLC0415 - a script that prints; each command imports only what it needs

from __future__ import annotations

import argparse
import csv
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cv2
import numpy as np

from fer_edge.datasets.faces import load_faces, without_test_images
from fer_edge.detection.metrics import pairwise_iou
from fer_edge.detection.postprocess import RawDetections, nms
from fer_edge.geometry import Landmarks, Point
from fer_edge.quality import estimate_yaw

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceImage

    Floats = npt.NDArray[np.float32]

ROOT: Final = Path(__file__).parents[2]
SAME_IOU: Final = 0.4  # the teachers' boxes are differently tight
SURE: Final = {"yunet": 0.6, "blaze": 0.5, "mtcnn": 0.7}  # scores from which on a teacher says that it is a face
MIN_SIDE: Final = 12.0  # pixels
MIN_ASKED, CLEAR = 20.0, 0.8  # images are asked about if YuNet is less sure of a face of this size
TURNED, TILTED, BOWED = 30.0, 25.0, 0.72  # degrees of yaw and roll; place of the nose between eyes (0) and mouth (1)
BLAZE_SIDE, BLAZE_STRIDE = 192, 4
POOLS: Final = {24: {1: 3, 2: 3}, 48: {1: 3, 2: 3, 3: 2}}  # by the side of MTCNN's second and third network
COLUMNS: Final = (
    "file", "kind", "pose", "teachers", "x", "y", "w", "h", *(f"lm{i}{axis}" for i in range(5) for axis in "xy"),
)  # fmt: skip


class Candidate(NamedTuple):
    """A box that some teacher proposes.

    Attributes:
        box: left, top, width and height.
        points: five landmarks of each teacher that gives some, of shape (teachers, 5, 2).
        scores: each teacher's score.
    """

    box: Floats
    points: list[Floats]
    scores: dict[str, float]


# --- teachers ---


class BlazeFace:
    """MediaPipe's detector for faces near and far."""

    def __init__(self, file: Path) -> None:
        """Load it."""
        from ai_edge_litert.interpreter import Interpreter

        self._network = Interpreter(str(file), num_threads=1)
        self._network.allocate_tensors()
        (self._input,) = (one["index"] for one in self._network.get_input_details())
        self._outputs = {one["shape"][-1]: one["index"] for one in self._network.get_output_details()}

    def detect(self, gray: npt.NDArray[np.uint8]) -> RawDetections:
        """Return all boxes with a score of 0.3 or more. The mouth has one point, which both of its corners get."""
        scale = BLAZE_SIDE / max(gray.shape)
        rows, columns = (max(1, round(side * scale)) for side in gray.shape)
        canvas = np.zeros((BLAZE_SIDE, BLAZE_SIDE), np.uint8)
        canvas[:rows, :columns] = cv2.resize(gray, (columns, rows), interpolation=cv2.INTER_AREA)
        image = np.repeat(canvas[None, :, :, None].astype(np.float32) / 127.5 - 1, 3, axis=3)
        self._network.set_tensor(self._input, image)
        self._network.invoke()
        boxes, logits = (self._network.get_tensor(self._outputs[n])[0] for n in (16, 1))
        across = BLAZE_SIDE // BLAZE_STRIDE
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0], -80, 80)))
        found = np.flatnonzero(scores >= 0.3)
        centres = (np.stack(np.divmod(found, across)[::-1], axis=1) + 0.5) * BLAZE_STRIDE
        places = boxes[found].reshape(-1, 8, 2)
        middle, size, points = places[:, 0] + centres, places[:, 1], places[:, 2:] + centres[:, None]
        five = points[:, (0, 1, 2, 3, 3)]  # of six: eyes, nose, mouth and ears
        corners = np.concatenate((middle - size / 2, size), axis=1)
        return nms(
            RawDetections(*(one.astype(np.float32) for one in (corners / scale, scores[found], five / scale))), 0.3
        )


class Mtcnn:
    """The second and third network of MTCNN (Zhang et al. 2016), which look at boxes that others propose."""

    def __init__(self, folder: Path) -> None:
        """Load their weights."""
        import torch

        self._torch: Any = torch
        torch.set_num_threads(1)
        self._weights = {side: torch.load(folder / name) for side, name in ((24, "rnet.pt"), (48, "onet.pt"))}

    def look(self, gray: npt.NDArray[np.uint8], boxes: Floats) -> RawDetections:
        """Return the box, score and landmarks of each proposal, in their order."""
        _, moved, _ = self._run(gray, boxes, 24)
        scores, last, points = self._run(gray, moved, 48)
        return RawDetections(last, scores, points)

    def _run(self, gray: npt.NDArray[np.uint8], boxes: Floats, side: int) -> tuple[Floats, Floats, Floats]:
        side_of = boxes[:, 2:].max(axis=1, keepdims=True)
        corner = boxes[:, :2] + boxes[:, 2:] / 2 - side_of / 2
        border = int(np.ceil(max(side_of.max(), 1)))
        padded = cv2.copyMakeBorder(gray, border, border, border, border, cv2.BORDER_CONSTANT)
        crops = []
        for (left, top), (own,) in zip(
            np.round(corner).astype(int) + border, np.round(side_of).astype(int), strict=True
        ):
            x, y = (int(np.clip(at, 0, room - 2)) for at, room in ((left, padded.shape[1]), (top, padded.shape[0])))
            crops.append(
                cv2.resize(padded[y : y + max(own, 2), x : x + max(own, 2)], (side, side), interpolation=cv2.INTER_AREA)
            )
        images = np.repeat((np.stack(crops).astype(np.float32)[:, None] - 127.5) / 128, 3, axis=1)
        torch, weights = self._torch, self._weights[side]
        act = torch.nn.functional

        def layer(kind: Any, name: str, x: Any) -> Any:  # noqa: ANN401 - torch's
            return kind(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

        with torch.inference_mode():
            x, number = torch.from_numpy(images), 1
            while f"conv{number}.weight" in weights:
                x = act.prelu(layer(act.conv2d, f"conv{number}", x), weights[f"prelu{number}.weight"])
                if number in POOLS[side]:
                    x = act.max_pool2d(x, POOLS[side][number], 2, ceil_mode=True)
                number += 1
            x = x.permute(0, 3, 2, 1).flatten(1)
            x = act.prelu(layer(act.linear, f"dense{number}", x), weights[f"prelu{number}.weight"])
            number += 1
            scores = layer(act.linear, f"dense{number}_1", x).softmax(1)[:, 1].numpy()
            moves = layer(act.linear, f"dense{number}_2", x).numpy()
            low, high = corner + moves[:, :2] * side_of, corner + side_of + moves[:, 2:] * side_of
            points = np.full((len(boxes), 5, 2), np.nan, np.float32)
            if f"dense{number}_3.weight" in weights:
                relative = layer(act.linear, f"dense{number}_3", x).numpy().reshape(-1, 2, 5).transpose(0, 2, 1)
                points = corner[:, None] + relative * side_of[:, None]
        return scores, np.concatenate((low, np.maximum(high - low, 1)), axis=1), points.astype(np.float32)


# --- agreement ---


def agree(options: argparse.Namespace) -> None:
    """Ask the teachers and write what they agree on."""
    (data,) = without_test_images([load_faces(options.data, options.part)], options.split)
    yunet_ignored: dict[str, list[dict[str, str]]] = {}
    with (options.data / options.part / "ignore.csv").open(newline="") as rows:
        for row in csv.DictReader(rows):
            yunet_ignored.setdefault(row["file"], []).append(row)
    blaze, mtcnn = BlazeFace(options.blaze), Mtcnn(options.mtcnn)
    counts: dict[str, int] = {}
    with options.out.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        doubtful = [i for i, one in enumerate(data.images) if is_doubtful(one, yunet_ignored.get(one.name, []))]
        for done, i in enumerate(doubtful):
            image, gray = data.images[i], data.gray(i)
            candidates = [
                Candidate(box, [points], {"yunet": float(score)})
                for box, points, score in zip(image.boxes, image.landmarks, image.scores, strict=True)
            ]
            for row in yunet_ignored.get(image.name, []):
                box = np.array([float(row[key]) for key in "xywh"], np.float32)
                if row["score"] and max(box[2:]) >= MIN_SIDE:
                    candidates.append(Candidate(box, [], {"yunet": float(row["score"])}))
            for one in judge(candidates, gray, blaze, mtcnn):
                row = describe(one)
                counts[f"{row['kind']} {row['pose']}"] = counts.get(f"{row['kind']} {row['pose']}", 0) + 1
                table.writerow({"file": image.name, **row})
            if done % 200 == 0:
                print(f"{done} of {len(doubtful)} images", counts, flush=True)
    print(counts)


def is_doubtful(image: FaceImage, ignored: list[dict[str, str]]) -> bool:
    """Return whether YuNet was not sure of a face that is not small, or sees a head that is not upright and frontal."""
    for box, score, points in zip(image.boxes, image.scores, image.landmarks, strict=True):
        if max(box[2:]) >= MIN_ASKED and (score < CLEAR or classify(points) != "frontal"):
            return True
    return any(row["score"] and max(float(row["w"]), float(row["h"])) >= MIN_ASKED for row in ignored)


def judge(candidates: list[Candidate], gray: npt.NDArray[np.uint8], blaze: BlazeFace, mtcnn: Mtcnn) -> list[Candidate]:
    """Add BlazeFace's boxes to the candidates, and the answers of all teachers."""
    for box, score, points in zip(*blaze.detect(gray), strict=True):
        boxes = np.array([one.box for one in candidates], np.float32).reshape(-1, 4)
        overlap = pairwise_iou(box[None], boxes)[0]
        if len(overlap) and overlap.max() >= SAME_IOU:
            same = candidates[int(overlap.argmax())]
            same.scores["blaze"] = max(float(score), same.scores.get("blaze", 0))
            same.points.append(points)
        elif max(box[2:]) >= MIN_SIDE:
            candidates.append(Candidate(box, [points], {"blaze": float(score)}))
    if candidates:
        boxes = np.array([one.box for one in candidates], np.float32)
        answers = mtcnn.look(gray, boxes)
        for one, box, score, points in zip(candidates, *answers, strict=True):
            if pairwise_iou(one.box[None], box[None])[0, 0] >= SAME_IOU:
                one.scores["mtcnn"] = float(score)
                if score >= SURE["mtcnn"]:
                    one.points.append(points)
    return candidates


def describe(one: Candidate) -> dict[str, str]:
    """Make the row of a candidate: a face if two teachers are sure, or one is and another one nearly."""
    sure = [name for name, score in one.scores.items() if score >= SURE[name]]
    if "yunet" not in sure and one.scores.get("yunet", 0) >= 0.3 and len(sure) == 1:
        sure.append("yunet-")  # another teacher confirms what YuNet was not sure of
    points = np.median(np.stack(one.points), axis=0) if one.points else None
    kind = "face" if len(sure) >= 2 else "ignore"
    cells = [f"{at:.1f}" for at in one.box.tolist()] + (
        [f"{at:.1f}" for at in points.ravel().tolist()] if points is not None else [""] * 10
    )
    pose = classify(points) if points is not None else ""
    return dict(zip(COLUMNS[1:], (kind, pose, "+".join(sure), *cells), strict=True))


def classify(points: Floats) -> str:
    """Say which way a head is turned, from its landmarks."""
    left, right, nose, *mouth = points
    landmarks = Landmarks(*(Point(float(x), float(y)) for x, y in points))
    yaw = estimate_yaw(landmarks)
    across = right - left
    roll = math.degrees(math.atan2(float(across[1]), float(across[0])))
    middle, lips = (left + right) / 2, (mouth[0] + mouth[1]) / 2
    down = lips - middle
    length = float(down @ down)
    if abs(roll) >= TILTED:
        return "tilted"
    if yaw is None or abs(yaw) >= TURNED or length > 4 * float(across @ across):
        return "turned"
    return "bowed" if not length or float((nose - middle) @ down) / length >= BOWED else "frontal"


def check(options: argparse.Namespace) -> None:
    """Compare the agreement with eyes: on boxes of the shipped detector in the development part, all looked at."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from face_calibration import MIN_SCORE, read_corrected
    from fer_edge.detection.metrics import pairwise_intersection
    from fer_edge.detection.network import NetworkDetector
    from fer_edge.model_zoo import DEFAULT_DETECTOR

    with options.agreed.open(newline="") as rows:
        asked = list(csv.DictReader(rows))
    names = {row["file"] for row in asked}
    val = load_faces(options.data, "val")
    data = val.subset(i for i, one in enumerate(val.images) if one.name in names)
    detector = NetworkDetector(DEFAULT_DETECTOR, min_face=1, min_score=1e-4)
    calibration = detector.card.calibration
    lowest = calibration.precision_at(MIN_SCORE) if calibration else MIN_SCORE
    counts: dict[str, int] = {}
    for i, truth in enumerate(read_corrected(data, ROOT / "benchmarks" / "face_marks")):
        here = [row for row in asked if row["file"] == truth.name]
        for face in detector.detect(data.gray(i)):
            box = np.array([face.box], np.float32)
            if face.score < lowest or max(face.box.width, face.box.height) < MIN_ASKED:
                continue
            if (pairwise_iou(box, truth.boxes) >= 0.5).any():
                seen = "face"
            else:
                ignored = pairwise_intersection(box, truth.ignored).max(initial=0) >= 0.5 * box[0, 2] * box[0, 3]
                seen = "ignore" if ignored else "none"
            overlap = pairwise_iou(box, boxes_of(here))[0]
            best = int(overlap.argmax())
            row = here[best] if overlap[best] >= SAME_IOU else None
            pose = "not frontal" if row and row["pose"] in {"turned", "bowed", "tilted"} else "frontal or unknown"
            name = f"{seen} by eye, {row['kind'] if row else 'no answer'} by agreement, {pose}"
            counts[name] = counts.get(name, 0) + 1
    print(*(f"{count:4} {name}" for name, count in sorted(counts.items())), sep="\n")


def boxes_of(rows: list[dict[str, str]]) -> Floats:
    """Return the boxes of some rows."""
    return np.array([[float(row[key]) for key in "xywh"] for row in rows], np.float32).reshape(-1, 4)


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("agree")
    command.set_defaults(run=agree)
    command.add_argument("data", type=Path)
    command.add_argument("--part", default="train", help="train or val")
    command.add_argument("--mtcnn", type=Path, required=True)
    command.add_argument("--blaze", type=Path, required=True)
    command.add_argument("--split", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command = commands.add_parser("check")
    command.set_defaults(run=check)
    command.add_argument("data", type=Path)
    command.add_argument("agreed", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    options.run(options)


if __name__ == "__main__":
    main()
