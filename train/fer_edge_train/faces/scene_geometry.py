"""Placing images in a scene: random views, warps, and where the faces are after them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge_train.faces.detector_targets import Annotations

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge_train.faces.detector_recipe import SceneAugmentation
    from fer_edge_train.faces.scene_sources import AnnotatedImage, SceneSources

MIRRORED_LANDMARKS: Final = (1, 0, 2, 4, 3)  # which landmark each one is in the mirror image
_MIN_VISIBLE: Final = 0.6  # share of a face that must be in the scene; with less it is neither face nor background
_MIN_SIDE: Final = 3.0  # pixels; of a smaller face nothing is left
_ALIASING_ZOOM: Final = 0.7  # below this zoom, a warp would skip pixels


def fill(
    place: npt.NDArray[np.uint8],
    sources: SceneSources,
    index: int,
    augmentation: SceneAugmentation,
    rng: np.random.Generator,
) -> Annotations:
    """Fill a part of a scene with a random view of an image. An image without faces fills the space around it.

    Args:
        place: the part of the scene, uint8; is changed.
        sources: images.
        index: number of the image.
        augmentation: strengths of the changes.
        rng: source of randomness.

    Returns:
        The faces, in the coordinates of ``place``.
    """
    source = sources.images[index]
    matrix = _random_view(source, place.shape, augmentation, rng)
    rows, columns = source.gray.shape
    corners = np.array([[0, 0, 1], [columns, 0, 1], [0, rows, 1], [columns, rows, 1]]) @ matrix.T
    # A rotated image does not reach everywhere even if its corners do. The background costs little.
    low, high = corners.min(axis=0), corners.max(axis=0)
    border = cv2.BORDER_REPLICATE  # an image that fills its place is extended by less than a pixel
    if matrix[0, 1] or (low > 0).any() or (high < (place.shape[1], place.shape[0])).any():
        border = cv2.BORDER_TRANSPARENT
        if len(sources.empty) and rng.random() < 0.8:
            background = sources.images[int(rng.choice(sources.empty))].gray
            zoom = max(place.shape[0] / background.shape[0], place.shape[1] / background.shape[1])
            visible = background[: math.ceil(place.shape[0] / zoom), : math.ceil(place.shape[1] / zoom)]
            interpolation = cv2.INTER_AREA if zoom < _ALIASING_ZOOM else cv2.INTER_LINEAR
            place[:] = cv2.resize(visible, place.shape[::-1], interpolation=interpolation)
        else:
            place[:] = int(rng.integers(0, 256))
    warp(source.gray, matrix, place, border)
    return transform(source.annotations, matrix, place.shape, augmentation.min_face)


def _random_view(
    source: AnnotatedImage, shape: tuple[int, ...], augmentation: SceneAugmentation, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Make a matrix from an image to its place that moves one of its faces, or any point, to a random point."""
    rows, columns = source.gray.shape
    boxes = source.annotations.boxes
    if len(boxes):
        box = boxes[int(rng.integers(len(boxes)))]
        side, point = float(max(box[2:])), box[:2] + box[2:] / 2
        zoom = math.exp(rng.uniform(math.log(augmentation.min_face), math.log(0.95 * min(shape)))) / side
    else:
        point = rng.random(2) * (columns, rows)
        zoom = math.exp(rng.uniform(math.log(0.5), math.log(2)))
    zoom = min(max(zoom, min(shape) / 4 / max(rows, columns)), augmentation.max_zoom)
    degrees = augmentation.rotate_degrees
    angle = math.radians(rng.uniform(-1, 1) * degrees) if rng.random() < augmentation.rotate else 0.0
    linear = rotation(zoom, angle)
    if augmentation.squeeze > 1:
        linear[:, int(rng.integers(2))] *= augmentation.squeeze ** -rng.random()
    if rng.random() < augmentation.flip:
        linear[:, 0] = -linear[:, 0]
    target = rng.uniform(0.05, 0.95, 2) * (shape[1], shape[0])
    if zoom * min(rows, columns) >= max(shape) and not angle:
        # Keep the place filled if the image is large enough.
        reach = np.abs(linear) @ (columns / 2, rows / 2)
        centre = linear @ (np.array((columns, rows)) / 2 - point)
        target = np.clip(target, (shape[1], shape[0]) - reach - centre, reach - centre)
    return np.column_stack([linear, target - linear @ point])


