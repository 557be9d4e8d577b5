"""A review at work: which faces come next, what was decided, and how far it is."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec
import numpy as np

from fer_edge.errors import DataError, InputError
from fer_edge.review.agreement import measure_agreement, number_answers
from fer_edge.review.choices import NO_EMOTION
from fer_edge.review.decisions import list_logs, read_log
from fer_edge.review.face_folder import REVIEWS

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.review.agreement import Agreement
    from fer_edge.review.decisions import DecisionLog, Decisions
    from fer_edge.review.face_folder import FaceFolder, FaceImage

Order = Literal["emotion", "uncertainty", "random"]
Show = Literal["open", "done", "disputed", "all"]

_MAX_SHOWN_MEMBERS: Final = 12
_MIXED: Final = "mixed"


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A face, or a group of near-duplicates, as the page shows it.

    Attributes:
        position: its place in the order, from 0.
        face: hash of the face that stands for all.
        members: hashes of the faces of the group, the first ones if there are many.
        count: how many faces there are.
        name: name of the file.
        emotion: the predicted emotion; empty without a prediction, or if it must not be seen.
        scores: the scores; empty likewise.
        reason: why it was collected.
        label: the reviewer's answer; None if one of its faces has none.
        others: the answers of the other reviewers, by name, in a view of disputed faces.
    """

    position: int
    face: str
    members: tuple[str, ...]
    count: int
    name: str
    emotion: str
    scores: dict[str, float]
    reason: str
    label: str | None
    others: dict[str, str]


class CardPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some cards in a row.

    Attributes:
        cards: the cards.
        total: how many cards there are of this kind.
        before: how many of them come before these.
    """

    cards: tuple[Card, ...]
    total: int
    before: int


class View(NamedTuple):
    """What to show, and how.

    Attributes:
        order: by predicted emotion, and the least certain first; the least certain first; or at random, without the
            predictions.
        show: those without an answer, those with one, those on which reviewers differ, or all.
        emotion: only those with this prediction; empty for all.
        grouped: whether near-duplicates are one card.
    """

    order: Order = "emotion"
    show: Show = "open"
    emotion: str = ""
    grouped: bool = True


class _OtherReviewer(NamedTuple):
    """Another reviewer.

    Attributes:
        state: time and size of the log when it was read.
        decisions: what is in it.
        answers: number of the answer for each face; -1 for none.
    """

    state: tuple[int, int]
    decisions: Decisions
    answers: npt.NDArray[np.int64]


class ReviewSession:
    """The review of a folder by one reviewer. Use it in one thread at a time.

    Attributes:
        folder: the faces.
        choices: all answers: the emotions, and the two that are none.
    """

    def __init__(self, folder: FaceFolder, groups: npt.NDArray[np.int64], log: DecisionLog) -> None:
        """Start or continue a review.

        Args:
            folder: the faces.
            groups: number of the group of near-duplicates of each.
            log: where decisions are recorded.
        """
        self.folder = folder
        self._log = log
        self.choices = (*folder.emotions, *NO_EMOTION)
        self._numbers = {choice: number for number, choice in enumerate(self.choices)}
        self._index = {face.sha256: index for index, face in enumerate(folder.faces)}
        self._groupings = {True: _Grouping(groups, folder), False: _Grouping(np.arange(len(folder.faces)), folder)}
        self._mine = number_answers(log.decisions, self._index, self._numbers)
        self._others: dict[Path, _OtherReviewer] = {}

    @property
    def reviewer(self) -> str:
        """Name of the reviewer."""
        return self._log.decisions.reviewer

    def page(self, view: View, start: int, count: int, *, backwards: bool = False) -> CardPage:
        """Return the next cards of a view.

        Args:
            view: the view.
            start: position from which to go on; going backwards, the one before which to end.
            count: how many at most.
            backwards: whether to return the cards before it.
        """
        grouping = self._groupings[view.grouped]
        ordered = grouping.order(view.order)
        wanted = self._wanted(view, grouping)[ordered]
        positions = np.flatnonzero(wanted)
        first = int(np.searchsorted(positions, start))
        chosen = positions[max(first - count, 0) : first] if backwards else positions[first : first + count]
        before = max(first - count, 0) if backwards else first
        others = self._read_others() if view.show == "disputed" else []
        cards = [self._card(grouping, int(ordered[at]), int(at), view, others) for at in chosen]
        return CardPage(cards=tuple(cards), total=len(positions), before=before)

    def decide(self, face: str, label: str | None, *, grouped: bool) -> int:
        """Record an answer, for a face or for all its near-duplicates.

        Args:
            face: hash of the face.
            label: the answer; None takes it back.
            grouped: whether it is for the near-duplicates, too.

        Returns:
            The number of faces.

        Raises:
            InputError: there is no such face or answer.
            FerEdgeError: the answer cannot be written.
        """
        if label is not None and label not in self.choices:
            raise InputError(f"label: choose one of {', '.join(self.choices)}")
        if face not in self._index:
            raise InputError("face: there is none of this hash; load the page again")
        grouping = self._groupings[grouped]
        members = grouping.members(int(grouping.group_of[self._index[face]]))
        labels = {self.folder.faces[member].sha256: label for member in members}
        self._log.record(labels)
        self._update(labels)
        return len(members)

    def undo(self) -> tuple[str, str | None] | None:
        """Take the last decision back.

        Returns:
            Hash of a face that it was about, and the label that this has again; None if there was nothing to undo.

        Raises:
            FerEdgeError: it cannot be written.
        """
        labels = self._log.decisions.last_undoable
        if labels is None:
            return None
        self._log.record(labels, undo=True)
        self._update(labels)
        return next(((face, label) for face, label in labels.items() if face in self._index), ("", None))

    def position(self, face: str, order: Order, *, grouped: bool) -> int:
        """Return where a face, or its group, is in an order; 0 if there is no such face.

        Args:
            face: hash of the face.
            order: the order.
            grouped: whether near-duplicates are one card.
        """
        if face not in self._index:
            return 0
        grouping = self._groupings[grouped]
        return int(np.flatnonzero(grouping.order(order) == grouping.group_of[self._index[face]])[0])

    def progress(self, *, grouped: bool) -> dict[str, Any]:
        """Return how far the review is, as JSON.

        Args:
            grouped: whether near-duplicates count once.
        """
        grouping = self._groupings[grouped]
        done = grouping.all_of(self._mine >= 0)
        emotions = {
            emotion: {"cards": int(cards.sum()), "done": int((cards & done).sum())}
            for emotion in ("", *self.folder.emotions)
            if (cards := grouping.predicted(emotion)).any()
        }
        return {
            "faces": len(self.folder.faces),
            "cards": len(done),
            "done": int(done.sum()),
            "can_undo": self._log.decisions.last_undoable is not None,
            "emotions": emotions,
        }

    def agreement(self) -> Agreement:
        """Return how many faces each reviewer has labelled, and how far they agree."""
        others = self._read_others()
        names = [self.reviewer, *(other.decisions.reviewer for other in others)]
        answers = np.stack([self._mine, *(other.answers for other in others)])
        return measure_agreement(names, answers, self._groupings[True].first)

    def face(self, sha256: str) -> FaceImage | None:
        """Return a face by its hash; None if there is none."""
        index = self._index.get(sha256)
        return None if index is None else self.folder.faces[index]

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _card(self, grouping: _Grouping, group: int, position: int, view: View, others: list[_OtherReviewer]) -> Card:
        members = grouping.members(group)
        face = self.folder.faces[members[0]]
        is_blind = view.order == "random"
        return Card(
            position=position,
            face=face.sha256,
            members=tuple(self.folder.faces[member].sha256 for member in members[:_MAX_SHOWN_MEMBERS]),
            count=len(members),
            name=face.name,
            emotion="" if is_blind else face.prediction.emotion,
            scores={} if is_blind else dict(face.prediction.scores),
            reason="" if is_blind else face.prediction.reason,
            label=self._common_label(self._log.decisions, members),
            others={
                other.decisions.reviewer: label
                for other in others
                if (label := self._common_label(other.decisions, members))
            },
        )

    def _common_label(self, decisions: Decisions, members: npt.NDArray[np.int64]) -> str | None:
        """Return the label of all members; None if one has none."""
        answers = [decisions.answers.get(self.folder.faces[member].sha256) for member in members]
        labels = {answer.label if answer else None for answer in answers}
        return None if None in labels else labels.pop() if len(labels) == 1 else _MIXED

    def _wanted(self, view: View, grouping: _Grouping) -> npt.NDArray[np.bool_]:
        """Return which groups a view shows."""
        answers = self._mine
        if view.show == "disputed":
            everybody = np.stack([answers, *(other.answers for other in self._read_others())])
            lowest = np.where(everybody >= 0, everybody, np.iinfo(np.int64).max).min(axis=0)
            wanted = grouping.any_of(lowest < everybody.max(axis=0))
        else:
            done = grouping.all_of(answers >= 0)
            wanted = {"open": ~done, "done": done, "all": np.ones_like(done)}[view.show]
        return wanted & grouping.predicted(view.emotion) if view.emotion and view.order != "random" else wanted

    def _update(self, labels: dict[str, str | None]) -> None:
        """Take in what was recorded."""
        for sha256, label in labels.items():
            if sha256 in self._index:
                number = -1 if label is None else self._numbers.setdefault(label, len(self._numbers))
                self._mine[self._index[sha256]] = number

    def _read_others(self) -> list[_OtherReviewer]:
        """Return the other reviewers; their logs are read again if they have changed."""
        found: dict[Path, _OtherReviewer] = {}
        for path in list_logs(self.folder.path / REVIEWS):
            if path.stem == self.reviewer:
                continue
            with suppress(OSError, DataError):  # it is being replaced
                status = path.stat()
                state = status.st_mtime_ns, status.st_size
                known = self._others.get(path)
                if known is None or known.state != state:
                    decisions = read_log(path)
                    known = _OtherReviewer(state, decisions, number_answers(decisions, self._index, self._numbers))
                found[path] = known
        self._others = found
        return [*found.values()]


class _Grouping:
    """Faces in groups, of which each is a card.

    Attributes:
        group_of: number of the group of each face.
        first: the face that stands for each group: the least certain one.
    """

    def __init__(self, groups: npt.NDArray[np.int64], folder: FaceFolder) -> None:
        faces = folder.faces
        scores = np.array([face.score for face in faces])
        self.group_of = np.unique(groups, return_inverse=True)[1].reshape(-1)
        # By group, and within a group the least certain first.
        self._sorted = np.lexsort((np.arange(len(faces)), scores, self.group_of))
        self._begins = np.searchsorted(self.group_of[self._sorted], np.arange(self.group_of.max() + 2))
        self.first = self._sorted[self._begins[:-1]]
        numbers = {emotion: number for number, emotion in enumerate(folder.emotions)}
        self._numbers = numbers
        self._emotions = np.array([numbers.get(faces[face].prediction.emotion, -1) for face in self.first])
        hashes = np.array([faces[face].sha256 for face in self.first])
        certain = scores[self.first]
        self._orders: dict[Order, npt.NDArray[np.int64]] = {
            "emotion": np.lexsort((hashes, certain, self._emotions)),
            "uncertainty": np.lexsort((hashes, certain)),
            "random": np.argsort(hashes),
        }

    def order(self, order: Order) -> npt.NDArray[np.int64]:
        """Return the groups in an order."""
        return self._orders[order]

    def members(self, group: int) -> npt.NDArray[np.int64]:
        """Return the faces of a group, the least certain first."""
        return self._sorted[self._begins[group] : self._begins[group + 1]]

    def predicted(self, emotion: str) -> npt.NDArray[np.bool_]:
        """Return which groups have a prediction; an empty one stands for none."""
        found: npt.NDArray[np.bool_] = self._emotions == self._numbers.get(emotion, -1)
        return found

    def all_of(self, faces: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return of which groups all faces are among some faces."""
        found: npt.NDArray[np.bool_] = np.logical_and.reduceat(faces[self._sorted], self._begins[:-1])
        return found

    def any_of(self, faces: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return of which groups any face is among some faces."""
        found: npt.NDArray[np.bool_] = np.logical_or.reduceat(faces[self._sorted], self._begins[:-1])
        return found
