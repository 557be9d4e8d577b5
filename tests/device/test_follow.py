from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge import demo
from fer_edge.crop import Box
from fer_edge.tracks import intersection_over_union
from fer_edge_device.follow import Follower

from .scenes import around, papered_wall, scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


def inner(box: Box) -> Box:
    """What a detector makes of a FER-2013 picture."""
    margin = 0.08 * box.width
    return Box(box.x + margin, box.y + margin, box.width - 2 * margin, box.height - 2 * margin)


def follow(boxes: Sequence[Box], pictures: Sequence[npt.NDArray[np.uint8]] = ()) -> list[Box | None]:
    """Where the face of the first picture is found in the others; None where and after it is lost."""
    follower = Follower()
    pictures = pictures or [scene(("happy", box)) for box in boxes]
    follower.take(pictures[0])
    seen = follower.remember(inner(boxes[0]))
    assert seen is not None
    found: list[Box | None] = []
    for picture in pictures[1:]:
        follower.take(picture)
        found.append(follower.find(seen) if not found or found[-1] is not None else None)
    return found


@pytest.mark.parametrize("side", [40, 70, 120, 200, 300])
@pytest.mark.parametrize(
    ("across", "down"), [(0.0, 0.0), (0.011, 0.005), (-0.13, 0.07), (0.35, 0.0)], ids=["still", "slow", "walk", "fast"]
)
def test_a_face_that_moves_is_followed_to_a_fraction_of_its_size(side: float, across: float, down: float) -> None:
    # No further than to the picture's other side.
    steps = 5 if abs(across) * side < 60 else 3
    boxes = [around(320 + side * across * n, 240 + side * down * n, side) for n in range(steps)]
    for box, found in zip(boxes[1:], follow(boxes), strict=True):
        assert found is not None
        assert intersection_over_union(found, inner(box)) > 0.85


def test_a_face_that_changes_its_expression_and_comes_nearer_is_followed() -> None:
    boxes = [around(320, 240, 120 * 1.02**n) for n in range(8)]
    pictures = []
    for n, box in enumerate(boxes):
        picture = papered_wall()
        weight = np.float32(n / 7)
        demo.paste(picture, demo.face("happy") * (1 - weight) + demo.face("surprise") * weight, box)
        pictures.append(picture)
    for box, found in zip(boxes[1:5], follow(boxes, pictures), strict=False):
        assert found is not None
        assert intersection_over_union(found, inner(box)) > 0.75


@pytest.mark.parametrize("light", [0.4, 0.7, 1.3])
def test_light_that_is_dimmed_or_turned_up_is_no_loss(light: float) -> None:
    box = around(320, 240)
    picture = scene(("happy", box))
    lit = np.clip(picture * np.float32(light), 0, 255).astype(np.uint8)
    (found,) = follow([box, box], [picture, lit])
    assert found is not None
    assert intersection_over_union(found, inner(box)) > 0.95


@pytest.mark.parametrize("side", [50, 120, 250])
def test_a_face_that_is_gone_is_lost_at_once(side: float) -> None:
    box = around(320, 240, side)
    dark = np.random.default_rng(1).integers(0, 6, (480, 640)).astype(np.uint8)
    for after in (
        papered_wall(),
        demo.wall(),
        dark,
        np.zeros((480, 640), np.uint8),
        np.full((480, 640), 255, np.uint8),
    ):
        assert follow([box, box], [scene(("happy", box)), after]) == [None]


def test_another_face_in_its_place_is_not_taken_for_it() -> None:
    box = around(320, 240)
    for other in ("neutral", "angry", "sad", "disgust"):
        assert follow([box, box], [scene(("happy", box)), scene((other, box))]) == [None]


@pytest.mark.parametrize("side", [60, 120, 200])
def test_a_face_that_goes_behind_an_edge_is_lost_before_it_is_hidden(side: float) -> None:
    boxes, pictures = [], []
    for n in range(14):
        boxes.append(around(300 - side / 2 + side * 0.1 * n, 240, side))
        picture = scene(("happy", boxes[-1]))
        picture[:, 300:] = papered_wall()[::-1, 300:]
        pictures.append(picture)
    assert follow(boxes, pictures)[-3:] == [None] * 3


def test_a_face_that_leaves_the_picture_is_lost() -> None:
    boxes = [around(560 + 20 * n, 240) for n in range(10)]
    assert follow(boxes)[-1] is None


def test_a_frame_of_another_size_is_a_loss_and_not_an_error() -> None:
    box = around(320, 240)
    picture = scene(("happy", box))
    assert follow([box, box, box], [picture, picture[:401, :603], picture]) == [None, None]


def test_an_odd_size_and_padded_rows_are_followed_as_any_other() -> None:
    boxes = [around(300 + 8 * n, 200, 200) for n in range(5)]
    pictures = [scene(("happy", box))[:401, :603] for box in boxes]
    assert not pictures[0].flags.c_contiguous
    for box, found in zip(boxes[1:], follow(boxes, pictures), strict=True):
        assert found is not None
        assert intersection_over_union(found, inner(box)) > 0.85


def test_a_box_that_is_hardly_in_the_picture_is_not_followed() -> None:
    follower = Follower()
    follower.take(papered_wall())
    assert follower.remember(Box(636, 100, 40, 40)) is None
    assert follower.remember(Box(-60, -60, 40, 40)) is None


def test_the_memory_of_reduced_pictures_is_used_again() -> None:
    follower = Follower()
    box = inner(around(320, 240, 200))
    follower.take(scene(("happy", around(320, 240, 200))))
    assert follower.remember(box)
    before = [id(level) for level in follower._levels[1:]]
    for n in range(3):
        follower.take(scene(("happy", around(320 + n, 240, 200))))
        assert follower.remember(box)
    assert [id(level) for level in follower._levels[1:]] == before
    assert len(before) >= 2
