"""Measuring a Keras refiner on what the first stage proposes in the validation images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.detection.postprocess import RawDetections, nms
from fer_edge.detection.refiner import decode_squares
from fer_edge.detection.resampling import crop_squares
from fer_edge_train.faces.detector_batches import PIXELS
from fer_edge_train.faces.detector_validation import clip_to_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras
    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.detection.metrics import ImageDetections
    from fer_edge.detection.network import NetworkDetector
    from fer_edge_train.faces.refiner_recipe import RefinerRecipe

_BATCH: Final = 512  # squares in a batch


@dataclass(frozen=True, slots=True, eq=False)
class ValidationProposals:
    """What the first stage proposes in the validation images.

    Attributes:
        grays: the images, uint8, of any sizes.
        counts: number of proposals in each image.
        places: left, top and side of each square, float32 of shape (n, 3).
        squares: uint8 of shape (n, side, side).
        scores: score of the first stage for each, float32 of shape (n,).
    """

    grays: Sequence[npt.NDArray[np.uint8]]
    counts: Sequence[int]
    places: npt.NDArray[np.float32]
    squares: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]

    @classmethod
    def of(cls, first_stage: NetworkDetector, data: FaceDataset, recipe: RefinerRecipe) -> ValidationProposals:
        """Run the first stage on images at their own size."""
        grays = [data.gray(i) for i in range(len(data))]
        proposed = [first_stage.propose(gray, (gray.shape[0], gray.shape[1]), recipe.min_score) for gray in grays]
        parts = [
            crop_squares(gray, some.boxes, recipe.network.extent, recipe.network.side)
            for gray, some in zip(grays, proposed, strict=True)
        ]
        return cls(
            grays,
            [len(places) for places, _ in parts],
            np.concatenate([places for places, _ in parts]),
            np.concatenate([squares for _, squares in parts]),
            np.concatenate([some.scores for some in proposed]),
        )

    def refine(self, network: keras.Model) -> list[ImageDetections]:
        """Run the second stage and return one box for each face.

        Args:
            network: result of `fer_edge_train.faces.refiner_network.to_inference_refiner`.
        """
        outputs = np.empty((len(self.squares), 15), np.float32)
        for start in range(0, len(outputs), _BATCH):
            # All batches have one shape, so that a compiled backend compiles once.
            batch = np.zeros((_BATCH, *self.squares.shape[1:]), np.uint8)
            part = self.squares[start : start + _BATCH]
            batch[: len(part)] = part
            predicted = [np.asarray(one) for one in network.predict_on_batch(PIXELS.normalize(batch))]
            outputs[start : start + _BATCH] = np.concatenate(predicted, axis=1)[: len(part)]
        faces = decode_squares(self.places, outputs, self.scores)
        ends = np.cumsum(self.counts)
        detections = []
        for end, count, gray in zip(ends.tolist(), self.counts, self.grays, strict=True):
            own = nms(RawDetections(*(values[end - count : end] for values in faces)))
            detections.append(clip_to_image(own, gray.shape))
        return detections
