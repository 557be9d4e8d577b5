"""What tables of faces say, for people: one HTML page, made in one pass and constant memory."""

from __future__ import annotations

import html
import itertools
import operator
import random
from collections import Counter, defaultdict
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import cv2
import numpy as np

from fer_edge.classification.crop import crop_face
from fer_edge.classification.labels import FER2013
from fer_edge.errors import DataError, printable
from fer_edge.geometry import NO_MARGIN, Box
from fer_edge.reports.html import embedded, page, table
from fer_edge.reports.svg_plot import bars
from fer_edge.tagging.input import image_decode
from fer_edge.tagging.input.dates import date_of
from fer_edge.tagging.input.video import VIDEO_SUFFIXES, frames
from fer_edge.tagging.output.table_reader import read
from fer_edge.tagging.worker import THUMBNAIL
from fer_edge.utils.image_io import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from fer_edge.tagging.input.dates import Dated
    from fer_edge.tagging.output.table_reader import Entry

Item = TypeVar("Item")

_FACES: Final = 24  # shown of each emotion
_ERRORS: Final = 100  # listed
_VIDEOS: Final = 20  # with a timeline
_DATED: Final = 5000  # faces whose images are asked for a date
_STEPS: Final = 20  # of scores
_BINS: Final = 120  # of a video's time, at most


class _Drawn(Generic[Item]):
    """So many of any number of things, each as likely to be among them."""

    def __init__(self, size: int) -> None:
        self.items: list[Item] = []
        self.seen, self._size = 0, size
        self._draw = random.Random(1)  # noqa: S311 - no secret

    def add(self, item: Item) -> None:
        self.seen += 1
        if len(self.items) < self._size:
            self.items.append(item)
        elif (place := int(self._draw.random() * self.seen)) < self._size:
            self.items[place] = item


