"""Random changes of a scene: occlusion, pasted faces, drawn objects, blending, and another light, lens and codec."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.detection.metrics import pairwise_intersection
from fer_edge_train.faces.clutter import draw_clutter
from fer_edge_train.faces.detector_targets import Annotations, concatenate
from fer_edge_train.faces.occluders import draw_occluder
from fer_edge_train.faces.scene_geometry import blend, fill, rotation

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge_train.faces.detector_recipe import SceneAugmentation
    from fer_edge_train.faces.occluders import Occluder
    from fer_edge_train.faces.scene_sources import SceneSources

_MAX_OCCLUDED: Final = 0.5  # share of a face; of a face that is occluded more, too little is left
_CLEAR_SIDE: Final = 28  # pixels of the longer side of a face that is still one when a part of it is covered
_CLEAR_SCORE: Final = 0.85  # lowest score of such a face
_PLAIN_OCCLUDER: Final = 0.3  # probability that what occludes a face is of one grey
_MIN_MIX: Final = 0.5  # share of a scene that another image shines through
# Size of FER-2013's images relative to the boxes of their faces (benchmarks/crop_margin.py).
_PASTED_HEIGHT: Final = 1.08
_PASTED_WIDTH: Final = 0.85


def occlude(
    image: npt.NDArray[np.uint8],
    annotations: Annotations,
    sources: SceneSources,
    augmentation: SceneAugmentation,
    rng: np.random.Generator,
) -> None:
    """Cover a part of some faces with hands and objects.

    With a teacher, a covered face gets a score of 0, because the teacher decides how much of it is left. A large clear
    face keeps its score: people see that it is one, and a teacher often does not.
    """
    for face, box in enumerate(annotations.boxes):
        if rng.random() >= augmentation.occlude:
            continue
        occluder = draw_occluder(rng)
        if occluder.covered > _MAX_OCCLUDED:
            continue
        is_clear = box[2:].max() >= _CLEAR_SIDE and annotations.scores[face] >= _CLEAR_SCORE
        if sources.teacher and annotations.scores[face] > 0 and not is_clear:
            annotations.scores[face] = 0
        _cover(image, box, occluder, sources, rng)


def _cover(
    image: npt.NDArray[np.uint8],
    box: npt.NDArray[np.float32],
    occluder: Occluder,
    sources: SceneSources,
    rng: np.random.Generator,
) -> None:
    """Put an occluder over a face, in the grey of its skin, in one grey, or with a piece of another image on it."""
    x, y, width, height = (round(float(value)) for value in box)
    size = (max(2 * width, 1), max(2 * height, 1))
    left, top = x - width // 2, y - height // 2
    place = image[max(top, 0) : max(top + size[1], 0), max(left, 0) : max(left + size[0], 0)]
    if not place.size:
        return
    part = (slice(max(-top, 0), None), slice(max(-left, 0), None))
    light, mask = (
        cv2.resize(drawn, size, interpolation=cv2.INTER_LINEAR)[part][: place.shape[0], : place.shape[1]]
        for drawn in (occluder.light, occluder.mask)
    )
    other = sources.images[int(rng.integers(len(sources.images)))].gray
    if occluder.is_skin:
        face = image[max(y, 0) :, max(x, 0) :][:height, :width]
        skin = float(np.median(face)) if face.size else 128.0
        material = np.asarray(skin * rng.uniform(0.75, 1.25))
    elif min(np.subtract(other.shape, place.shape)) < 0 or rng.random() < _PLAIN_OCCLUDER:
        material = np.asarray(rng.integers(256))
    else:
        row, column = (int(rng.integers(room + 1)) for room in np.subtract(other.shape, place.shape))
        material = other[row:, column:][: place.shape[0], : place.shape[1]]
    place[:] = np.clip(place * (1 - mask) + material * light * mask, 0, 255)


def paste_face(
    image: npt.NDArray[np.uint8],
    annotations: Annotations,
    sources: SceneSources,
    augmentation: SceneAugmentation,
    rng: np.random.Generator,
) -> Annotations:
    """Paste a face, without landmarks, unless it would cover an annotated face or region."""
    side = len(image)
    size = math.exp(rng.uniform(math.log(augmentation.min_face), math.log(0.5 * side)))
    width, height = size * _PASTED_WIDTH, size * _PASTED_HEIGHT
    x, y = rng.uniform(0, (side - width, side - height))
    box = np.array([[x, y, width, height]], np.float32)
    square = np.array([[x + (width - size) / 2, y + (height - size) / 2, size, size]], np.float32)
    if _covers_annotations(square, annotations):
        return annotations
    face = sources.pasted[int(rng.integers(len(sources.pasted)))]
    if rng.random() < augmentation.flip:
        face = face[:, ::-1]
    scale = size / len(face)
    matrix = np.array([[scale, 0, square[0, 0]], [0, scale, square[0, 1]]])
    blend(image, np.ascontiguousarray(face), _soft_square(len(face)), matrix)
    pasted = Annotations(
        box,
        np.full((1, 5, 2), np.nan, np.float32),
        np.full(1, 0 if sources.teacher else 1, np.float32),
        np.empty((0, 4), np.float32),
    )
    return concatenate([annotations, pasted])


def add_clutter(
    image: npt.NDArray[np.uint8], annotations: Annotations, augmentation: SceneAugmentation, rng: np.random.Generator
) -> None:
    """Draw an object that is not a face, unless it would cover an annotated face or region."""
    side = len(image)
    size = math.exp(rng.uniform(math.log(augmentation.min_face), math.log(0.7 * side)))
    centre = rng.uniform(0, side, 2)
    square = np.array([[*(centre - size / 2), size, size]], np.float32)
    if _covers_annotations(square, annotations):
        return
    drawn, mask = draw_clutter(rng)
    angle = rng.uniform(-0.5, 0.5)
    linear = rotation(size / len(drawn), angle)
    linear[:, int(rng.integers(2))] *= rng.uniform(0.6, 1)  # as seen from the side
    blend(image, drawn, mask, np.column_stack([linear, centre - linear @ (len(drawn) / 2, len(drawn) / 2)]))


def mix_image(
    image: npt.NDArray[np.uint8],
    annotations: Annotations,
    sources: SceneSources,
    augmentation: SceneAugmentation,
    rng: np.random.Generator,
) -> Annotations:
    """Let another image shine through, as Zhang et al. 2019 (arXiv:1902.04103) do for detectors."""
    other = np.empty_like(image)
    other_annotations = fill(other, sources, int(rng.integers(len(sources.images))), augmentation, rng)
    share = rng.uniform(_MIN_MIX, 1)
    cv2.addWeighted(image, share, other, 1 - share, 0, dst=image)
    # A teacher, if there is one, decides how much of a face is left.
    factors = (0, 0) if sources.teacher else (share, 1 - share)
    parts = zip((annotations, other_annotations), factors, strict=True)
    return concatenate([part._replace(scores=part.scores * np.float32(factor)) for part, factor in parts])


def change_appearance(
    image: npt.NDArray[np.uint8], augmentation: SceneAugmentation, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return the image in another light, through another lens, sensor and codec."""
    ramp = np.linspace(0, 1, 256)
    gamma = math.exp(rng.uniform(-1, 1) * math.log1p(augmentation.gamma))
    contrast = math.exp(rng.uniform(-1, 1) * math.log1p(augmentation.contrast))
    brightness = rng.uniform(-1, 1) * augmentation.brightness
    mean = float(image.mean()) / 255
    curve = ((ramp - mean) * contrast + mean + brightness).clip(0, 1) ** gamma
    out = np.asarray(cv2.LUT(image, np.round(curve * 255).astype(np.uint8)), np.uint8)
    if rng.random() < augmentation.gradient:
        out = _fade_light(out, rng)
    if rng.random() < augmentation.blur:
        out = _blur(out, rng)
    if rng.random() < augmentation.noise:
        noise = rng.standard_normal(out.shape, np.float32)
        noise *= np.float32(rng.uniform(2, 12))
        out = np.asarray(cv2.add(out, noise, dtype=cv2.CV_8U), np.uint8)
    if rng.random() < augmentation.jpeg:
        quality = int(rng.integers(25, 90))
        encoded = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        out = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)
    return out


