"""Test that annotations stay correct through every change of a scene."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge.detection.metrics import pairwise_iou
from fer_edge_train.faces.detector_recipe import SceneAugmentation
from fer_edge_train.faces.detector_targets import (
    FACE,
    FACE_WITHOUT_LANDMARKS,
    IGNORED,
    KIND,
    NOT_A_FACE,
    WEIGHT,
    Annotations,
    pack,
    row_boxes,
)
from fer_edge_train.faces.scene_effects import occlude
from fer_edge_train.faces.scene_geometry import transform
from fer_edge_train.faces.scene_sources import AnnotatedImage, SceneSources
from fer_edge_train.faces.scenes import BatchShape, make_scene, make_scene_batch
from fer_edge_train.faces.yunet_teacher import Teacher
from fer_edge_train.recipe_files import load_detector_recipe
from tests.fer_edge.detection import onnx_squares

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

ALL_EFFECTS = load_detector_recipe(
    "faces", ["augmentation.paste=0.5", "augmentation.clutter=0.5", "augmentation.mixup=0.5"]
).augmentation
NO_BOXES = np.empty((0, 4), np.float32)
UNMARKED = Annotations(NO_BOXES, np.empty((0, 5, 2), np.float32), np.empty(0, np.float32), NO_BOXES)


def disc(rows: int, columns: int, x: float, y: float, radius: float) -> AnnotatedImage:
    """Make a bright disc on a dark background, annotated as a face with landmarks."""
    gray = np.full((rows, columns), 40, np.uint8)
    cv2.circle(gray, (round(x * 16), round(y * 16)), round(radius * 16), (220,), -1, shift=4)
    at = [(-0.4, -0.3), (0.4, -0.3), (0, 0), (-0.3, 0.5), (0.3, 0.5)]
    landmarks = np.array([[(x + dx * radius, y + dy * radius) for dx, dy in at]], np.float32)
    box = np.array([[x - radius, y - radius, 2 * radius, 2 * radius]], np.float32)
    return AnnotatedImage(gray, Annotations(box, landmarks, np.ones(1, np.float32), NO_BOXES))


def make_sources(
    *images: AnnotatedImage, pasted: npt.NDArray[np.uint8] | None = None, teacher: Teacher | None = None
) -> SceneSources:
    empty = [i for i, image in enumerate(images) if not len(image.annotations.boxes)]
    none = np.empty((0, 48, 48), np.uint8)
    every = np.arange(len(images))
    return SceneSources(images, np.array(empty, np.int64), every, none if pasted is None else pasted, teacher)


def test_boxes_follow_faces_through_every_change() -> None:
    geometry = SceneAugmentation(flip=0.5, rotate=0.5, rotate_degrees=25, squeeze=1.3)
    sources = make_sources(disc(120, 160, 70, 50, 30))
    rng = np.random.default_rng(3)
    checked = 0
    for _ in range(80):
        image, annotations = make_scene(sources, 0, 128, geometry, rng)
        assert image.shape == (128, 128)
        for (x, y, width, height), points in zip(annotations.boxes.tolist(), annotations.landmarks, strict=True):
            assert x >= 0
            assert y >= 0
            assert max(x + width, y + height) <= 128.001
            left, right, nose, low_left, low_right = points.tolist()
            assert left[0] < right[0]
            assert low_left[0] < low_right[0]
            assert min(low_left[1], low_right[1]) > max(left[1], right[1])
            if min(width, height) > 20 and min(x, y) > 0 and max(x + width, y + height) < 127.9:  # whole
                middle = np.array((x + width / 2, y + height / 2))
                assert nose == pytest.approx(middle, abs=0.01)
                inside = image[round(y) : round(y + height), round(x) : round(x + width)]
                # A disc fills pi / 4 of its box.
                assert (inside > 130).mean() == pytest.approx(math.pi / 4, abs=0.09)
                checked += 1
    assert checked > 15


def test_mirror_swaps_left_and_right_landmarks() -> None:
    annotations = disc(100, 100, 60, 50, 20).annotations
    points = annotations.landmarks[0]
    mirrored = transform(annotations, np.array([[-1.0, 0, 100], [0, 1, 0]]), (100, 100), 10)
    assert mirrored.boxes == pytest.approx(np.array([[20, 30, 40, 40]]))
    assert mirrored.landmarks[0, 0] == pytest.approx((100 - points[1, 0], points[1, 1]))
    assert mirrored.landmarks[0, 4] == pytest.approx((100 - points[3, 0], points[3, 1]))
    assert mirrored.landmarks[0, 2] == pytest.approx((40, 50))


def test_small_or_hidden_faces_become_ignored_regions() -> None:
    annotations = disc(100, 100, 50, 50, 20).annotations
    small = transform(annotations, np.array([[0.2, 0, 0], [0, 0.2, 0]]), (100, 100), 10)
    assert len(small.boxes) == 0
    assert small.ignored == pytest.approx(np.array([[6, 6, 8, 8]]))
    half = transform(annotations, np.array([[1.0, 0, -50], [0, 1, 0]]), (100, 100), 10)
    assert len(half.boxes) == 0
    assert half.ignored == pytest.approx(np.array([[0, 30, 20, 40]]))
    gone = transform(annotations, np.array([[1.0, 0, -90], [0, 1, 0]]), (100, 100), 10)
    assert len(gone.boxes) == len(gone.ignored) == 0


def test_scene_depends_on_generator_and_pasted_faces_do_not_overlap() -> None:
    faces = np.full((2, 48, 48), 128, np.uint8)
    empty = AnnotatedImage(np.full((90, 120), 100, np.uint8), UNMARKED)
    sources = make_sources(disc(120, 160, 70, 50, 30), empty, pasted=faces)
    first, same, other = (make_scene(sources, 0, 96, ALL_EFFECTS, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first[0] == same[0]).all()
    assert not np.array_equal(first[0], other[0])
    pasted = 0
    for seed in range(30):
        _, annotations = make_scene(sources, 1, 96, ALL_EFFECTS, np.random.default_rng(seed))
        pasted += int(np.isnan(annotations.landmarks[:, 0, 0]).sum())
        assert len(annotations.boxes) == len(annotations.landmarks) == len(annotations.scores)
    assert pasted > 5
    _, annotations = make_scene(sources, 1, 96, SceneAugmentation(paste=1.0), np.random.default_rng(1))
    assert 1 <= len(annotations.boxes) <= 8


def test_draws_every_pixel_of_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    grays = rng.integers(0, 256, (3, 90, 120), np.uint8)
    sources = make_sources(*(AnnotatedImage(gray, UNMARKED) for gray in grays))
    augmentation = SceneAugmentation(mosaic=0.5, flip=0.5)  # without rotation, enlarged to the edges of their places
    scenes = []
    for left_over in (0, 255):
        with monkeypatch.context() as memory:
            memory.setattr(np, "empty", lambda shape, dtype=float, value=left_over: np.full(shape, value, dtype))
            scenes.append(
                [make_scene(sources, i % 3, 128, augmentation, np.random.default_rng(i))[0] for i in range(40)]
            )
    np.testing.assert_array_equal(scenes[0], scenes[1])


def test_occlusion_covers_part_of_face() -> None:
    wall = AnnotatedImage(np.full((300, 300), 130, np.uint8), UNMARKED)
    face = disc(200, 200, 100, 100, 60)
    plain, occluding = (SceneAugmentation(occlude=chance, max_zoom=1) for chance in (0, 1))
    covered = []
    for seed in range(40):
        images = []
        for augmentation in (plain, occluding):
            out, annotations = make_scene(make_sources(face, wall), 0, 96, augmentation, np.random.default_rng(seed))
            images.append(out)
        if not len(annotations.boxes) or annotations.boxes[0, 2:].min() < 24:
            continue
        left, top, width, height = (round(value) for value in annotations.boxes[0].tolist())
        before, after = (image[top : top + height, left : left + width].astype(int) for image in images)
        covered.append((abs(before - after) > 20).mean())
    assert len(covered) > 10
    assert 0.1 < np.mean(covered) < 0.4
    assert max(covered) < 0.5


def test_large_clear_face_stays_a_face_when_it_is_covered(tmp_path: Path) -> None:
    file = tmp_path / "squares.onnx"
    onnx_squares.write_network(file, 0.92)
    wall = AnnotatedImage(np.full((300, 300), 130, np.uint8), UNMARKED)
    sides, scores = (80, 20, 80, 80), (1.0, 1.0, 0.5, NOT_A_FACE)
    boxes = np.array(
        [(20 + 120 * (i % 2), 20 + 120 * (i // 2), side, side) for i, side in enumerate(sides)], np.float32
    )
    unknown = np.full((4, 5, 2), np.nan, np.float32)
    for teacher, expected in ((Teacher(file, (1,)), (1, 0, 0, NOT_A_FACE)), (None, scores)):
        sources = make_sources(wall, teacher=teacher)
        changed, seen = np.zeros(4, bool), np.array(scores, np.float32)
        for seed in range(20):
            image = np.full((260, 260), 130, np.uint8)
            annotations = Annotations(boxes, unknown, np.array(scores, np.float32), NO_BOXES)
            occlude(image, annotations, sources, SceneAugmentation(occlude=1), np.random.default_rng(seed))
            parts = [image[y:, x:][:side, :side] for x, y, side, _ in boxes.astype(int).tolist()]
            changed |= [bool((part != 130).any()) for part in parts]
            seen = np.where(annotations.scores == np.array(scores, np.float32), seen, annotations.scores)
        assert changed.all()
        assert seen.tolist() == list(expected)


def test_teacher_alone_scores_pasted_faces(tmp_path: Path) -> None:
    file = tmp_path / "squares.onnx"
    onnx_squares.write_network(file, 0.92)
    teacher = Teacher(file, (1, 2))
    dark = AnnotatedImage(np.zeros((96, 96), np.uint8), UNMARKED)
    faces = np.full((2, 48, 48), 20, np.uint8)
    augmentation = SceneAugmentation(paste=0.5)
    chosen, shape, count = np.zeros(1, np.int64), BatchShape(96, 8), 12 * 12 + 6 * 6 + 3 * 3
    pasted = 0
    for seed in range(40):
        (image,), (rows,) = make_scene_batch(
            make_sources(dark, pasted=faces, teacher=teacher), chosen, shape, augmentation, [seed]
        )
        _, (alone,) = make_scene_batch(make_sources(dark, pasted=faces), chosen, shape, augmentation, [seed])
        assert rows.shape == (count + 8, 16)
        if image.max() > 20:
            continue  # a grey background, in which the teacher finds faces
        assert set(alone[:, KIND].tolist()) <= {0, FACE_WITHOUT_LANDMARKS}
        # The teacher finds white squares only, so it sees no face here.
        assert not rows[:, WEIGHT].any()
        assert not rows[count:].any()
        pasted += (alone[:, KIND] == FACE_WITHOUT_LANDMARKS).sum()
    assert pasted > 8


def test_an_object_that_is_no_face_is_background(tmp_path: Path) -> None:
    """The teacher takes each white square for a face, but one is known to be none."""
    file = tmp_path / "squares.onnx"
    onnx_squares.write_network(file, 0.92)
    gray = np.zeros((96, 96), np.uint8)
    gray[8:40, 8:40] = gray[56:88, 56:88] = 255
    boxes = np.array([[8, 8, 32, 32], [56, 56, 32, 32]], np.float32)
    unknown = np.full((2, 5, 2), np.nan, np.float32)
    for teacher in (Teacher(file), None):
        for scores in ((1, 1), (1, NOT_A_FACE)):
            annotated = Annotations(boxes, unknown, np.array(scores, np.float32), NO_BOXES)
            source = make_sources(AnnotatedImage(gray, annotated), teacher=teacher)
            found = 0
            for seed in range(10):
                _, (rows,) = make_scene_batch(
                    source, np.zeros(1, np.int64), BatchShape(96, 8), SceneAugmentation(max_zoom=1), [seed]
                )
                _, scene = make_scene(source, 0, 96, SceneAugmentation(max_zoom=1), np.random.default_rng([seed]))
                objects = scene.boxes[scene.scores < 0]
                answers = row_boxes(rows[(rows[:, WEIGHT] >= 0.5) & (rows[:, KIND] != IGNORED)])
                found += len(answers)
                assert pairwise_iou(answers, objects).max(initial=0) < 0.4
            assert found, "the other square is still a face"


def test_pack_gives_each_row_a_kind() -> None:
    known = disc(100, 100, 50, 50, 20).annotations
    unknown = Annotations(known.boxes, known.landmarks * np.nan, np.array([0.465], np.float32), known.boxes[:1])
    rows = pack([known, unknown])
    assert rows.shape == (2, 8, 16)
    assert rows[:, :2, KIND].tolist() == [[FACE, 0], [FACE_WITHOUT_LANDMARKS, IGNORED]]
    assert rows[0, 0, :4].tolist() == [30, 30, 70, 70]
    assert rows[:, 0, WEIGHT] == pytest.approx((1, 0.5))
    assert not rows[:, 2:].any()


def test_clutter_covers_no_face() -> None:
    sources = make_sources(disc(120, 160, 70, 50, 30))
    changed = 0
    for seed in range(30):
        plain, annotations = make_scene(sources, 0, 128, SceneAugmentation(), np.random.default_rng(seed))
        image, same = make_scene(sources, 0, 128, SceneAugmentation(clutter=0.9), np.random.default_rng(seed))
        assert np.array_equal(same.boxes, annotations.boxes)
        changed += not np.array_equal(image, plain)
        for x, y, width, height in [*annotations.boxes.tolist(), *annotations.ignored.tolist()]:
            face = slice(math.ceil(y), int(y + height)), slice(math.ceil(x), int(x + width))
            assert np.array_equal(image[face], plain[face])
    assert changed > 15


def test_mixed_image_brings_its_faces() -> None:
    dark, face = AnnotatedImage(np.full((128, 128), 10, np.uint8), UNMARKED), disc(120, 160, 70, 50, 30)
    sources, augmentation = make_sources(dark, face), SceneAugmentation(mixup=1.0)
    through = 0
    for seed in range(30):
        alone, _ = make_scene(sources, 0, 128, SceneAugmentation(), np.random.default_rng(seed))
        image, annotations = make_scene(sources, 0, 128, augmentation, np.random.default_rng(seed))
        for (x, y, width, height), score in zip(annotations.boxes.tolist(), annotations.scores.tolist(), strict=True):
            middle = int(y + height / 2), int(x + width / 2)
            assert 0 < score <= 0.5
            assert image[middle] == pytest.approx((1 - score) * alone[middle] + score * 220, abs=2)
            through += 1
    assert through > 5


def test_teacher_alone_scores_mixed_faces(tmp_path: Path) -> None:
    file = tmp_path / "yunet.onnx"
    onnx_squares.write_network(file, 0.92)
    teacher = Teacher(file)
    sources, augmentation = make_sources(disc(120, 160, 70, 50, 30), teacher=teacher), SceneAugmentation(mixup=1.0)
    _, annotations = make_scene(sources, 0, 128, augmentation, np.random.default_rng(1))
    assert len(annotations.scores)
    assert not annotations.scores.any()
