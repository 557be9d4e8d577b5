"""Sources of scenes: annotated images, faces to paste and a teacher."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fer_edge_train.faces.detector_targets import NOT_A_FACE, Annotations
from fer_edge_train.faces.yunet_teacher import Teacher, check_teacher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset, FaceImage
    from fer_edge_train.faces.detector_recipe import DetectorData


class AnnotatedImage(NamedTuple):
    """A grey image, uint8, and its faces."""

    gray: npt.NDArray[np.uint8]
    annotations: Annotations


class SceneSources(NamedTuple):
    """What scenes are made from.

    Attributes:
        images: with and without faces.
        empty: indices of the images with nothing like a face, which fill the space around other images.
        drawn: indices of images; those that are drawn more often than others occur several times.
        pasted: faces to paste, uint8 of shape (n, side, side); n may be 0.
        teacher: answers for every scene; None without a teacher.
    """

    images: Sequence[AnnotatedImage]
    empty: npt.NDArray[np.int64]
    drawn: npt.NDArray[np.int64]
    pasted: npt.NDArray[np.uint8]
    teacher: Teacher | None = None


def load_sources(
    data: FaceDataset, options: DetectorData, pasted: npt.NDArray[np.uint8] | None = None, yunet: Path | None = None
) -> SceneSources:
    """Load all images into memory and apply the recipe to their annotations.

    Args:
        data: images with annotated faces.
        options: which annotations count.
        pasted: faces to paste, uint8 of shape (n, side, side).
        yunet: the teacher's ONNX file.

    Raises:
        DataError: an image cannot be read.
        ModelError: the teacher is not a YuNet.
    """
    teacher = Teacher(yunet, options.teacher_scales) if yunet else None
    if teacher:
        check_teacher(teacher)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        grays = list(pool.map(data.gray, range(len(data))))
    images = [AnnotatedImage(gray, _annotations(one, options)) for gray, one in zip(grays, data.images, strict=True)]
    empty = [i for i, one in enumerate(data.images) if not len(one.boxes) + len(one.ignored) + len(one.not_faces)]
    repeats = [
        max(
            options.hard_repeats if _is_hard(one.annotations, options) else 1,
            options.corrected_repeats if labels.corrected else 1,
        )
        for one, labels in zip(images, data.images, strict=True)
    ]
    return SceneSources(
        images,
        np.array(empty, np.int64),
        np.repeat(np.arange(len(images)), repeats),
        np.empty((0, 48, 48), np.uint8) if pasted is None else pasted,
        teacher,
    )


def _is_hard(annotations: Annotations, options: DetectorData) -> bool:
    scores = annotations.scores[annotations.scores >= 0]
    return bool(len(scores) and scores.min() < options.hard_score)


def _annotations(image: FaceImage, options: DetectorData) -> Annotations:
    """Return an image's faces; those with unreliable labels become ignored regions."""
    reliable = np.ones(len(image.boxes), bool)
    if image.name.startswith(options.noisy):
        reliable = image.scores >= options.min_score
    ignored = np.concatenate((image.ignored, image.boxes[~reliable]))
    others = len(image.not_faces)
    return Annotations(
        np.concatenate((image.boxes[reliable], image.not_faces)),
        np.concatenate((image.landmarks[reliable], np.full((others, 5, 2), np.nan, np.float32))),
        np.concatenate((image.scores[reliable], np.full(others, NOT_A_FACE, np.float32))),
        ignored,
    )
