"""Proposals of a detector's first stage in scenes, for the second one to learn from."""

from __future__ import annotations

from functools import cache
from threading import get_ident
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fer_edge.detection.inference import FaceNetwork
from fer_edge.detection.metrics import pairwise_intersection, pairwise_iou
from fer_edge.detection.postprocess import RawDetections, decode_outputs, nms
from fer_edge.detection.resampling import crop_squares
from fer_edge.modelcard.archive import model_bytes
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import DetectorCard
from fer_edge_train.faces.detector_targets import EMPTY, FACE, IGNORED, KIND, LANDMARKS, MIN_ROWS, WEIGHT, row_boxes
from fer_edge_train.faces.scene_geometry import MIRRORED_LANDMARKS
from fer_edge_train.faces.scenes import BatchShape, make_scene_batch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge_train.faces.refiner_recipe import ProposalOptions, RefinerRecipe
    from fer_edge_train.faces.scene_sources import SceneSources

# Columns of a proposal's target: score, box, five points, and the weights of box and points.
SCORE: Final = 0
BOX: Final = slice(1, 5)
POINTS: Final = slice(5, 15)
BOX_WEIGHT: Final = 15
POINTS_WEIGHT: Final = 16
COLUMNS: Final = 17
_FACE_IOU: Final = 0.4  # with at least this overlap, a box shows a face
_BACKGROUND_IOU: Final = 0.25  # with less than this, it shows none; between the two, a part of one
_MIN_WEIGHT: Final = 0.05  # minimum weight of a teacher's answer
_MIN_BOX_SCORE: Final = 0.2  # minimum score of a face whose place is learnt


class ProposalSource(NamedTuple):
    """What proposals are made from.

    Attributes:
        scenes: what scenes are made from.
        detector: the first stage, a ``.tflite`` with its card.
    """

    scenes: SceneSources
    detector: Path


class Proposals(NamedTuple):
    """Squares of scenes and their targets.

    Attributes:
        squares: uint8 of shape (n, side, side).
        targets: float32 of shape (n, 17); boxes and points are relative to the square, as in
            `fer_edge.detection.refiner.decode_squares`.
    """

    squares: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.float32]


def propose(
    source: ProposalSource, chosen: npt.NDArray[np.int64], recipe: RefinerRecipe, seed: Sequence[int]
) -> Proposals:
    """Make scenes and run the first stage on them. The result depends on nothing but the arguments.

    Args:
        source: what scenes are made from, and the first stage.
        chosen: index of an image that is in each scene.
        recipe: which scenes and boxes to make.
        seed: seed of all randomness.
    """
    side, min_score = recipe.proposals.side, recipe.proposals.min_score
    images, truth = make_scene_batch(source.scenes, chosen, BatchShape(side, MIN_ROWS), recipe.augmentation, seed)
    rng = np.random.default_rng((*seed, 1))
    network = load_network(source.detector, side, get_ident())
    parts = []
    for image, rows in zip(images, truth, strict=True):
        cells = decode_outputs(network.run(image, side, side, min_score), min_score)
        parts.append(_propose_in_scene(image, cells, rows, recipe, rng, has_teacher=source.scenes.teacher is not None))
    return concatenate_proposals(parts)


