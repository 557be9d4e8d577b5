"""Load what commands work on: classifiers, detectors and datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fer_edge.cli.output import warn
from fer_edge.cli.waiting import show_work
from fer_edge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.datasets.dataset import Dataset
    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.detection.base import TrackingDetector


def load_classifier(model: Path | None, threads: int = 1) -> TFLiteClassifier:
    """Load a model by its path or shipped name; by default the shipped ``edge``."""
    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.model_zoo import DEFAULT_MODEL, find_model

    return TFLiteClassifier(find_model(model) if model else DEFAULT_MODEL, threads)


def load_detector(
    name: Literal["network", "yunet"], model: Path | None, min_face: int | None, min_score: float | None = None
) -> TrackingDetector:
    """Load a face detector."""
    from fer_edge.detection.factory import make_detector

    return make_detector(name, model, min_face, min_score)


def load_fused_dataset(
    paths: list[Path], votes: Path | None, label_map: Path | None, side: int, *, majority: bool
) -> Dataset:
    """Load datasets as `load_datasets` does, and fuse them."""
    from fer_edge.datasets.dataset import fuse

    return fuse(load_datasets(paths, votes, label_map, side, majority=majority))


def load_datasets(
    paths: list[Path],
    votes: Path | None,
    label_map: Path | None,
    side: int,
    *,
    majority: bool,
    columns: Sequence[str] = (),
) -> list[Dataset]:
    """Load datasets.

    Args:
        paths: the datasets.
        votes: FER+'s votes for the first CSV.
        label_map: a TOML file that maps the labels of each.
        side: rows and columns of a face.
        majority: whether the majority of its votes is the label of a face.
        columns: names of columns of their CSVs to keep.
    """
    from fer_edge.datasets.ferplus import add_votes, label_by_majority
    from fer_edge.datasets.label_map import load_label_map

    mapping = load_label_map(label_map) if label_map else None
    loaded = {path.name: _load_dataset(path, side, columns) for path in paths}
    if len(loaded) < len(paths):
        raise InputError("two datasets have the same name; rename a file or folder")
    table = next((name for name, dataset in loaded.items() if dataset.name.lower().endswith(".csv")), paths[0].name)
    if votes:
        loaded[table] = add_votes(loaded[table], votes)
    if majority:
        loaded[table] = label_by_majority(loaded[table])
    return mapping.apply(loaded) if mapping else list(loaded.values())


def _load_dataset(path: Path, side: int, columns: Sequence[str] = ()) -> Dataset:
    """Load one dataset, and warn of what was skipped in it."""
    from fer_edge.datasets.readers import load_dataset
    from fer_edge.utils.native_stderr import hide_native_stderr

    # The image libraries have messages of their own on damaged images.
    with hide_native_stderr(), show_work(f"reading {path}"):
        dataset = load_dataset(path, side, columns)
    for line in dataset.skipped:
        warn(f"skipped {line}")
    return dataset


def load_training_faces(path: Path) -> npt.NDArray[np.uint8]:
    """Load the training faces of a dataset: a detector must not learn from faces that classifiers are tested on."""
    from fer_edge.datasets.dataset import TRAINING

    dataset = _load_dataset(path, 48)
    faces: npt.NDArray[np.uint8] = dataset.faces[dataset.usages == TRAINING]
    return faces


def load_face_parts(folder: Path, split: Path | None, corrections: Path | None) -> tuple[FaceDataset, FaceDataset]:
    """Load the training and validation images of a face detector.

    Args:
        folder: has both parts.
        split: table of the images that are reserved for tests, which are left out.
        corrections: table of corrected labels of training images.
    """
    from fer_edge.datasets.faces import load_faces, without_test_images
    from fer_edge.detection.label_corrections import correct_labels

    train, val = load_faces(folder / "train"), load_faces(folder / "val")
    if split:
        train, val = without_test_images([train, val], split)
    return correct_labels(train, corrections) if corrections else train, val


def check_square(model: Path, height: int, width: int, advice: str) -> None:
    """Refuse a model whose images are not square."""
    if height != width:
        raise InputError(f"{model}: it takes {width}x{height}, but datasets give square images only; {advice}")
