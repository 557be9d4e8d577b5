"""Scenes to learn from: images turned, scaled, put together and relit at random, their marks with them.

All randomness comes from the generator that is passed in.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

from fer_edge.detection.metrics import pairwise_intersection
from fer_edge_train.faces.clutter import thing
from fer_edge_train.faces.targets import Marked, packed, together
from fer_edge_train.faces.teacher import Teacher, answers, missed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fer_edge_train.faces.recipe import Augmentation

Gray = "npt.NDArray[np.uint8]"

MIRRORED: Final = (1, 0, 2, 4, 3)  # which landmark each one is in a mirror
_LEAST_SEEN: Final = 0.6  # share of a face that must be in the scene; with less it is neither face nor background
_TINY: Final = 3.0  # pixels, below which nothing is left of a face
_ALIASED: Final = 0.7  # the zoom below which pixels between those that are drawn from must count, too
_MOST_COVERED: Final = 0.4  # share of a face; of one that is covered more, too little is left
_PLAIN: Final = 0.3  # chance that what covers a face is of one grey
_MOST_PASTED: Final = 8
_LEAST_MIXED: Final = 0.5  # share of a scene that another image shines through
# Of FER-2013's images, whose faces' boxes are a little larger than they are (benchmarks/crop_margin.py).
_PASTED_HEIGHT: Final = 1.08
_PASTED_WIDTH: Final = 0.85


class Source(NamedTuple):
    """An image and what is marked in it."""

    gray: npt.NDArray[np.uint8]
    marked: Marked


class Stock(NamedTuple):
    """What scenes are made of.

    Attributes:
        images: with and without faces.
        empty: indices of those without faces, which lie behind images that do not fill their place.
        drawn: indices of images, each as many times as it is more often drawn than others.
        pasted: faces of FER-2013's kind to paste, uint8 of shape (n, side, side); none where n is 0.
        teacher: who is asked about every scene; None without.
    """

    images: Sequence[Source]
    empty: npt.NDArray[np.int64]
    drawn: npt.NDArray[np.int64]
    pasted: npt.NDArray[np.uint8]
    teacher: Teacher | None = None


class Shape(NamedTuple):
    """Shape of a batch.

    Attributes:
        side: of its square scenes, in pixels.
        least_rows: as `fer_edge_train.faces.targets.packed` has it.
    """

    side: int
    least_rows: int


def scene(
    stock: Stock, first: int, side: int, how: Augmentation, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], Marked]:
    """Make a scene.

    Args:
        stock: what it is made of.
        first: index of the image that is surely in it.
        side: of the square result, in pixels.
        how: strengths of the changes.
        rng: source of randomness.

    Returns:
        A uint8 grey image of shape (side, side) and what is marked in it; with a score of 0 where a teacher is to say
        what is left of a face that was covered, or made of one that was pasted.
    """
    out = np.empty((side, side), np.uint8)
    if rng.random() < how.mosaic:
        # Four images around a point, as in Bochkovskiy et al. 2020 (arXiv:2004.10934).
        across, down = (int(side * share) for share in rng.uniform(0.3, 0.7, 2))
        places = [(0, 0, across, down), (across, 0, side, down), (0, down, across, side), (across, down, side, side)]
        chosen = [first, *rng.integers(0, len(stock.images), 3).tolist()]
    else:
        places, chosen = [(0, 0, side, side)], [first]
    marked = []
    for (left, top, right, bottom), index in zip(places, chosen, strict=True):
        part = _fill(out[top:bottom, left:right], stock, index, how, rng)
        marked.append(_moved(part, left, top))
    every = together(marked)
    _cover(out, every, stock, how, rng)
    for _ in range(_MOST_PASTED if len(stock.pasted) else 0):
        if rng.random() >= how.paste:
            break
        every = _paste(out, every, stock, how, rng)
    for _ in range(_MOST_PASTED):
        if rng.random() >= how.clutter:
            break
        _clutter(out, every, how, rng)
    if rng.random() < how.mixup:
        every = _mix(out, every, stock, how, rng)
    return relit(out, how, rng), every


def batch(
    stock: Stock, chosen: npt.NDArray[np.int64], shape: Shape, how: Augmentation, seed: Sequence[int]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Make a batch of scenes, in any process.

    Args:
        stock: what they are made of.
        chosen: index of the image that is surely in each.
        shape: of the batch.
        how: strengths of the changes.
        seed: all that they depend on besides.

    Returns:
        Uint8 grey images of shape (n, side, side), and what is in them as `fer_edge_train.faces.targets.packed`, with
        a teacher after its `answers`.
    """
    rng = np.random.default_rng(seed)
    scenes = [scene(stock, int(i), shape.side, how, rng) for i in chosen]
    images, marked = np.stack([image for image, _ in scenes]), [marked for _, marked in scenes]
    if not stock.teacher:
        return images, packed(marked, shape.least_rows)
    cells = np.stack([answers(image, stock.teacher) for image in images])
    left = packed([missed(*one) for one in zip(marked, cells, strict=True)], shape.least_rows)
    return images, np.concatenate((cells, left), axis=1)