class _Timeline:
    """Faces by time within a video; the steps grow with it."""

    def __init__(self) -> None:
        self.step = 1
        self.bins: dict[int, Counter[str]] = defaultdict(Counter)

    def add(self, time: float, emotion: str) -> None:
        while time >= self.step * _BINS:
            self.step *= 2
            merged: dict[int, Counter[str]] = defaultdict(Counter)
            for place, counts in self.bins.items():
                merged[place // 2].update(counts)
            self.bins = merged
        self.bins[int(max(time, 0) // self.step)][emotion] += 1


class _Statistics:
    """What is counted while rows pass by."""

    def __init__(self) -> None:
        self.images: Counter[str] = Counter()  # by model, as the next two
        self.failed: Counter[str] = Counter()
        self.emotions: dict[str, Counter[str]] = defaultdict(Counter)
        self.scores: dict[str, list[int]] = defaultdict(lambda: [0] * _STEPS)
        self.faces: dict[str, _Drawn[Entry]] = defaultdict(lambda: _Drawn(_FACES))
        self.dated: _Drawn[Entry] = _Drawn(_DATED)
        self.videos: dict[str, _Timeline] = {}
        self.videos_left_out = 0
        self.errors: list[Entry] = []

    def add(self, entries: Iterable[Entry]) -> None:
        """Count the rows of one table."""
        before: str | None = None
        video: _Timeline | None = None
        for entry in entries:
            if entry.path != before:
                before = entry.path
                self.images[entry.model] += 1
                video = None
            if entry.error:
                self.failed[entry.model] += 1
                if len(self.errors) < _ERRORS:
                    self.errors.append(entry)
            if entry.box:
                emotion = entry.emotion
                self.emotions[entry.model][emotion] += 1
                self.scores[emotion][min(int(entry.score * _STEPS), _STEPS - 1)] += 1
                self.faces[emotion].add(entry)
                if entry.time is None:
                    self.dated.add(entry)
                else:
                    video = video or self._video(entry.path)
                    video.add(entry.time, emotion)

    def _video(self, path: str) -> _Timeline:
        """The timeline of a video with a face; where there is no room for it, one that is not shown."""
        if path not in self.videos and len(self.videos) == _VIDEOS:
            self.videos_left_out += 1
            return _Timeline()
        return self.videos.setdefault(path, _Timeline())

    @property
    def labels(self) -> list[str]:
        """The emotions that were seen, in the usual order."""
        known = {name: place for place, name in enumerate(FER2013)}
        return sorted(self.scores, key=lambda name: (known.get(name, len(known)), name))


def report(tags: Sequence[Path], *, images: bool = True) -> str:
    """A page about some tables of faces.

    Args:
        tags: tables that tagging wrote.
        images: whether faces are shown, and images opened at all.

    Raises:
        InputError: one is none.
        MissingExtraError: pyarrow is not installed.
    """
    found = _Statistics()
    for one in tags:
        with closing(read(one)) as entries:
            found.add(entries)
    names = ", ".join(printable(str(one)) for one in tags)
    body = f"<p>{html.escape(names)}</p>{_counts(found)}"
    if found.labels:
        body += _scores(found) + _videos(found)
        body += _dates(found) + _faces(found) if images else ""
    return page("Faces and how they look", body + _errors(found))


def _counts(found: _Statistics) -> str:
    labels = found.labels
    rows = [
        [model, found.images[model], found.emotions[model].total(), found.failed[model]]
        + [found.emotions[model][label] for label in labels]
        for model in found.images
    ]
    drawn = table(("model", "images and videos", "faces", "errors", *labels), rows)
    if not labels:
        return f"<h2>Counts</h2>{drawn}<p>No faces.</p>"
    by_model = {model: [counts[label] for label in labels] for model, counts in found.emotions.items()}
    return f"<h2>Counts</h2>{drawn}{bars(labels, by_model, 'emotion', 'faces')}"


def _scores(found: _Statistics) -> str:
    places = [f"{step / _STEPS:.2f}" for step in range(_STEPS)]
    shares = {label: found.scores[label] for label in found.labels}
    return f"<h2>Scores</h2>{bars(places, shares, f'score, in steps of {1 / _STEPS:g}', 'faces')}"


def _videos(found: _Statistics) -> str:
    out = ""
    for path, timeline in found.videos.items():
        places = range(max(timeline.bins) + 1)
        shares = {label: [timeline.bins[place][label] for place in places] for label in found.labels}
        drawn = bars([_clock(place * timeline.step) for place in places], shares, "time", "faces")
        out += f"<h3>{html.escape(printable(path))}</h3>{drawn}"
    if found.videos_left_out:
        out += f"<p>And {found.videos_left_out} more.</p>"
    return f"<h2>Videos</h2>{out}" if out else ""


def _clock(seconds: int) -> str:
    return str(timedelta(seconds=seconds))


def _dates(found: _Statistics) -> str:
    """Faces by the dates of their images, as far as those are here."""
    dated: list[tuple[Dated, str]] = []
    path_of = operator.attrgetter("path")
    for path, entries in itertools.groupby(sorted(found.dated.items, key=path_of), key=path_of):
        if when := date_of(Path(path)):
            dated += [(when, entry.emotion) for entry in entries]
    if not dated:
        return ""
    dates = [when.date for when, _ in dated]
    form, places = _calendar(min(dates), max(dates))
    counts = Counter((when.date.strftime(form), emotion) for when, emotion in dated)
    shares = {label: [counts[place, label] for place in places] for label in found.labels}
    by_camera = sum(when.by_camera for when, _ in dated)
    what = (
        f"{len(dated)} of {found.dated.seen} faces in images: {by_camera} by the date that the camera wrote (EXIF),"
        f" {len(dated) - by_camera} by the date of the file."
    )
    return f"<h2>Dates</h2><p>{what}</p>{bars(places, shares, 'date', 'faces')}"


def _calendar(first: datetime, last: datetime) -> tuple[str, list[str]]:
    """How dates are written so that there are some dozens of them at most, and all from one to another."""
    days = (last - first).days
    form = next(
        form for most, form in ((2, "%m-%d %H:00"), (90, "%Y-%m-%d"), (1500, "%Y-%m"), (10**9, "%Y")) if days <= most
    )
    step = timedelta(hours=1) if days <= 2 else timedelta(days=1)
    moments = [first + step * number for number in range((last - first) // step + 1)]
    return form, list(dict.fromkeys(moment.strftime(form) for moment in [*moments, last]))


def _faces(found: _Statistics) -> str:
    out, missing = "", 0
    for label in found.labels:
        figures = ""
        for entry in sorted(found.faces[label].items, key=lambda entry: -entry.score):
            crop = _crop(entry)
            if crop is None:
                missing += 1
                continue
            jpeg = cv2.imencode(".jpg", crop)[1].tobytes()
            where = html.escape(printable(entry.path) + (f", {entry.time:g} s" if entry.time is not None else ""))
            figures += (
                f'<figure title="{where}"><img src="{embedded(jpeg, "jpeg")}" alt="{where}">'
                f"<figcaption>{entry.score:.2f}</figcaption></figure>"
            )
        if figures:
            out += f"<h3>{html.escape(label)}</h3>{figures}"
    if missing:
        out += f"<p>{missing} more were drawn, whose images are not to be had here.</p>"
    return f"<h2>Faces, drawn at random</h2>{out}"


def _crop(entry: Entry) -> npt.NDArray[np.uint8] | None:
    """A face as a small grey image; None where it is not to be had."""
    try:
        gray, reduced = _image(entry)
    except (DataError, OSError, ValueError):
        return None
    box = Box(*(value / reduced for value in entry.box or ()))
    rows, columns = gray.shape
    if box.x >= columns or box.y >= rows:
        return None  # another image by now
    return crop_face(gray, box, THUMBNAIL, THUMBNAIL, NO_MARGIN)


def _image(entry: Entry) -> tuple[npt.NDArray[np.uint8], int]:
    """The image or frame with a face, grey, and how many times smaller it is than it was."""
    path = Path(entry.path)
    if entry.time is None:
        face = int(max(entry.box.width, entry.box.height)) if entry.box else 0
        still = image_decode.decode(read_bytes(path), printable(entry.path), THUMBNAIL, min_face=face, is_face=False)
        return still.gray, still.reduced
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise DataError(f"{path}: no video")
    with closing(frames(path, max(entry.time - 0.001, 0), entry.time + 1, None)) as some:
        frame = next(some, None)
        if frame is None:
            raise DataError(f"{path}: has no such frame")
        return np.asarray(cv2.cvtColor(frame.colour, cv2.COLOR_BGR2GRAY), np.uint8), 1


def _errors(found: _Statistics) -> str:
    total = found.failed.total()
    if not total:
        return ""
    shown = f", of which {len(found.errors)} are listed" if total > len(found.errors) else ""
    rows = [(printable(entry.path), printable(entry.error)) for entry in found.errors]
    return f"<h2>Errors</h2><p>{total}{shown}</p>{table(('path', 'error'), rows)}"
