"""The choice of faces that are worth a person's review, and the crops of them that are kept.

A label of a person teaches a model most where the model is unsure, where it contradicts itself, and where it has seen
little. In active learning, the first two are uncertainty sampling by the smallest margin and query by committee; here
the members of the committee are two views of a face, and two moments.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from fer_edge.classification.crop import crop_detected_face, crop_whole_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from fer_edge.classification.classifier import Classifier
    from fer_edge.geometry import CropSpec, Face
    from fer_edge.modelcard.schema import InputSpec

Reason = Literal["uncertain", "contradictory", "rare"]
MARGIN: Final = 0.2
MIN_SIDE: Final = 48  # of a kept crop, in pixels
MAX_SIDE: Final = 160
_RARE_SHARE: Final = 0.05
_MIN_FACES: Final = 200  # of which the shares are known well enough


def score_margin(scores: npt.NDArray[np.float32]) -> float:
    """Return how far the best score leads the second best, 0..1."""
    second, best = np.partition(scores, -2)[-2:]
    return float(best - second)


def label_scores(scores: npt.NDArray[np.float32], labels: Sequence[str]) -> dict[str, float]:
    """Return the score of each label, 0..1; a quantized model may give a little more."""
    return {label: min(max(float(score), 0.0), 1.0) for label, score in zip(labels, scores, strict=True)}


def contradicts_mirror_image(crop: npt.NDArray[np.uint8], classifier: Classifier) -> bool:
    """Return whether a classifier gives a face and its mirror image different emotions.

    Args:
        crop: what `crop_for_review` returned.
        classifier: the classifier; both are scored by it.
    """
    spec = classifier.card.input
    face = crop_whole_image(crop, spec.height, spec.width)
    scores = classifier.classify(np.stack([face, face[:, ::-1]]))
    return int(scores[0].argmax()) != int(scores[1].argmax())


def is_rare(emotion: str, counts: Mapping[str, int]) -> bool:
    """Return whether an emotion is seldom seen.

    Args:
        emotion: the emotion.
        counts: number of faces of each emotion that were seen.
    """
    faces = sum(counts.values())
    return faces >= _MIN_FACES and counts.get(emotion, 0) < _RARE_SHARE * faces


def crop_for_review(
    gray: npt.NDArray[np.uint8], face: Face, crop_spec: CropSpec, spec: InputSpec
) -> npt.NDArray[np.uint8]:
    """Crop a face as the classifier sees it, with as much detail as the image has.

    Each side is a multiple of the input's. Where the classifier's input is made by averaging pixels, reducing the crop
    therefore gives the same input again.

    Args:
        gray: uint8 image of shape (rows, columns).
        face: the face.
        crop_spec: how its box becomes a square.
        spec: the classifier's input.

    Returns:
        uint8 array with sides of 48 to 160 pixels.
    """
    side = max(spec.height, spec.width)
    if side > MAX_SIDE:
        height, width = (max(1, round(each * MAX_SIDE / side)) for each in (spec.height, spec.width))
        return crop_detected_face(gray, face, height, width, crop_spec)
    native = max(face.box.width, face.box.height) * crop_spec.scale
    factor = max(math.ceil(MIN_SIDE / side), min(int(native), MAX_SIDE) // side)
    return crop_detected_face(gray, face, spec.height * factor, spec.width * factor, crop_spec)