def _fill(
    place: npt.NDArray[np.uint8], stock: Stock, index: int, how: Augmentation, rng: np.random.Generator
) -> Marked:
    """Fill a place with a view of an image, and with one without faces where that does not reach."""
    source = stock.images[index]
    matrix = _view(source, place.shape, how, rng)
    rows, columns = source.gray.shape
    corners = np.array([[0, 0, 1], [columns, 0, 1], [0, rows, 1], [columns, rows, 1]]) @ matrix.T
    # Turned, it does not reach everywhere even where its corners do; what is behind is cheap.
    low, high = corners.min(axis=0), corners.max(axis=0)
    border = cv2.BORDER_REPLICATE  # where it fills its place to the edge, its last pixels are drawn up to there
    if matrix[0, 1] or (low > 0).any() or (high < (place.shape[1], place.shape[0])).any():
        border = cv2.BORDER_TRANSPARENT
        if len(stock.empty) and rng.random() < 0.8:
            behind = stock.images[int(rng.choice(stock.empty))]
            zoom = max(place.shape[0] / behind.gray.shape[0], place.shape[1] / behind.gray.shape[1])
            seen = behind.gray[: math.ceil(place.shape[0] / zoom), : math.ceil(place.shape[1] / zoom)]
            how_drawn = cv2.INTER_AREA if zoom < _ALIASED else cv2.INTER_LINEAR
            place[:] = cv2.resize(seen, place.shape[::-1], interpolation=how_drawn)
        else:
            place[:] = int(rng.integers(0, 256))
    _warp(source.gray, matrix, place, border)
    return mapped(source.marked, matrix, place.shape, how.smallest)


