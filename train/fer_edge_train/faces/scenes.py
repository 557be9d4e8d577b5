"""Scenes to learn from: images that are rotated, scaled, combined and changed at random, and the faces in them.

All randomness comes from the generator that is passed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fer_edge_train.faces.detector_targets import Annotations, concatenate, pack, separate
from fer_edge_train.faces.scene_effects import add_clutter, change_appearance, mix_image, occlude, paste_face
from fer_edge_train.faces.scene_geometry import fill, shift_annotations
from fer_edge_train.faces.yunet_teacher import compute_targets, contradict, missed_faces

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fer_edge_train.faces.detector_recipe import SceneAugmentation
    from fer_edge_train.faces.scene_sources import SceneSources

_MAX_ADDED: Final = 8  # pasted faces, and as many drawn objects


class BatchShape(NamedTuple):
    """Shape of a batch of scenes.

    Attributes:
        side: side of the scenes, in pixels.
        min_rows: minimum number of rows of the annotations of a scene.
    """

    side: int
    min_rows: int


def make_scene_batch(
    sources: SceneSources,
    chosen: npt.NDArray[np.int64],
    shape: BatchShape,
    augmentation: SceneAugmentation,
    seed: Sequence[int],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Make a batch of scenes, which depends on nothing but the arguments.

    Args:
        sources: what scenes are made from.
        chosen: index of an image that is in each scene.
        shape: shape of the batch.
        augmentation: strengths of the changes.
        seed: seed of all randomness.

    Returns:
        uint8 grey images of shape (n, side, side), and their annotations as
        `fer_edge_train.faces.detector_targets.pack` makes them. With a teacher, its targets for each cell precede
        them.
    """
    rng = np.random.default_rng(seed)
    scenes = [make_scene(sources, int(i), shape.side, augmentation, rng) for i in chosen]
    images = np.stack([image for image, _ in scenes])
    annotations, not_faces = zip(*(separate(one) for _, one in scenes), strict=True)
    if not sources.teacher:
        return images, pack(annotations, shape.min_rows)
    teacher_targets = np.stack([compute_targets(image, sources.teacher) for image in images])
    for own, faces, boxes in zip(teacher_targets, annotations, not_faces, strict=True):
        contradict(own, faces, boxes)
    missed = [missed_faces(*one) for one in zip(annotations, teacher_targets, strict=True)]
    return images, np.concatenate((teacher_targets, pack(missed, shape.min_rows)), axis=1)


def make_scene(
    sources: SceneSources, first: int, side: int, augmentation: SceneAugmentation, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], Annotations]:
    """Make a scene.

    Args:
        sources: what scenes are made from.
        first: index of an image that is in the scene.
        side: side of the square scene, in pixels.
        augmentation: strengths of the changes.
        rng: source of randomness.

    Returns:
        A uint8 grey image of shape (side, side) and its faces. With a teacher, pasted and mixed faces have a score of
        0, because the teacher decides how visible they are, and so have occluded ones that are small or unclear.
    """
    out = np.empty((side, side), np.uint8)
    if rng.random() < augmentation.mosaic:
        # Four images around a point, as in Bochkovskiy et al. 2020 (arXiv:2004.10934).
        across, down = (int(side * share) for share in rng.uniform(0.3, 0.7, 2))
        places = [(0, 0, across, down), (across, 0, side, down), (0, down, across, side), (across, down, side, side)]
        chosen = [first, *rng.integers(0, len(sources.images), 3).tolist()]
    else:
        places, chosen = [(0, 0, side, side)], [first]
    parts = []
    for (left, top, right, bottom), index in zip(places, chosen, strict=True):
        part = fill(out[top:bottom, left:right], sources, index, augmentation, rng)
        parts.append(shift_annotations(part, left, top))
    annotations = concatenate(parts)
    occlude(out, annotations, sources, augmentation, rng)
    for _ in range(_MAX_ADDED if len(sources.pasted) else 0):
        if rng.random() >= augmentation.paste:
            break
        annotations = paste_face(out, annotations, sources, augmentation, rng)
    for _ in range(_MAX_ADDED):
        if rng.random() >= augmentation.clutter:
            break
        add_clutter(out, annotations, augmentation, rng)
    if rng.random() < augmentation.mixup:
        annotations = mix_image(out, annotations, sources, augmentation, rng)
    return change_appearance(out, augmentation, rng), annotations