def _covers_annotations(square: npt.NDArray[np.float32], annotations: Annotations) -> bool:
    """Return whether a square, a box of shape (1, 4), overlaps an annotated face or region."""
    return bool(pairwise_intersection(square, np.concatenate((annotations.boxes, annotations.ignored))).any())


def _fade_light(image: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Let the light fade to one side."""
    angle = rng.uniform(0, 2 * math.pi)
    line = np.linspace(-1, 1, len(image), dtype=np.float32)
    slope = line[None] * np.float32(math.cos(angle)) + line[:, None] * np.float32(math.sin(angle))
    light = 1 + slope * np.float32(rng.uniform(0.1, 0.5))
    return np.asarray(cv2.multiply(image, light, dtype=cv2.CV_8U), np.uint8)


def _blur(image: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Blur by a lens or by a movement."""
    if rng.random() < 0.7:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3)), np.uint8)
    kernel = np.zeros((5, 5), np.float32)
    length, angle = rng.uniform(1, 2), rng.uniform(0, math.pi)
    dx, dy = length * math.cos(angle), length * math.sin(angle)
    for position in np.linspace(-1, 1, 9):
        kernel[round(2 + position * dy), round(2 + position * dx)] = 1
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)


def _soft_square(side: int) -> npt.NDArray[np.uint8]:
    """Make a mask of 255 in the middle of a square that falls to 0 at its edges."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / (side - 1) * 2 - 1
    return np.asarray(np.clip((1 - np.maximum(np.abs(x), np.abs(y))) * 6 * 255, 0, 255), np.uint8)
