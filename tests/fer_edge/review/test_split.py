from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

from fer_edge.review.split import SplitFace, assign_sides


def faces(groups: list[int], labels: list[str]) -> list[SplitFace]:
    return [
        SplitFace(hashlib.sha256(str(row).encode()).hexdigest(), group, label, "")
        for row, (group, label) in enumerate(zip(groups, labels, strict=True))
    ]


def test_each_emotion_has_its_share_in_the_test() -> None:
    labels = ["happy"] * 100 + ["sad"] * 20
    sides = assign_sides(faces([*range(120)], labels), 0.2)
    tested = Counter(label for label, side in zip(labels, sides, strict=True) if side == "test")
    assert tested == {"happy": 20, "sad": 4}


def test_groups_stay_together_and_sides_stay_when_faces_come() -> None:
    everything = faces([row // 3 for row in range(300)], [("happy", "sad", "fear")[row % 3] for row in range(300)])
    early = everything[:100]
    before = assign_sides(early, 0.2)
    known = [face._replace(side=side) for face, side in zip(early, before, strict=True)]
    after = assign_sides([*known, *everything[100:]], 0.2)
    assert after[:100] == before
    by_group = defaultdict(set)
    for face, side in zip(everything, after, strict=True):
        by_group[face.group].add(side)
    assert all(len(sides) == 1 for sides in by_group.values())
    assert 50 <= after.count("test") <= 65


def test_sides_depend_on_nothing_but_the_faces() -> None:
    some = faces([*range(50)], ["happy"] * 50)
    sides = dict(zip(some, assign_sides(some, 0.2), strict=True))
    assert dict(zip(some[::-1], assign_sides(some[::-1], 0.2), strict=True)) == sides


def test_face_between_train_and_test_gets_no_side() -> None:
    one, other, between = faces([0, 0, 0], ["happy"] * 3)
    sides = assign_sides([one._replace(side="train"), other._replace(side="test"), between], 0.5)
    assert sides == ["train", "test", ""]


def test_two_people_are_one_on_each_side_and_one_person_is_in_train() -> None:
    assert set(assign_sides(faces([0] * 10 + [1] * 10, ["happy"] * 20), 0.2)) == {"train", "test"}
    assert set(assign_sides(faces([0] * 10, ["happy"] * 10), 0.2)) == {"train"}
    assert set(assign_sides(faces([0] * 10 + [1] * 10, ["happy"] * 20), 0)) == {"train"}
