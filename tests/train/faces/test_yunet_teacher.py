from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.errors import ModelError
from fer_edge_train.faces.detector_targets import (
    BOX,
    FACE,
    KIND,
    LANDMARKS,
    WEIGHT,
    Annotations,
)
from fer_edge_train.faces.yunet_teacher import Teacher, check_teacher, compute_targets, missed_faces
from tests.fer_edge.detection import onnx_squares

if TYPE_CHECKING:
    from pathlib import Path


def test_teacher_gives_targets_for_every_cell(tmp_path: Path) -> None:
    teacher = tmp_path / "squares.onnx"
    onnx_squares.write_network(teacher, 0.92)  # boxes of 20 pixels around white squares of eight
    image = np.full((96, 96), 60, np.uint8)
    image[20:28, 20:28] = image[76:84, 36:44] = 255
    image[44:52, 44:52] = 202  # a very low score
    cells = compute_targets(image, Teacher(teacher))
    assert cells.shape == (12 * 12 + 6 * 6 + 3 * 3, 16)
    kinds, weights = cells[:, KIND], cells[:, WEIGHT]
    assert np.flatnonzero(kinds == FACE).tolist() == [2 * 12 + 2, 9 * 12 + 4]
    assert weights[kinds == FACE] == pytest.approx(1)
    assert 0 < weights.sum() - 2 < 0.2
    middle, half = np.array((4, 9)) * 8 + 0.92 * 8 + 4, 4 * math.exp(0.92)
    assert cells[9 * 12 + 4, BOX] == pytest.approx([*(middle - half), *(middle + half)], abs=1e-3)
    assert cells[9 * 12 + 4, LANDMARKS].reshape(5, 2) == pytest.approx(np.tile((36, 76), (5, 1)), abs=1e-3)

    def square(x: float, y: float) -> list[float]:
        return [x - half, y - half, 2 * half, 2 * half]

    boxes = np.array([square(*middle), square(60, 20), square(30, 60), square(31, 31)], np.float32)
    points = np.arange(40, dtype=np.float32).reshape(4, 5, 2)
    scores = np.array([0.93, 0.8, 0, 0.93], np.float32)  # the third has no score
    missed = missed_faces(Annotations(boxes, points, scores, boxes[2:3]), cells)
    assert missed.boxes.tolist() == boxes[1:2].tolist()
    assert missed.landmarks.tolist() == points[1:2].tolist()
    assert missed.scores == pytest.approx([0.8])
    assert missed.ignored.tolist() == boxes[2:3].tolist()
    nothing = Annotations(*(values[:0] for values in missed))
    assert [len(values) for values in missed_faces(nothing, cells)] == [0, 0, 0, 0]


def test_teacher_at_twice_the_size_finds_smaller_faces(tmp_path: Path) -> None:
    file = tmp_path / "squares.onnx"
    onnx_squares.write_network(file, 0.92, level=16)  # around white squares of sixteen pixels
    image = np.full((96, 96), 60, np.uint8)
    image[18:30, 18:30] = 255  # one cell of the finest level, and too small for one of the next
    image[52:68, 52:68] = 255
    faces = {sizes: compute_targets(image, Teacher(file, sizes))[:, KIND] == FACE for sizes in ((1,), (2,), (1, 2))}
    small, large = 2 * 12 + 2, 12 * 12 + 3 * 6 + 3
    assert np.flatnonzero(faces[1,]).tolist() == [large]
    assert small in np.flatnonzero(faces[2,])
    assert not faces[2,][large]
    assert (faces[1, 2] == faces[1,] | faces[2,]).all()
    cells = compute_targets(image, Teacher(file, (1, 2)))
    middle, half = 2 * 8 + 0.92 * 8 + 4, 4 * math.exp(0.92)
    assert cells[small, BOX] == pytest.approx([middle - half] * 2 + [middle + half] * 2, abs=1e-3)
    assert cells[small, WEIGHT] == pytest.approx(1)
    assert cells[large, BOX] == pytest.approx(compute_targets(image, Teacher(file))[large, BOX])


def test_rejects_teacher_for_another_size(tmp_path: Path) -> None:
    file = tmp_path / "squares.onnx"
    onnx_squares.write_network(file, 0.92)
    check_teacher(Teacher(file, (1, 2)))
    other = tmp_path / "other.onnx"
    six_hundred, three_hundred = b"\n\3\x08\x80\5", b"\n\3\x08\xc0\2"
    other.write_bytes(file.read_bytes().replace(2 * six_hundred, 2 * three_hundred))
    with pytest.raises(ModelError, match=r"other\.onnx: not a YuNet for images of 640x640 or of any size \(.*320"):
        check_teacher(Teacher(other))
    nothing = tmp_path / "nothing.onnx"
    nothing.write_bytes(b"not ONNX")
    with pytest.raises(ModelError, match="nothing"):
        check_teacher(Teacher(nothing))
