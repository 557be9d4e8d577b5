"""The rows of a history."""

from __future__ import annotations

from typing import Any

import msgspec


class Period(msgspec.Struct):
    """What was seen in a minute, or in a longer time.

    Attributes:
        start: its start, in seconds since 1970.
        observed_s: seconds in which frames were processed.
        face_s: seconds in which faces were in view, added up over the faces.
        max_faces: the largest number of faces in view at once.
        new_faces: number of faces that appeared.
        emotion_s: the part of `face_s` of each emotion that occurred, and of ``unclear``, in which it was not reliable.
    """

    start: int
    observed_s: float = 0.0
    face_s: float = 0.0
    max_faces: int = 0
    new_faces: int = 0
    emotion_s: dict[str, float] = {}

    def shares(self) -> dict[str, float]:
        """Return the share of each emotion, and of ``unclear``, in the time of all faces, 0..1."""
        total = sum(self.emotion_s.values())
        return {emotion: seconds / total for emotion, seconds in self.emotion_s.items() if total}

    def add(self, other: Period) -> None:
        """Add what was seen in another period."""
        self.observed_s += other.observed_s
        self.face_s += other.face_s
        self.max_faces = max(self.max_faces, other.max_faces)
        self.new_faces += other.new_faces
        for emotion, seconds in other.emotion_s.items():
            self.emotion_s[emotion] = self.emotion_s.get(emotion, 0.0) + seconds


class PastEvent(msgspec.Struct, frozen=True):
    """An event in a history.

    Attributes:
        time: when it happened, in seconds since 1970.
        event_type: ``new``, ``update`` or ``end``.
        id: identifies the track; see `fer_edge_device.messages.Event`, also for the others.
        emotion: the emotion.
        score: its smoothed score, 0..1.
        previous: for an ``update``, the emotion before.
        duration_s: seconds for which the face had been in view.
        x: left edge of the box, as a fraction of the image's width, 0..1.
        y: top edge, as a fraction of the height.
        width: width of the box.
        height: height of the box.
        model: the model's name and the first digits of its SHA-256.
        reliable: whether the emotion was reliable.
        scores: smoothed score of each emotion, 0..1.
    """

    time: float
    event_type: str
    id: str
    emotion: str
    score: float
    previous: str | None
    duration_s: float
    x: float
    y: float
    width: float
    height: float
    model: str
    reliable: bool
    scores: dict[str, float]

    def values(self) -> tuple[Any, ...]:
        """Return the values in the order of the attributes, the scores as JSON."""
        *others, reliable, scores = msgspec.structs.astuple(self)
        return *others, int(reliable), msgspec.json.encode(scores).decode()
