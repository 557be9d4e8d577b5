"""Test the detector's losses against hand-computed values, and the assignment of cells to faces."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from keras import ops

from fer_edge.detection.postprocess import Level, Output, decode_outputs
from fer_edge_train.faces.detector_assignment import assign, cell_grid, decode_boxes, follow_teacher, iou
from fer_edge_train.faces.detector_loss import DetectorLoss, efficient_iou_loss, quality_focal_loss
from fer_edge_train.faces.detector_network import CHANNELS, build_detector, to_inference_detector
from fer_edge_train.faces.detector_recipe import STRIDES, DetectorNetwork
from fer_edge_train.faces.detector_targets import FACE, Annotations, pack

if TYPE_CHECKING:
    import numpy.typing as npt

pytestmark = pytest.mark.slow


def boxes(*corners: tuple[float, float, float, float]) -> npt.NDArray[np.float32]:
    return np.array(corners, np.float32)


def to_boxes(corners: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)


def truth(
    faces: list[tuple[float, float, float, float]], ignored: tuple[float, float, float, float] | None = None
) -> npt.NDArray[np.float32]:
    count = len(faces)
    left_out = to_boxes(boxes(ignored)) if ignored else np.empty((0, 4), np.float32)
    landmarks = np.zeros((count, 5, 2), np.float32)
    return pack([Annotations(to_boxes(boxes(*faces)), landmarks, np.ones(count, np.float32), left_out)])


def test_overlap_and_its_loss_match_hand_computed_values() -> None:
    box, shifted = boxes((0, 0, 10, 10)), boxes((5, 0, 15, 10))
    assert ops.convert_to_numpy(iou(box, shifted)) == pytest.approx([1 / 3])
    # The enclosing box is 15 x 10, the centres are 5 apart, and widths and heights are equal.
    assert ops.convert_to_numpy(efficient_iou_loss(box, shifted)) == pytest.approx([1 - 1 / 3 + 25 / (225 + 100)])
    wide = boxes((0, 0, 20, 10))
    assert ops.convert_to_numpy(efficient_iou_loss(box, wide)) == pytest.approx([0.5 + 25 / 500 + 100 / 400])
    assert ops.convert_to_numpy(efficient_iou_loss(box, box)) == pytest.approx([0], abs=1e-6)


def test_score_loss_is_cross_entropy_times_squared_error() -> None:
    targets = np.array([0.0, 0.7, 1.0], np.float32)
    logits = np.array([0.0, 2.0, -1.0], np.float32)
    expected = []
    for target, logit in zip(targets.tolist(), logits.tolist(), strict=True):
        score = 1 / (1 + math.exp(-logit))
        entropy = -target * math.log(score) - (1 - target) * math.log(1 - score)
        expected.append(abs(target - score) ** 2 * entropy)
    assert ops.convert_to_numpy(quality_focal_loss(logits, targets)) == pytest.approx(expected, rel=1e-5)


def test_assigns_best_cells_and_masks_ignored_regions() -> None:
    cells = cell_grid(64)
    centres = ops.convert_to_numpy(cells.centres)
    strides = ops.convert_to_numpy(cells.strides)
    sides = strides * 2
    predicted = np.concatenate((centres - sides / 2, centres + sides / 2), axis=1)[None]
    scores = np.full((1, len(predicted[0])), 0.1, np.float32)
    annotations = truth([(4, 4, 20, 20), (30, 2, 62, 34)], ignored=(0, 40, 24, 64))
    targets = assign(annotations, scores, predicted, cells, candidates=3, score_power=0.5, overlap_power=6.0)
    score, mask, box = (ops.convert_to_numpy(values) for values in (targets.score, targets.score_mask, targets.box))
    best = centres[score[0].argmax()], strides[score[0].argmax()]
    assert best[1] == 8  # the face is two strides wide
    assert best[0].tolist() == [12, 12]
    assert score.max() == pytest.approx(1)
    assert 2 <= (score > 0).sum() <= 6
    small = box[0][score[0].argmax()]
    assert small.tolist() == [4, 4, 20, 20]
    # The other face has the size of the next level; the target of its best cell is its overlap.
    large = np.flatnonzero((score[0] > 0) & (box[0][:, 0] == 30))
    assert strides[large[score[0][large].argmax()]] == 16
    within = (centres[:, 0] <= 24) & (centres[:, 1] >= 40)
    assert (mask[0] == 0).tolist() == within.tolist()


def test_loss_is_small_for_perfect_outputs_and_large_for_false_alarms() -> None:
    cells = cell_grid(64)
    centres, strides = ops.convert_to_numpy(cells.centres), ops.convert_to_numpy(cells.strides)
    annotations = truth([(4, 4, 20, 20)])
    annotations[0, 0, 4:14] = 12
    answer = np.full((1, len(centres), 15), -9.0, np.float32)
    answer[..., 1:] = 0
    cell = np.flatnonzero((centres == 12).all(axis=1) & (strides[:, 0] == 8))[0]
    answer[0, cell, 0] = 9
    answer[0, cell, 3:5] = math.log(2)
    loss = DetectorLoss(64, candidates=1)
    assert float(loss(annotations, answer)) == pytest.approx(0, abs=1e-2)
    worse = answer.copy()
    worse[0, cell, 5] = 1  # an eye one stride, half a face, away
    assert float(loss(annotations, worse)) == pytest.approx(10 * (0.5 - 0.025) / 10, rel=1e-2)
    assert float(loss(np.zeros_like(annotations), answer)) > 5
    restored = DetectorLoss.from_config(loss.get_config())
    assert float(restored(annotations, worse)) == float(loss(annotations, worse))


def test_cell_follows_teacher_unless_it_misses_annotated_face() -> None:
    cells = cell_grid(64)
    count = len(ops.convert_to_numpy(cells.centres))
    centres, strides = ops.convert_to_numpy(cells.centres), ops.convert_to_numpy(cells.strides)
    predicted = np.concatenate((centres - strides, centres + strides), axis=1)[None]
    scores = np.full((1, count), 0.1, np.float32)
    annotations = truth([(4, 4, 20, 20)], ignored=(0, 40, 24, 64))
    targets = assign(annotations, scores, predicted, cells, candidates=1, score_power=0.5, overlap_power=6.0)
    assigned = int(ops.convert_to_numpy(targets.score)[0].argmax())
    ignored, unsure, background = 5 * 8 + 1, 5 * 8 + 2, 7 * 8 + 7
    teacher_targets = np.zeros((1, count, 16), np.float32)
    teacher_targets[0, :, 14] = 1e-3
    teacher_targets[0, [assigned, ignored, unsure], 14] = 0.9, 0.6, 0.1
    teacher_targets[0, [assigned, ignored, unsure], 15] = FACE
    teacher_targets[..., :14] = 33
    followed = [ops.convert_to_numpy(values)[0] for values in follow_teacher(targets, teacher_targets)]
    score, mask, box_weight, box, landmarks, landmark_mask = followed
    assert score[[assigned, ignored, unsure, background]] == pytest.approx([1, 0.6, 0.1, 1e-3])
    assert mask[[assigned, ignored, unsure, background]].tolist() == [1, 1, 0, 1]
    assert box_weight[[assigned, ignored, unsure, background]] == pytest.approx([1, 0.6, 0.1, 0])
    assert box[[assigned, ignored]].tolist() == [[4, 4, 20, 20], [33] * 4]
    assert landmarks[ignored].tolist() == [33] * 10
    assert landmark_mask[[assigned, ignored, unsure, background]].tolist() == [1, 1, 1, 0]

    answer = np.zeros((1, count, 15), np.float32)
    alone, guide = DetectorLoss(64), DetectorLoss(64, with_teacher=True)
    nothing = np.concatenate((np.zeros_like(teacher_targets), annotations), axis=1)
    assert float(guide(nothing, answer)) == pytest.approx(float(alone(annotations, answer)))
    assert float(guide(np.concatenate((teacher_targets, annotations), axis=1), answer)) != float(
        alone(annotations, answer)
    )


def test_inference_network_agrees_with_training_network() -> None:
    training = build_detector(DetectorNetwork(stem=4, widths=(8, 8, 8), blocks=(1, 1, 1)))
    inference = to_inference_detector(training)
    image = np.random.default_rng(1).uniform(-1, 1, (1, 64, 64, 1)).astype(np.float32)
    joined = np.asarray(training.predict_on_batch(image))
    outputs = [np.asarray(output) for output in inference.predict_on_batch(image)]
    assert [output.shape for output in outputs] == [
        (1, 64 // stride, 64 // stride, channels) for stride in STRIDES for channels in CHANNELS.values()
    ]
    assert joined.shape == (1, 84, 15)
    scores = np.concatenate([output.ravel() for output in outputs[::3]])
    assert scores == pytest.approx(1 / (1 + np.exp(-joined[0, :, 0])), abs=1e-5)
    levels = [Level(stride, *map(Output, outputs[3 * i : 3 * i + 3])) for i, stride in enumerate(STRIDES)]
    cells = decode_outputs(levels, 1e-6)
    assert cells is not None
    corners = ops.convert_to_numpy(decode_boxes(joined[..., 1:5], cell_grid(64)))[0]
    found_corners = np.concatenate((cells.boxes[:, :2], cells.boxes[:, :2] + cells.boxes[:, 2:]), axis=1)
    assert found_corners == pytest.approx(corners, abs=1e-3)