def rotation(zoom: float, angle: float) -> npt.NDArray[np.float64]:
    """Make a 2x2 matrix that rotates by an angle in radians and scales."""
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def warp(
    gray: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64], place: npt.NDArray[np.uint8], border: int
) -> None:
    """Draw an image through a matrix, without aliasing.

    Args:
        gray: the image.
        matrix: shape (2, 3), from the image to the place. Its coordinates are of the edges of pixels, not of their
            centres.
        place: uint8; is changed.
        border: OpenCV's mode for pixels outside the image.
    """
    zoom = math.hypot(matrix[0, 0], matrix[1, 0])
    if zoom < _ALIASING_ZOOM:
        rows, columns = (max(1, round(side * zoom)) for side in gray.shape)
        scale = (gray.shape[1] / columns, gray.shape[0] / rows)
        gray = np.asarray(cv2.resize(gray, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
        matrix = np.column_stack([matrix[:, :2] * scale, matrix[:, 2]])
    of_centres = matrix.copy()
    of_centres[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    drawn = np.ascontiguousarray(place)
    cv2.warpAffine(gray, of_centres, place.shape[::-1], dst=drawn, flags=cv2.INTER_LINEAR, borderMode=border)
    place[:] = drawn


def blend(
    image: npt.NDArray[np.uint8],
    other: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    matrix: npt.NDArray[np.float64],
) -> None:
    """Draw another image through a matrix, with an opacity given by ``mask``, 0..255. ``image`` is changed."""
    drawn, share = image.copy(), np.zeros_like(image)
    warp(other, matrix, drawn, cv2.BORDER_REPLICATE)
    warp(mask, matrix, share, cv2.BORDER_CONSTANT)
    opacity = share.astype(np.float32) / 255
    image[:] = drawn * opacity + image * (1 - opacity)


def transform(
    annotations: Annotations, matrix: npt.NDArray[np.float64], shape: tuple[int, ...], min_face: float
) -> Annotations:
    """Move annotations through a matrix. Faces that become too small or mostly invisible become ignored regions.

    Args:
        annotations: of an image.
        matrix: shape (2, 3), from the image to the scene. A mirroring one swaps left and right landmarks.
        shape: rows and columns of the scene.
        min_face: longer side of the smallest face, in pixels.
    """
    if not len(annotations.boxes) and not len(annotations.ignored):
        return annotations
    linear = matrix[:, :2].astype(np.float32)
    landmarks = annotations.landmarks @ linear.T + matrix[:, 2].astype(np.float32)
    if linear[0, 0] * linear[1, 1] < linear[0, 1] * linear[1, 0]:
        landmarks = landmarks[:, MIRRORED_LANDMARKS]
    boxes, visible = _transform_boxes(annotations.boxes, linear, matrix[:, 2], shape)
    ignored, ignored_visible = _transform_boxes(annotations.ignored, linear, matrix[:, 2], shape)
    sides = boxes[:, 2:].max(axis=1, initial=0)
    is_face = (sides >= min_face) & (visible >= _MIN_VISIBLE)
    is_ignored = ~is_face & (visible > 0) & (sides >= _MIN_SIDE)
    return Annotations(
        boxes[is_face],
        landmarks[is_face],
        annotations.scores[is_face],
        np.concatenate((boxes[is_ignored], ignored[ignored_visible > 0])),
    )


def _transform_boxes(
    boxes: npt.NDArray[np.float32],
    linear: npt.NDArray[np.float32],
    shift: npt.NDArray[np.float64],
    shape: tuple[int, ...],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return boxes in the scene, clipped to it, and the visible share of each."""
    if not len(boxes):
        return boxes, np.empty(0, np.float32)
    centre = (boxes[:, :2] + boxes[:, 2:] / 2) @ linear.T + shift.astype(np.float32)
    # Around an ellipse in the box, because the corners of a box are no part of the face.
    half = np.sqrt(np.square(boxes[:, 2:] / 2) @ np.square(linear).T)
    size = np.array((shape[1], shape[0]), np.float32)
    # For so few numbers, np.clip takes three times as long.
    low, high = (np.minimum(np.maximum(edge, 0), size) for edge in (centre - half, centre + half))
    clipped = np.concatenate((low, high - low), axis=1).astype(np.float32)
    return clipped, np.asarray(clipped[:, 2:].prod(axis=1) / np.maximum(4 * half.prod(axis=1), 1e-6), np.float32)


def shift_annotations(annotations: Annotations, x: int, y: int) -> Annotations:
    """Move annotations by some pixels."""
    shift = np.array((x, y), np.float32)
    box_shift = np.concatenate((shift, np.zeros(2, np.float32)))
    return Annotations(
        annotations.boxes + box_shift,
        annotations.landmarks + shift,
        annotations.scores,
        annotations.ignored + box_shift,
    )
