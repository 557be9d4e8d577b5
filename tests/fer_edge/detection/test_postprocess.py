from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fer_edge.detection.postprocess import NO_DETECTIONS, Level, Output, RawDetections, decode_outputs, nms


def level(stride: int = 8, rows: int = 3, columns: int = 4, fill: float = 0.0) -> Level:
    return Level(stride, *(Output(np.full((1, rows, columns, n), fill, np.float32)) for n in (1, 4, 10)))


def cells(boxes: list[list[float]], scores: list[float]) -> RawDetections:
    return RawDetections(
        np.array(boxes, np.float32), np.array(scores, np.float32), np.zeros((len(boxes), 5, 2), np.float32)
    )


def test_decodes_a_cell() -> None:
    fine_level = level()
    fine_level.score.values[0, 2, 1] = 0.75
    fine_level.box.values[0, 2, 1] = [0.5, -0.25, np.log(2), np.log(4)]
    fine_level.landmarks.values[0, 2, 1] = np.arange(10)
    detections = decode_outputs([level(16), fine_level], 0.5)
    # The cell's centre is at (12, 20), the face's at (16, 18); it is 16 wide and 32 high.
    assert detections.boxes[0] == pytest.approx([8, 2, 16, 32])
    assert detections.scores.tolist() == [0.75]
    assert detections.landmarks[0].tolist() == [[12 + 8 * x, 20 + 8 * (x + 1)] for x in (0, 2, 4, 6, 8)]


def test_decodes_quantized_outputs_like_real_ones() -> None:
    rng = np.random.default_rng(0)
    stored = [rng.integers(-128, 128, (1, 6, 8, n), np.int8) for n in (1, 4, 10)]
    steps = [(1 / 256, -128), (0.05, 3), (0.1, -7)]
    quantized = Level(16, *(Output(values, *step) for values, step in zip(stored, steps, strict=True)))
    real = [
        ((values.astype(np.float32) - zero) * np.float32(scale))
        for values, (scale, zero) in zip(stored, steps, strict=True)
    ]
    for threshold in (0.0, 0.25, 0.5, 0.996):
        detections, expected = (
            decode_outputs([quantized], threshold),
            decode_outputs([Level(16, *map(Output, real))], threshold),
        )
        assert all(
            np.array_equal(values, expected_values)
            for values, expected_values in zip(detections, expected, strict=True)
        )


def test_unreachable_threshold_finds_nothing() -> None:
    full = Level(8, *(Output(np.full((1, 2, 2, n), 127, np.int8), 1 / 256, -128) for n in (1, 4, 10)))
    assert len(decode_outputs([full], 1.0).scores) == len(decode_outputs([], 0.5).scores) == 0


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 3e38])
def test_drops_nonfinite_values_without_overflow(garbage: float) -> None:
    broken = level(32, fill=garbage)
    broken.score.values[0, 0, 0] = 0.9
    broken.score.values[0, 0, 1] = garbage
    sound = level(32)
    sound.score.values[:] = 0.1
    sound.score.values[0, 0, :3, 0] = 0.9, garbage, 0.8
    for outputs in (broken, sound):
        assert all(np.isfinite(values).all() for values in decode_outputs([outputs], 0.5))
    assert {0.9, 0.8} <= set(np.round(decode_outputs([sound], 0.5).scores.astype(float), 4))


def test_keeps_the_best_of_very_many_detections() -> None:
    full = level(8, 100, 100)
    scores: npt.NDArray[np.float32] = np.random.default_rng(1).uniform(0.5, 1, (1, 100, 100, 1)).astype(np.float32)
    full.score.values[:] = scores
    detections = decode_outputs([full], 0.5)
    assert len(detections.scores) == 300
    assert detections.scores.min() >= np.sort(scores.ravel())[-300]


def test_nms_keeps_the_best_of_overlapping_boxes() -> None:
    # Overlaps: second and first 80 of 120; third and first 40 of 160; third and second 60 of 140.
    detections = cells([[0, 0, 10, 10], [2, 0, 10, 10], [6, 0, 10, 10], [50, 50, 4, 4]], [0.8, 0.9, 0.7, 0.6])
    assert nms(detections, 0.4).scores == pytest.approx([0.9, 0.6])
    assert nms(detections, 0.5).scores == pytest.approx([0.9, 0.7, 0.6])
    assert nms(detections, 0.7).scores == pytest.approx([0.9, 0.8, 0.7, 0.6])


def test_nms_keeps_a_single_face_and_no_face() -> None:
    assert len(nms(cells([[0, 0, 5, 5]], [0.5])).scores) == 1
    assert len(nms(NO_DETECTIONS).scores) == 0
