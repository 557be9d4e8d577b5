"""What the first stage of a detector proposes in scenes, for the second one to learn from."""

from __future__ import annotations

from functools import cache
from threading import get_ident
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fer_edge.detection.face_network import FaceNetwork
from fer_edge.detection.metrics import pairwise_intersection, pairwise_iou
from fer_edge.detection.postprocess import RawDetections, decode, nms
from fer_edge.detection.resampling import crop_squares
from fer_edge.modelcard.archive import model_bytes
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import DetectorCard
from fer_edge_train.faces.scenes import MIRRORED, Shape, Stock, batch
from fer_edge_train.faces.targets import FACE, IGNORED, KIND, LANDMARKS, LEAST_ROWS, NOTHING, WEIGHT, boxes_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge_train.faces.recipe import RefinerRecipe

# Columns of a proposal's goal: its score, the box, five points, and what the last two weigh.
SCORE: Final = 0
PLACE: Final = slice(1, 5)
POINTS: Final = slice(5, 15)
PLACE_WEIGHT: Final = 15
POINTS_WEIGHT: Final = 16
COLUMNS: Final = 17
_SAME: Final = 0.4  # intersection over union from which on a box shows a face
_OTHER: Final = 0.25  # below which it shows none; between the two, a part of one
_LEAST_WEIGHT: Final = 0.05  # of a teacher's answer that is looked at
_FIRM: Final = 0.2  # from which on it is worth learning where a face is


class Scenes(NamedTuple):
    """What proposals are found in, and by whom.

    Attributes:
        stock: what scenes are made of.
        detector: the first stage, a ``.tflite`` with its card.
    """

    stock: Stock
    detector: Path


class Proposed(NamedTuple):
    """Squares of scenes and what there is to learn of each.

    Attributes:
        squares: uint8 of shape (n, side, side).
        goals: float32 of shape (n, 17); places as `fer_edge.detection.refiner.placed` has them.
    """

    squares: npt.NDArray[np.uint8]
    goals: npt.NDArray[np.float32]


def propose(scenes: Scenes, chosen: npt.NDArray[np.int64], recipe: RefinerRecipe, seed: Sequence[int]) -> Proposed:
    """Make scenes and let the first stage look at them, in any process.

    Args:
        scenes: what they are made of, and the first stage.
        chosen: index of the image that is surely in each.
        recipe: how.
        seed: all that they depend on besides.
    """
    side = recipe.proposals.side
    images, truth = batch(scenes.stock, chosen, Shape(side, LEAST_ROWS), recipe.augmentation, seed)
    rng = np.random.default_rng((*seed, 1))
    network = _network(scenes.detector, side, get_ident())
    parts = []
    for image, rows in zip(images, truth, strict=True):
        cells = decode(network.run(image, side, side, recipe.proposals.least), recipe.proposals.least)
        parts.append(_proposed(image, cells, rows, recipe, rng, taught=scenes.stock.teacher is not None))
    return together(parts)


def together(parts: Sequence[Proposed]) -> Proposed:
    """Proposals of several scenes; one at least."""
    return Proposed(*(np.concatenate(values) for values in zip(*parts, strict=True)))


@cache
def _network(detector: Path, side: int, thread: int) -> FaceNetwork:  # noqa: ARG001 - each thread has its own
    return FaceNetwork(model_bytes(detector), read_card(detector, DetectorCard), detector, height=side, width=side)


def _proposed(
    image: npt.NDArray[np.uint8],
    cells: RawDetections,
    rows: npt.NDArray[np.float32],
    recipe: RefinerRecipe,
    rng: np.random.Generator,
    *,
    taught: bool,
) -> Proposed:
    """Some of what the first stage says of a scene, beside what is in it."""
    faces, known = _faces(rows)
    boxes = nms(cells)
    share = np.sqrt(boxes.scores)
    count = min(recipe.proposals.each, len(share))
    picked = boxes.boxes[rng.choice(len(share), count, replace=False, p=share / share.sum())] if count else boxes.boxes
    near = np.flatnonzero(
        pairwise_iou(cells.boxes, faces.boxes[faces.scores >= _FIRM]).max(axis=1, initial=0) >= _SAME - 0.05
    )
    more = rng.choice(near, min(recipe.proposals.near, len(near)), replace=False)
    picked = np.concatenate((picked, cells.boxes[more]))
    if not taught:
        ignored = boxes_of(rows[rows[:, KIND] == IGNORED])
        areas = picked[:, 2] * picked[:, 3]
        picked = picked[pairwise_intersection(picked, ignored).max(axis=1, initial=0) < areas / 2]
    where, squares = crop_squares(image, picked, recipe.network.extent, recipe.network.side)
    return Proposed(squares, goals(picked, where, faces, known))


def _faces(rows: npt.NDArray[np.float32]) -> tuple[RawDetections, npt.NDArray[np.bool_]]:
    """A scene's faces, one of each, and whether anybody knows the points of each."""
    rows = rows[(rows[:, KIND] != NOTHING) & (rows[:, KIND] != IGNORED) & (rows[:, WEIGHT] >= _LEAST_WEIGHT)]
    # So that what is known of the points stays with them.
    points = np.where(rows[:, KIND, None] == FACE, rows[:, LANDMARKS], np.nan).reshape(-1, 5, 2)
    faces = nms(RawDetections(boxes_of(rows), rows[:, WEIGHT], points.astype(np.float32)))
    return faces, np.asarray(np.isfinite(faces.landmarks).all(axis=(1, 2)))


def goals(
    boxes: npt.NDArray[np.float32], where: npt.NDArray[np.float32], faces: RawDetections, known: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """What there is to learn of boxes, each beside the face that it overlaps most, a sure one rather than another."""
    found = np.zeros((len(boxes), COLUMNS), np.float32)
    if not len(boxes) or not len(faces.scores):
        return found
    shared = pairwise_iou(boxes, faces.boxes)
    best = (shared * (0.3 + faces.scores)).argmax(axis=1)
    own = shared[np.arange(len(boxes)), best]
    score, box = faces.scores[best], faces.boxes[best]
    found[:, SCORE] = score * np.clip((own - _OTHER) / (_SAME - _OTHER), 0, 1)
    side = where[:, 2:]
    middles = where[:, :2] + side / 2
    firm = (own >= _OTHER) & (score >= _FIRM)
    place = np.concatenate(
        ((box[:, :2] + box[:, 2:] / 2 - middles) / side, np.log(np.maximum(box[:, 2:], 1) / side)), axis=1
    )
    points = (faces.landmarks[best] - middles[:, None]) / side[:, None]
    found[:, PLACE] = np.where(firm[:, None], place, 0)
    found[:, POINTS] = np.where((firm & known[best])[:, None], points.reshape(-1, 10), 0)
    found[:, PLACE_WEIGHT] = score * firm
    found[:, POINTS_WEIGHT] = score * (firm & known[best])
    return found


def mirrored(proposed: Proposed) -> Proposed:
    """The same proposals in a mirror."""
    goals = proposed.goals.copy()
    goals[:, PLACE.start] *= -1
    points = goals[:, POINTS].reshape(-1, 5, 2)[:, MIRRORED] * np.array((-1, 1), np.float32)
    goals[:, POINTS] = points.reshape(-1, 10)
    return Proposed(proposed.squares[:, :, ::-1], goals)
