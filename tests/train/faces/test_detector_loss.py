"""The detector's losses against values worked out by hand, and which cells answer for which face."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from keras import ops

from fer_edge.detection.postprocess import Level, Output, decode
from fer_edge_train.faces.detector_loss import (
    FacesLoss,
    assign,
    cells_of,
    decoded,
    efficient_iou,
    guided,
    overlaps,
    quality_focal,
)
from fer_edge_train.faces.detector_network import CHANNELS, as_used, build
from fer_edge_train.faces.detector_recipe import STRIDES, Network
from fer_edge_train.faces.detector_targets import FACE, Marked, packed

if TYPE_CHECKING:
    import numpy.typing as npt

pytestmark = pytest.mark.slow


def boxes(*corners: tuple[float, float, float, float]) -> npt.NDArray[np.float32]:
    return np.array(corners, np.float32)


def measured(corners: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)


def truth(
    faces: list[tuple[float, float, float, float]], ignored: tuple[float, float, float, float] | None = None
) -> npt.NDArray[np.float32]:
    count = len(faces)
    left_out = measured(boxes(ignored)) if ignored else np.empty((0, 4), np.float32)
    landmarks = np.zeros((count, 5, 2), np.float32)
    return packed([Marked(measured(boxes(*faces)), landmarks, np.ones(count, np.float32), left_out)])


def test_overlap_and_its_loss_are_those_of_two_squares_side_by_side() -> None:
    one, other = boxes((0, 0, 10, 10)), boxes((5, 0, 15, 10))
    assert ops.convert_to_numpy(overlaps(one, other)) == pytest.approx([1 / 3])
    # Around both is 15 x 10; the middles are 5 apart; widths and heights are equal.
    assert ops.convert_to_numpy(efficient_iou(one, other)) == pytest.approx([1 - 1 / 3 + 25 / (225 + 100)])
    wide = boxes((0, 0, 20, 10))
    assert ops.convert_to_numpy(efficient_iou(one, wide)) == pytest.approx([0.5 + 25 / 500 + 100 / 400])
    assert ops.convert_to_numpy(efficient_iou(one, one)) == pytest.approx([0], abs=1e-6)


def test_the_score_loss_is_cross_entropy_times_the_squared_error() -> None:
    goals = np.array([0.0, 0.7, 1.0], np.float32)
    logits = np.array([0.0, 2.0, -1.0], np.float32)
    expected = []
    for goal, logit in zip(goals.tolist(), logits.tolist(), strict=True):
        score = 1 / (1 + math.exp(-logit))
        entropy = -goal * math.log(score) - (1 - goal) * math.log(1 - score)
        expected.append(abs(goal - score) ** 2 * entropy)
    assert ops.convert_to_numpy(quality_focal(logits, goals)) == pytest.approx(expected, rel=1e-5)


def test_each_face_gets_the_cells_that_fit_it_best_and_ignored_regions_count_for_nothing() -> None:
    cells = cells_of(64)
    centres = ops.convert_to_numpy(cells.centres)
    strides = ops.convert_to_numpy(cells.strides)
    sides = strides * 2
    said = np.concatenate((centres - sides / 2, centres + sides / 2), axis=1)[None]
    scores = np.full((1, len(said[0])), 0.1, np.float32)
    marked = truth([(4, 4, 20, 20), (30, 2, 62, 34)], ignored=(0, 40, 24, 64))
    goals = assign(marked, scores, said, cells, candidates=3, score_power=0.5, overlap_power=6.0)
    score, counts, box = (ops.convert_to_numpy(one) for one in (goals.score, goals.counts, goals.box))
    best = centres[score[0].argmax()], strides[score[0].argmax()]
    assert best[1] == 8  # a face of two strides
    assert best[0].tolist() == [12, 12]
    assert score.max() == pytest.approx(1)
    assert 2 <= (score > 0).sum() <= 6
    small = box[0][score[0].argmax()]
    assert small.tolist() == [4, 4, 20, 20]
    # The other is of the next level's size; its best cell aims at its overlap.
    large = np.flatnonzero((score[0] > 0) & (box[0][:, 0] == 30))
    assert strides[large[score[0][large].argmax()]] == 16
    within = (centres[:, 0] <= 24) & (centres[:, 1] >= 40)
    assert (counts[0] == 0).tolist() == within.tolist()


def test_a_perfect_answer_costs_little_and_a_scene_without_faces_trains_scores_alone() -> None:
    cells = cells_of(64)
    centres, strides = ops.convert_to_numpy(cells.centres), ops.convert_to_numpy(cells.strides)
    marked = truth([(4, 4, 20, 20)])
    marked[0, 0, 4:14] = 12
    answer = np.full((1, len(centres), 15), -9.0, np.float32)
    answer[..., 1:] = 0
    cell = np.flatnonzero((centres == 12).all(axis=1) & (strides[:, 0] == 8))[0]
    answer[0, cell, 0] = 9
    answer[0, cell, 3:5] = math.log(2)
    loss = FacesLoss(64, candidates=1)
    assert float(loss(marked, answer)) == pytest.approx(0, abs=1e-2)
    worse = answer.copy()
    worse[0, cell, 5] = 1  # an eye one stride, half a face, away
    assert float(loss(marked, worse)) == pytest.approx(10 * (0.5 - 0.025) / 10, rel=1e-2)
    assert float(loss(np.zeros_like(marked), answer)) > 5
    again = FacesLoss.from_config(loss.get_config())
    assert float(again(marked, worse)) == float(loss(marked, worse))


def test_a_cell_follows_its_teacher_where_that_is_as_sure_of_it_as_its_marks_are() -> None:
    cells = cells_of(64)
    count = len(ops.convert_to_numpy(cells.centres))
    centres, strides = ops.convert_to_numpy(cells.centres), ops.convert_to_numpy(cells.strides)
    said = np.concatenate((centres - strides, centres + strides), axis=1)[None]
    scores = np.full((1, count), 0.1, np.float32)
    marked = truth([(4, 4, 20, 20)], ignored=(0, 40, 24, 64))
    goals = assign(marked, scores, said, cells, candidates=1, score_power=0.5, overlap_power=6.0)
    own = int(ops.convert_to_numpy(goals.score)[0].argmax())
    ignored, unsure, background = 5 * 8 + 1, 5 * 8 + 2, 7 * 8 + 7
    told = np.zeros((1, count, 16), np.float32)
    told[0, :, 14] = 1e-3
    told[0, [own, ignored, unsure], 14] = 0.9, 0.6, 0.1
    told[0, [own, ignored, unsure], 15] = FACE
    told[..., :14] = 33
    now = [ops.convert_to_numpy(one)[0] for one in guided(goals, told)]
    score, counts, fits, box, landmarks, has_landmarks = now
    assert score[[own, ignored, unsure, background]] == pytest.approx([1, 0.6, 0.1, 1e-3])
    assert counts[[own, ignored, unsure, background]].tolist() == [1, 1, 0, 1]
    assert fits[[own, ignored, unsure, background]] == pytest.approx([1, 0.6, 0.1, 0])
    assert box[[own, ignored]].tolist() == [[4, 4, 20, 20], [33] * 4]
    assert landmarks[ignored].tolist() == [33] * 10
    assert has_landmarks[[own, ignored, unsure, background]].tolist() == [1, 1, 1, 0]

    answer = np.zeros((1, count, 15), np.float32)
    alone, guide = FacesLoss(64), FacesLoss(64, taught=True)
    nothing = np.concatenate((np.zeros_like(told), marked), axis=1)
    assert float(guide(nothing, answer)) == pytest.approx(float(alone(marked, answer)))
    assert float(guide(np.concatenate((told, marked), axis=1), answer)) != float(alone(marked, answer))


def test_the_network_in_use_says_what_the_learning_one_says_and_the_device_decodes_it() -> None:
    learning = build(Network(stem=4, widths=(8, 8, 8), blocks=(1, 1, 1)))
    used = as_used(learning)
    image = np.random.default_rng(1).uniform(-1, 1, (1, 64, 64, 1)).astype(np.float32)
    said = np.asarray(learning.predict_on_batch(image))
    outputs = [np.asarray(one) for one in used.predict_on_batch(image)]
    assert [one.shape for one in outputs] == [
        (1, 64 // stride, 64 // stride, channels) for stride in STRIDES for channels in CHANNELS.values()
    ]
    assert said.shape == (1, 84, 15)
    scores = np.concatenate([one.ravel() for one in outputs[::3]])
    assert scores == pytest.approx(1 / (1 + np.exp(-said[0, :, 0])), abs=1e-5)
    levels = [Level(stride, *map(Output, outputs[3 * i : 3 * i + 3])) for i, stride in enumerate(STRIDES)]
    cells = decode(levels, 1e-6)
    assert cells is not None
    corners = ops.convert_to_numpy(decoded(said[..., 1:5], cells_of(64)))[0]
    found = np.concatenate((cells.boxes[:, :2], cells.boxes[:, :2] + cells.boxes[:, 2:]), axis=1)
    assert found == pytest.approx(corners, abs=1e-3)