def _view(
    source: Source, shape: tuple[int, ...], how: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """A matrix from an image to its place, in which a face of it, or any point of it, comes to a random point."""
    rows, columns = source.gray.shape
    boxes = source.marked.boxes
    if len(boxes):
        box = boxes[int(rng.integers(len(boxes)))]
        own, point = float(max(box[2:])), box[:2] + box[2:] / 2
        zoom = math.exp(rng.uniform(math.log(how.smallest), math.log(0.95 * min(shape)))) / own
    else:
        point = rng.random(2) * (columns, rows)
        zoom = math.exp(rng.uniform(math.log(0.5), math.log(2)))
    zoom = min(max(zoom, min(shape) / 4 / max(rows, columns)), how.enlarge)
    angle = math.radians(rng.uniform(-1, 1) * how.rotate_degrees) if rng.random() < how.rotate else 0.0
    linear = _rotation(zoom, angle)
    if how.squeeze > 1:
        linear[:, int(rng.integers(2))] *= how.squeeze ** -rng.random()
    if rng.random() < how.flip:
        linear[:, 0] = -linear[:, 0]
    target = rng.uniform(0.05, 0.95, 2) * (shape[1], shape[0])
    if zoom * min(rows, columns) >= max(shape) and not angle:
        # Keep the place filled where the image is large enough.
        reach = np.abs(linear) @ (columns / 2, rows / 2)
        centre = linear @ (np.array((columns, rows)) / 2 - point)
        target = np.clip(target, (shape[1], shape[0]) - reach - centre, reach - centre)
    return np.column_stack([linear, target - linear @ point])


def _rotation(zoom: float, angle: float) -> npt.NDArray[np.float64]:
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _warp(
    gray: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64], place: npt.NDArray[np.uint8], border: int
) -> None:
    """Draw an image where a matrix puts it, whose coordinates are of pixels' edges, not middles."""
    zoom = math.hypot(matrix[0, 0], matrix[1, 0])
    if zoom < _ALIASED:
        rows, columns = (max(1, round(side * zoom)) for side in gray.shape)
        scale = (gray.shape[1] / columns, gray.shape[0] / rows)
        gray = np.asarray(cv2.resize(gray, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
        matrix = np.column_stack([matrix[:, :2] * scale, matrix[:, 2]])
    middles = matrix.copy()
    middles[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    drawn = np.ascontiguousarray(place)
    cv2.warpAffine(gray, middles, place.shape[::-1], dst=drawn, flags=cv2.INTER_LINEAR, borderMode=border)
    place[:] = drawn


def mapped(marked: Marked, matrix: npt.NDArray[np.float64], shape: tuple[int, ...], smallest: float) -> Marked:
    """Marks where a matrix puts them; faces that are then too small or mostly out of sight are ignored regions.

    Args:
        marked: in an image.
        matrix: of shape (2, 3), from there to the scene; a mirror swaps left and right landmarks.
        shape: rows and columns of the scene.
        smallest: longer side of the smallest face, in pixels.
    """
    if not len(marked.boxes) and not len(marked.ignored):
        return marked
    linear = matrix[:, :2].astype(np.float32)
    landmarks = marked.landmarks @ linear.T + matrix[:, 2].astype(np.float32)
    if linear[0, 0] * linear[1, 1] < linear[0, 1] * linear[1, 0]:
        landmarks = landmarks[:, MIRRORED]
    boxes, seen = _turned(marked.boxes, linear, matrix[:, 2], shape)
    ignored, in_sight = _turned(marked.ignored, linear, matrix[:, 2], shape)
    large = boxes[:, 2:].max(axis=1, initial=0) >= smallest
    face = large & (seen >= _LEAST_SEEN)
    left_over = ~face & (seen > 0) & (boxes[:, 2:].max(axis=1, initial=0) >= _TINY)
    return Marked(
        boxes[face],
        landmarks[face],
        marked.scores[face],
        np.concatenate((boxes[left_over], ignored[in_sight > 0])),
    )


def _turned(
    boxes: npt.NDArray[np.float32],
    linear: npt.NDArray[np.float32],
    shift: npt.NDArray[np.float64],
    shape: tuple[int, ...],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Boxes in the scene, cut at its edges, and the share of each that is in it."""
    if not len(boxes):
        return boxes, np.empty(0, np.float32)
    middle = (boxes[:, :2] + boxes[:, 2:] / 2) @ linear.T + shift.astype(np.float32)
    # Around an ellipse in the box, not around its corners, which are no part of a face.
    half = np.sqrt(np.square(boxes[:, 2:] / 2) @ np.square(linear).T)
    size = np.array((shape[1], shape[0]), np.float32)
    # Of so few numbers, np.clip takes three times as long.
    low, high = (np.minimum(np.maximum(edge, 0), size) for edge in (middle - half, middle + half))
    cut = np.concatenate((low, high - low), axis=1).astype(np.float32)
    return cut, np.asarray(cut[:, 2:].prod(axis=1) / np.maximum(4 * half.prod(axis=1), 1e-6), np.float32)


def _moved(marked: Marked, x: int, y: int) -> Marked:
    shift = np.array((x, y), np.float32)
    still = np.zeros(2, np.float32)
    by = np.concatenate((shift, still))
    return Marked(marked.boxes + by, marked.landmarks + shift, marked.scores, marked.ignored + by)


def _cover(
    image: npt.NDArray[np.uint8],
    marked: Marked,
    stock: Stock,
    how: Augmentation,
    rng: np.random.Generator,
) -> None:
    """Cover a part of some faces by a piece of another image, as hands, cups and other people do."""
    for face, (x, y, width, height) in enumerate(marked.boxes.tolist()):
        if rng.random() >= how.cover:
            continue
        if stock.teacher:
            marked.scores[face] = 0  # it says how much of a face is left
        across = rng.uniform(0.3, 1)
        down = rng.uniform(0.2, _MOST_COVERED / across)
        left = int(x + width * rng.uniform(-0.3 * across, 1 - 0.7 * across))
        top = int(y + height * rng.uniform(-0.3 * down, 1 - 0.7 * down))
        place = image[max(top, 0) :, max(left, 0) :][: math.ceil(down * height), : math.ceil(across * width)]
        other = stock.images[int(rng.integers(len(stock.images)))].gray
        if min(np.subtract(other.shape, place.shape)) < 0 or rng.random() < _PLAIN:
            place[:] = int(rng.integers(256))
            continue
        row, column = (int(rng.integers(room + 1)) for room in np.subtract(other.shape, place.shape))
        place[:] = other[row:, column:][: place.shape[0], : place.shape[1]]


def _paste(
    image: npt.NDArray[np.uint8],
    marked: Marked,
    stock: Stock,
    how: Augmentation,
    rng: np.random.Generator,
) -> Marked:
    """Paste a face where it covers nothing that is marked; without landmarks, which nobody knows yet."""
    side = len(image)
    size = math.exp(rng.uniform(math.log(how.smallest), math.log(0.5 * side)))
    width, height = size * _PASTED_WIDTH, size * _PASTED_HEIGHT
    x, y = rng.uniform(0, (side - width, side - height))
    box = np.array([[x, y, width, height]], np.float32)
    around = np.array([[x + (width - size) / 2, y + (height - size) / 2, size, size]], np.float32)
    if pairwise_intersection(around, np.concatenate((marked.boxes, marked.ignored))).any():
        return marked
    face = stock.pasted[int(rng.integers(len(stock.pasted)))]
    if rng.random() < how.flip:
        face = face[:, ::-1]
    scale = size / len(face)
    matrix = np.array([[scale, 0, around[0, 0]], [0, scale, around[0, 1]]])
    _blend(image, np.ascontiguousarray(face), _oval(len(face)), matrix)
    return together(
        [
            marked,
            Marked(
                box,
                np.full((1, 5, 2), np.nan, np.float32),
                np.full(1, 0 if stock.teacher else 1, np.float32),
                np.empty((0, 4), np.float32),
            ),
        ]
    )


def _clutter(image: npt.NDArray[np.uint8], marked: Marked, how: Augmentation, rng: np.random.Generator) -> None:
    """Draw a thing that is no face where it covers nothing that is marked."""
    side = len(image)
    size = math.exp(rng.uniform(math.log(how.smallest), math.log(0.7 * side)))
    middle = rng.uniform(0, side, 2)
    around = np.array([[*(middle - size / 2), size, size]], np.float32)
    if pairwise_intersection(around, np.concatenate((marked.boxes, marked.ignored))).any():
        return
    drawn, mask = thing(rng)
    angle = rng.uniform(-0.5, 0.5)
    linear = _rotation(size / len(drawn), angle)
    linear[:, int(rng.integers(2))] *= rng.uniform(0.6, 1)  # seen from a side
    _blend(image, drawn, mask, np.column_stack([linear, middle - linear @ (len(drawn) / 2, len(drawn) / 2)]))


def _mix(
    image: npt.NDArray[np.uint8], marked: Marked, stock: Stock, how: Augmentation, rng: np.random.Generator
) -> Marked:
    """Let another image shine through, as Zhang et al. 2019 (arXiv:1902.04103) do for detectors."""
    other = np.empty_like(image)
    through = _fill(other, stock, int(rng.integers(len(stock.images))), how, rng)
    share = rng.uniform(_LEAST_MIXED, 1)
    cv2.addWeighted(image, share, other, 1 - share, 0, dst=image)
    # A teacher says how much is left of a face.
    left = (0, 0) if stock.teacher else (share, 1 - share)
    parts = zip((marked, through), left, strict=True)
    return together([part._replace(scores=part.scores * np.float32(much)) for part, much in parts])


def _blend(
    image: npt.NDArray[np.uint8],
    other: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    matrix: npt.NDArray[np.float64],
) -> None:
    """Draw another image where a matrix puts it, as much of it as its mask says."""
    drawn, share = image.copy(), np.zeros_like(image)
    _warp(other, matrix, drawn, cv2.BORDER_REPLICATE)
    _warp(mask, matrix, share, cv2.BORDER_CONSTANT)
    opaque = share.astype(np.float32) / 255
    image[:] = drawn * opaque + image * (1 - opaque)


def _oval(side: int) -> npt.NDArray[np.uint8]:
    """255 in the middle of a square and 0 at its edges, soft between."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / (side - 1) * 2 - 1
    return _bytes((1 - np.maximum(np.abs(x), np.abs(y))) * 6 * 255)


def relit(image: npt.NDArray[np.uint8], how: Augmentation, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The image in another light, through another lens, sensor and codec."""
    ramp = np.linspace(0, 1, 256)
    gamma = math.exp(rng.uniform(-1, 1) * math.log1p(how.gamma))
    contrast = math.exp(rng.uniform(-1, 1) * math.log1p(how.contrast))
    light = rng.uniform(-1, 1) * how.brightness
    middle = float(image.mean()) / 255
    curve = ((ramp - middle) * contrast + middle + light).clip(0, 1) ** gamma
    out = np.asarray(cv2.LUT(image, np.round(curve * 255).astype(np.uint8)), np.uint8)
    side = len(out)
    if rng.random() < how.gradient:
        angle = rng.uniform(0, 2 * math.pi)
        line = np.linspace(-1, 1, side, dtype=np.float32)
        tilt = line[None] * np.float32(math.cos(angle)) + line[:, None] * np.float32(math.sin(angle))
        light_there = 1 + tilt * np.float32(rng.uniform(0.1, 0.5))
        out = np.asarray(cv2.multiply(out, light_there, dtype=cv2.CV_8U), np.uint8)
    if rng.random() < how.blur:
        if rng.random() < 0.7:
            out = np.asarray(cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 1.3)), np.uint8)
        else:
            kernel = np.zeros((5, 5), np.float32)
            length, angle = rng.uniform(1, 2), rng.uniform(0, math.pi)
            dx, dy = length * math.cos(angle), length * math.sin(angle)
            for at in np.linspace(-1, 1, 9):
                kernel[round(2 + at * dy), round(2 + at * dx)] = 1
            out = np.asarray(cv2.filter2D(out, -1, kernel / kernel.sum()), np.uint8)
    if rng.random() < how.noise:
        noise = rng.standard_normal(out.shape, np.float32)
        noise *= np.float32(rng.uniform(2, 12))
        out = np.asarray(cv2.add(out, noise, dtype=cv2.CV_8U), np.uint8)
    if rng.random() < how.jpeg:
        quality = int(rng.integers(25, 90))
        encoded = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        out = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)
    return out


def _bytes(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.clip(values, 0, 255).astype(np.uint8)
