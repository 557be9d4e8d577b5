"""What training a detector leaves for people: one page with curves, recall by size and the worst errors, and JSON."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import msgspec
import numpy as np
from matplotlib.figure import Figure

from fer_edge.detection.metrics import ImageDetections, Matches, match
from fer_edge.reports.html import data_url, render
from fer_edge.utils.atomic_file import replacing
from fer_edge_train.faces.validation import ALARMS, SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.detection.base import FaceDetector

SIZES: Final = ((0.0, 20.0), (20.0, 32.0), (32.0, 64.0), (64.0, np.inf))
_TEACHER: Final = (0.5, 0.6, 0.7, 0.8)  # thresholds at which another detector is compared
_WORST: Final = 24
_SHOWN: Final = 128  # pixels


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What was found in the validation images.

    Attributes:
        data: the images.
        grays: uint8, of any sizes.
        found: in each.
        matches: beside the faces that are there.
    """

    data: FaceDataset
    grays: Sequence[npt.NDArray[np.uint8]]
    found: Sequence[ImageDetections]
    matches: Matches

    @classmethod
    def of(cls, data: FaceDataset, grays: Sequence[npt.NDArray[np.uint8]], found: Sequence[ImageDetections]) -> Judged:
        """Compare what was found with what is there."""
        return cls(data, grays, found, match(found, data.images))

    def misses(self, threshold: float) -> list[npt.NDArray[np.uint8]]:
        """The largest faces that were not found with so much, at most 24, each with what is around it."""
        image = np.repeat(np.arange(len(self.grays)), [len(one.boxes) for one in self.data.images])
        boxes = np.concatenate([one.boxes for one in self.data.images])
        missed = np.flatnonzero(self.matches.face_scores < threshold)
        worst = missed[np.argsort(-self.matches.sides[missed], kind="stable")][:_WORST]
        return [_cut(self.grays[image[i]], boxes[i]) for i in worst]

    def false_alarms(self) -> list[tuple[float, npt.NDArray[np.uint8]]]:
        """What was taken for a face most surely, at most 24, with its score and what is around it."""
        each = zip(self.grays, self.found, self.data.images, strict=True)
        alarms = [(score, gray, found) for gray, found, one in each for score in match([found], [one]).false_positives]
        alarms.sort(key=lambda alarm: -alarm[0])
        return [
            (float(score), _cut(gray, found.boxes[int(np.abs(found.scores - score).argmin())]))
            for score, gray, found in alarms[:_WORST]
        ]


class Compared(msgspec.Struct, frozen=True):
    """Another detector at one of its thresholds, and ours with as many false alarms; faces of 20 pixels and more.

    Attributes:
        threshold: of the other one.
        false_positives_per_image: of both, at most.
        recall: of the other one.
        own_recall: of ours.
    """

    threshold: float
    false_positives_per_image: float
    recall: float
    own_recall: float


def compare(judged: Judged, other: FaceDetector) -> list[Compared]:
    """Ours beside another detector on the same images."""
    found = []
    for gray in judged.grays:
        faces = other.detect(gray)
        boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
        found.append(ImageDetections(boxes, np.array([face.score for face in faces], np.float32)))
    theirs, ours = match(found, judged.data.images), judged.matches
    rows = []
    for threshold in _TEACHER:
        alarms = theirs.false_positives_per_image(threshold)
        own = ours.recall(ours.threshold_at(alarms), SIDE)
        rows.append(Compared(threshold, alarms, theirs.recall(threshold, SIDE), own))
    return rows