def concatenate_proposals(parts: Sequence[Proposals]) -> Proposals:
    """Join the proposals of at least one scene."""
    return Proposals(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def make_targets(
    boxes: npt.NDArray[np.float32], squares: npt.NDArray[np.float32], faces: RawDetections, known: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """Make the target of each box from the face that it overlaps most. Faces with higher scores are preferred.

    Args:
        boxes: left, top, width and height, in pixels, of shape (n, 4).
        squares: left, top and side of the square around each box, of shape (n, 3).
        faces: faces of the scene.
        known: whether the landmarks of each face are known.

    Returns:
        float32 of shape (n, 17).
    """
    targets = np.zeros((len(boxes), COLUMNS), np.float32)
    if not len(boxes) or not len(faces.scores):
        return targets
    all_overlaps = pairwise_iou(boxes, faces.boxes)
    best = (all_overlaps * (0.3 + faces.scores)).argmax(axis=1)
    overlap = all_overlaps[np.arange(len(boxes)), best]
    score, box = faces.scores[best], faces.boxes[best]
    targets[:, SCORE] = score * np.clip((overlap - _BACKGROUND_IOU) / (_FACE_IOU - _BACKGROUND_IOU), 0, 1)
    side = squares[:, 2:]
    centres = squares[:, :2] + side / 2
    has_box = (overlap >= _BACKGROUND_IOU) & (score >= _MIN_BOX_SCORE)
    relative_box = np.concatenate(
        ((box[:, :2] + box[:, 2:] / 2 - centres) / side, np.log(np.maximum(box[:, 2:], 1) / side)), axis=1
    )
    points = (faces.landmarks[best] - centres[:, None]) / side[:, None]
    targets[:, BOX] = np.where(has_box[:, None], relative_box, 0)
    targets[:, POINTS] = np.where((has_box & known[best])[:, None], points.reshape(-1, 10), 0)
    targets[:, BOX_WEIGHT] = score * has_box
    targets[:, POINTS_WEIGHT] = score * (has_box & known[best])
    return targets


def mirror(proposals: Proposals) -> Proposals:
    """Return the mirror images of proposals."""
    targets = proposals.targets.copy()
    targets[:, BOX.start] *= -1
    points = targets[:, POINTS].reshape(-1, 5, 2)[:, MIRRORED_LANDMARKS] * np.array((-1, 1), np.float32)
    targets[:, POINTS] = points.reshape(-1, 10)
    return Proposals(proposals.squares[:, :, ::-1], targets)


@cache
def load_network(detector: Path, side: int, thread: int) -> FaceNetwork:  # noqa: ARG001 - each thread has its own
    """Return a detector's first stage for square images, the same one to each call from a thread."""
    return FaceNetwork(model_bytes(detector), read_card(detector, DetectorCard), detector, height=side, width=side)


def _propose_in_scene(
    image: npt.NDArray[np.uint8],
    cells: RawDetections,
    rows: npt.NDArray[np.float32],
    recipe: RefinerRecipe,
    rng: np.random.Generator,
    *,
    has_teacher: bool,
) -> Proposals:
    """Draw some of the first stage's boxes in a scene and make their targets."""
    faces, known = read_faces(rows)
    picked = pick_boxes(cells, faces, recipe.proposals, rng)
    if not has_teacher:
        ignored = row_boxes(rows[rows[:, KIND] == IGNORED])
        areas = picked[:, 2] * picked[:, 3]
        picked = picked[pairwise_intersection(picked, ignored).max(axis=1, initial=0) < areas / 2]
    places, squares = crop_squares(image, picked, recipe.network.extent, recipe.network.side)
    return Proposals(squares, make_targets(picked, places, faces, known))


def pick_boxes(
    cells: RawDetections, faces: RawDetections, options: ProposalOptions, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Draw some of the first stage's boxes in a scene, float32 of shape (n, 4).

    Args:
        cells: what the first stage found, before boxes of the same object were removed.
        faces: faces of the scene.
        options: how many boxes to draw.
        rng: source of randomness.
    """
    boxes = nms(cells)
    share = np.sqrt(boxes.scores)
    count = min(options.max_per_scene, len(share))
    picked = boxes.boxes[rng.choice(len(share), count, replace=False, p=share / share.sum())] if count else boxes.boxes
    clear_faces = faces.boxes[faces.scores >= _MIN_BOX_SCORE]
    positive = np.flatnonzero(pairwise_iou(cells.boxes, clear_faces).max(axis=1, initial=0) >= _FACE_IOU - 0.05)
    more = rng.choice(positive, min(options.extra_positives, len(positive)), replace=False)
    return np.concatenate((picked, cells.boxes[more]))


def read_faces(rows: npt.NDArray[np.float32]) -> tuple[RawDetections, npt.NDArray[np.bool_]]:
    """Return each face of a scene once, and whether its landmarks are known."""
    rows = rows[(rows[:, KIND] != EMPTY) & (rows[:, KIND] != IGNORED) & (rows[:, WEIGHT] >= _MIN_WEIGHT)]
    # NaN marks unknown landmarks, so that this stays with the face.
    points = np.where(rows[:, KIND, None] == FACE, rows[:, LANDMARKS], np.nan).reshape(-1, 5, 2)
    faces = nms(RawDetections(row_boxes(rows), rows[:, WEIGHT], points.astype(np.float32)))
    return faces, np.asarray(np.isfinite(faces.landmarks).all(axis=(1, 2)))
