"""Parts that training a detector and a refiner share: data checks, fingerprint, card scores and result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fer_edge.errors import DataError
from fer_edge_train.faces.detector_validation import FALSE_ALARMS, MIN_SIDE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.detection.metrics import Matches
    from fer_edge_train.faces.detector_recipe import DetectorData
    from fer_edge_train.faces.scene_sources import SceneSources

# Lowest threshold on a card: for a detector without any false alarm here, which more images would show.
MIN_THRESHOLD: Final = 0.1


@dataclass(frozen=True, slots=True)
class DetectorResult:
    """Result of training a detector or a refiner.

    Attributes:
        model: path of the finished ``model.keras``.
        matches: detections in the validation images compared with the faces in them.
    """

    model: Path
    matches: Matches


def select_images(data: FaceDataset, options: DetectorData) -> FaceDataset:
    """Leave out the images that the recipe excludes.

    Raises:
        DataError: the images have no annotations.
    """
    _check_labelled(data)
    return data.subset(
        i for i, one in enumerate(data.images) if not (options.exclude and one.name.startswith(options.exclude))
    )


def check_validation(data: FaceDataset) -> None:
    """Refuse images on which no detector can be measured.

    Raises:
        DataError: they have no annotations, or no face that is large enough.
    """
    _check_labelled(data)
    if not any((one.boxes[:, 2:] >= MIN_SIDE).any() for one in data.images):
        raise DataError(
            f"{data.name}: no face of {MIN_SIDE:.0f} pixels or more is annotated there; add some, to measure with"
        )


def _check_labelled(data: FaceDataset) -> None:
    if not data.labelled:
        raise DataError(f"{data.name}: no labels.csv, which says where the faces are; give a folder that has it")


def training_data(sources: SceneSources, *models: Path | None) -> Iterator[bytes]:
    """Everything that a run learns from, for its fingerprint.

    Args:
        sources: what scenes are made from.
        models: those that the run starts from, or whose boxes a refiner learns from.
    """
    yield sources.pasted.tobytes() + sources.drawn.tobytes()
    for image in sources.images:
        for array in (image.gray, *image.annotations):
            yield repr(array.shape).encode() + array.tobytes()
    for file in (*models, sources.teacher.file if sources.teacher else None):
        if file:
            yield file.read_bytes()


def card_scores(matches: Matches) -> dict[str, float]:
    """Return the scores for a model card."""
    recall = matches.recall(matches.threshold_at(FALSE_ALARMS), MIN_SIDE)
    return {
        f"average precision on faces of {MIN_SIDE:.0f} pixels and more": round(matches.average_precision(MIN_SIDE), 4),
        f"recall of them at {FALSE_ALARMS} false alarms per image": round(recall, 4),
    }


def card_threshold(matches: Matches, false_alarms: float) -> float:
    """Return the threshold with so many false alarms per image."""
    return max(round(matches.threshold_at(false_alarms), 3), MIN_THRESHOLD)


def card_data(data: FaceDataset, validation: FaceDataset) -> str:
    """Describe the data for a model card."""
    faces = sum(len(one.boxes) for one in data.images)
    return f"{len(data)} images, {faces} faces; {len(validation)} more images for validation"
