"""Count what is in tables of faces, in one pass and constant memory."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from fer_edge.classification.labels import FER2013
from fer_edge.errors import InputError
from fer_edge.utils.limits import LABELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fer_edge.tagging.output.table_reader import TableRow

Item = TypeVar("Item")

SCORE_BINS: Final = 20
_FACES_PER_EMOTION: Final = 24  # shown
_MAX_ERRORS: Final = 100  # listed
_MAX_VIDEOS: Final = 20  # with a timeline
_MAX_DATED_FACES: Final = 5000  # faces whose images are opened for their dates
_MAX_MODELS: Final = 100
_MAX_TIME_BINS: Final = 120


class RandomSample(Generic[Item]):
    """A random sample of a limited size from items that come one by one (reservoir sampling, Vitter 1985).

    Attributes:
        items: the sample.
        total: how many items there were.
    """

    def __init__(self, size: int) -> None:
        """Start with an empty sample of at most ``size`` items."""
        self.items: list[Item] = []
        self.total, self._size = 0, size
        self._random = random.Random(1)  # noqa: S311 - not for a secret

    def add(self, item: Item) -> None:
        """Offer an item; every item has the same chance to be in the sample."""
        self.total += 1
        if len(self.items) < self._size:
            self.items.append(item)
        elif (position := int(self._random.random() * self.total)) < self._size:
            self.items[position] = item


class Timeline:
    """Faces over the time of a video, in bins that widen as the video goes on.

    Attributes:
        step: width of a bin, in seconds.
        bins: for each bin with faces and each track in it, how many frames show each emotion.
    """

    def __init__(self) -> None:
        """Start without faces."""
        self.step = 1
        self.bins: dict[int, dict[int, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))

    def add(self, time: float, track: int, emotion: str) -> None:
        """Count a frame of a face at a time, in seconds."""
        while time >= self.step * _MAX_TIME_BINS:
            self.step *= 2
            bins, self.bins = self.bins, defaultdict(lambda: defaultdict(Counter))
            for number, tracks in bins.items():
                for each, counts in tracks.items():
                    self.bins[number // 2][each].update(counts)
        self.bins[int(max(time, 0) // self.step)][track][emotion] += 1

    def people(self, number: int) -> Counter[str]:
        """Return how many people of a bin showed each emotion in most of their frames."""
        return (
            Counter(counts.most_common(1)[0][0] for counts in self.bins[number].values())
            if number in self.bins
            else Counter()
        )

    def shares(self) -> list[tuple[str, float]]:
        """Return the share of each emotion in the frames of all faces, 0..1, the largest first."""
        total: Counter[str] = Counter()
        for tracks in self.bins.values():
            for counts in tracks.values():
                total.update(counts)
        return [(emotion, count / total.total()) for emotion, count in total.most_common()]


class TableStatistics:
    """Counts of rows.

    Attributes:
        images: images and videos of each model.
        failed: rows with an error, of each model.
        emotions: faces of each emotion, of each model.
        scores: for each emotion, the faces in each of `SCORE_BINS` bins of the score.
        faces: for each emotion, a sample of faces to show.
        dated: a sample of faces in images, whose dates are to be found out.
        timelines: timelines of the first videos with faces, by path.
        more_videos: how many further videos have faces.
        errors: the first rows with an error.
    """

    def __init__(self) -> None:
        """Start without rows."""
        self.images: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.emotions: dict[str, Counter[str]] = defaultdict(Counter)
        self.scores: dict[str, list[int]] = defaultdict(lambda: [0] * SCORE_BINS)
        self.faces: dict[str, RandomSample[TableRow]] = defaultdict(lambda: RandomSample(_FACES_PER_EMOTION))
        self.dated: RandomSample[TableRow] = RandomSample(_MAX_DATED_FACES)
        self.timelines: dict[str, Timeline] = {}
        self.more_videos = 0
        self.errors: list[TableRow] = []
        self._labels: set[str] = set()
        self._row_labels: tuple[str, ...] = ()

    def add_table(self, rows: Iterable[TableRow]) -> None:
        """Count the rows of one table.

        Raises:
            InputError: there are more emotions or models than a page can show.
        """
        previous: str | None = None
        timeline: Timeline | None = None
        for row in rows:
            if row.labels != self._row_labels:
                self._row_labels = row.labels
                self._labels.update(row.labels)
            if max(len(self._labels), len(self.scores)) > LABELS or len(self.images) > _MAX_MODELS:
                raise InputError(
                    f"{row.path}: the tables have more than {LABELS} emotions or {_MAX_MODELS} models up to this row;"
                    " report fewer tables at a time"
                )
            if row.path != previous:
                previous = row.path
                self.images[row.model] += 1
                timeline = None
            if row.error:
                self.failed[row.model] += 1
                if len(self.errors) < _MAX_ERRORS:
                    self.errors.append(row)
            if row.box:
                self._add_face(row)
                if row.time is None:
                    self.dated.add(row)
                else:
                    timeline = timeline or self._timeline_of(row.path)
                    timeline.add(row.time, row.track or 0, row.emotion)

    def _add_face(self, row: TableRow) -> None:
        self.emotions[row.model][row.emotion] += 1
        self.scores[row.emotion][min(int(row.score * SCORE_BINS), SCORE_BINS - 1)] += 1
        self.faces[row.emotion].add(row)

    def _timeline_of(self, path: str) -> Timeline:
        """Return the timeline of a video; beyond the limit one that is not shown."""
        if path not in self.timelines and len(self.timelines) == _MAX_VIDEOS:
            self.more_videos += 1
            return Timeline()
        return self.timelines.setdefault(path, Timeline())

    @property
    def labels(self) -> list[str]:
        """The emotions of the models, in the order of FER-2013."""
        known = {name: position for position, name in enumerate(FER2013)}
        return sorted(self._labels.union(self.scores), key=lambda name: (known.get(name, len(known)), name))