def write_report(
    out: Path, title: str, judged: Judged, compared: Sequence[Compared], history: list[dict[str, float]]
) -> None:
    """Write ``report/index.html``, which needs no other file, and ``report/report.json``.

    Args:
        out: folder of the run, with ``recipe.toml``.
        title: of the page.
        judged: what was found in the validation images.
        compared: another detector on them, where there was one.
        history: the scores of each epoch.
    """
    matches, folder = judged.matches, out / "report"
    threshold = matches.threshold_at(ALARMS)
    sizes = {
        f"{low:.0f} and more" if high == np.inf else f"{low:.0f} to {high:.0f}": (
            int(((matches.sides >= low) & (matches.sides < high)).sum()),
            matches.recall(threshold, low, high),
        )
        for low, high in SIZES
    }
    report = {
        "images": matches.images,
        "faces": len(matches.face_scores),
        "average_precision": matches.average_precision(),
        f"average_precision_from_{SIDE:.0f}_pixels": matches.average_precision(SIDE),
        "threshold": threshold,
        "false_alarms_an_image": ALARMS,
        "recall_by_size": {name: {"faces": count, "recall": recall} for name, (count, recall) in sizes.items()},
        "compared": list(compared),
        "history": history,
    }
    with replacing(folder / "report.json") as temporary:
        # Not-a-number, where no face has a size, is null.
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    whole = f"{matches.images} images, {len(matches.face_scores)} faces"
    least = f"faces of {SIDE:.0f} pixels and more"
    precise = f"{matches.average_precision(SIDE):.4f} on {least}, {matches.average_precision():.4f} on all"
    misses, alarms = judged.misses(threshold), judged.false_alarms()
    page = render(
        "detector_training.html",
        title=title,
        summary=f"{whole}. Average precision {precise}.",
        false_alarms=ALARMS,
        threshold=f"{threshold:.3f}",
        sizes=[(name, count, f"{recall:.1%}") for name, (count, recall) in sizes.items()],
        large_faces=least,
        compared=[
            (one.threshold, f"{one.false_positives_per_image:.4f}", f"{one.recall:.1%}", f"{one.own_recall:.1%}")
            for one in compared
        ],
        curves=data_url(_png(_curves(matches, history))),
        misses=[_face(image, "a face that was missed") for image in misses],
        alarms=[_face(image, "a false alarm", f"{score:.2f}") for score, image in alarms],
        recipe=(out / "recipe.toml").read_text(encoding="utf-8"),
    )
    with replacing(folder / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def _curves(matches: Matches, history: list[dict[str, float]]) -> Figure:
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    precision, loss, scores = figure.subplots(1, 3)
    levels = np.unique(np.concatenate((matches.face_scores[np.isfinite(matches.face_scores)], matches.false_positives)))
    for low, high in SIZES:
        chosen = (matches.sides >= low) & (matches.sides < high)
        hits = np.sort(matches.face_scores[chosen])
        found = len(hits) - np.searchsorted(hits, levels)
        wrong = len(matches.false_positives) - np.searchsorted(np.sort(matches.false_positives), levels)
        label = f"{low:.0f} to {high:.0f} pixels" if np.isfinite(high) else f"{low:.0f} pixels and more"
        precision.plot(found / max(len(hits), 1), found / np.maximum(found + wrong, 1), label=label)
    precision.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1), title="validation images")
    loss.plot([row["epoch"] for row in history], [row["loss"] for row in history])
    loss.set(xlabel="epoch", title="loss (augmented)")
    for key, label in (("val_average_precision", "average precision"), ("val_recall", "recall")):
        rows = [row for row in history if key in row]
        scores.plot([row["epoch"] for row in rows], [row[key] for row in rows], label=label)
    scores.set(xlabel="epoch", title=f"faces of {SIDE:.0f} pixels and more", ylim=(0, 1))
    for axes in (precision, scores):
        axes.legend(fontsize=8)
    for axes in (precision, loss, scores):
        axes.grid(alpha=0.3)
    return figure


def _cut(gray: npt.NDArray[np.uint8], box: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """A box with as much around it, enlarged or reduced to one size, the box drawn in."""
    x, y, width, height = box.tolist()
    side = 2 * max(width, height, 1.0)
    zoom = _SHOWN / side
    left, top = x + width / 2 - side / 2, y + height / 2 - side / 2
    matrix = np.array([[zoom, 0, -left * zoom], [0, zoom, -top * zoom]])
    shown = np.asarray(cv2.warpAffine(gray, matrix, (_SHOWN, _SHOWN)), np.uint8)
    first, last = ((x - left) * zoom, (y - top) * zoom), ((x + width - left) * zoom, (y + height - top) * zoom)
    cv2.rectangle(shown, (round(first[0]), round(first[1])), (round(last[0]), round(last[1])), 255)
    return shown


def _face(image: npt.NDArray[np.uint8], description: str, score: str = "") -> dict[str, str]:
    url = data_url(cv2.imencode(".png", image)[1].tobytes())
    return {"url": url, "description": description, "score": score}


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
