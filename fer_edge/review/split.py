"""Dividing reviewed faces into train and test, so that no face ever changes sides."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Side = Literal["train", "test", ""]
SIDES: Final[tuple[Side, ...]] = ("train", "test")


class SplitFace(NamedTuple):
    """What the side of a face depends on.

    Attributes:
        key: hash of the face.
        group: number of the group that must not be divided.
        label: the emotion.
        side: where it is already; empty if it is new.
    """

    key: str
    group: int
    label: str
    side: Side


def assign_sides(faces: Sequence[SplitFace], test_share: float) -> list[Side]:
    """Return the side of each face.

    A face that has a side keeps it. Faces of its group get the same one. A new group goes where the hash of its
    first face, in the order of hashes, and the need of each emotion for test faces put it. If a group has come to
    lie on both sides, because a new face connects two groups, its new faces get no side.

    Args:
        faces: the faces.
        test_share: share of each emotion's faces to test on, 0..1.
    """
    groups: dict[int, list[SplitFace]] = defaultdict(list)
    for face in faces:
        groups[face.group].append(face)
    sides: dict[int, Side] = {}
    new: list[int] = []
    for group, members in groups.items():
        taken = {face.side for face in members} - {""}
        if not taken:
            new.append(group)
        elif len(taken) == 1:
            sides[group] = taken.pop()
        else:
            sides[group] = ""
    total = Counter(face.label for face in faces)
    tested = Counter(face.label for face in faces if (face.side or sides.get(face.group)) == "test")
    need = Counter({label: max(round(test_share * count) - tested[label], 0) for label, count in total.items()})
    # Hashed once more, in case the files were chosen by their hashes.
    new.sort(key=lambda group: hashlib.sha256(min(face.key for face in groups[group]).encode()).digest())
    for group in new:
        counts = Counter(face.label for face in groups[group])
        wanted = sum(min(count, need[label]) for label, count in counts.items())
        sides[group] = "test" if wanted * 2 > counts.total() else "train"
        if sides[group] == "test":
            need -= counts  # which drops what falls to zero
    if len(new) > 1 and test_share and "test" not in {*sides.values(), *(face.side for face in faces)}:
        sides[min(new, key=lambda group: len(groups[group]))] = "test"
    return [face.side or sides[face.group] for face in faces]
