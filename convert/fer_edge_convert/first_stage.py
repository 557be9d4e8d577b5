"""The first stage of a face detector as a stage to convert."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fer_edge.detection.resampling import PADDING
from fer_edge.detection.selftest import with_detector_self_test
from fer_edge.modelcard.archive import with_card
from fer_edge_convert.detector_parity import divergence
from fer_edge_convert.detector_stage import DetectorStage
from fer_edge_convert.flatbuffer import Images, deduplicate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.modelcard.schema import DetectorCard
    from fer_edge_convert.sources import DetectorSource


class FirstStage(DetectorStage):
    """The network that processes the whole image; it is a detector by itself."""

    def __init__(
        self,
        source: DetectorSource,
        *,
        test: FaceDataset | None = None,
        calibration: FaceDataset | None = None,
        one_dense_scale: bool = False,
    ) -> None:
        """Take a network and its data; see `DetectorStage`."""
        super().__init__(test, calibration, one_dense_scale=one_dense_scale)
        self.path, self.kind, self.model = source.path, source.kind, source.model
        self.input, self._source = source.card.input, source

    def inputs(self, data: FaceDataset, rows: npt.NDArray[np.int64]) -> Images:
        """Return images of the model's own size: larger ones are cropped, smaller ones padded as on a device."""
        height, width = self._source.height, self._source.width
        stack = np.full((len(rows), height, width), PADDING, np.uint8)
        for place, row in zip(stack, rows.tolist(), strict=True):
            gray = data.gray(row)[:height, :width]
            place[: gray.shape[0], : gray.shape[1]] = gray
        return Images(stack, self._source.card.input)

    def divergence(
        self, original: Sequence[npt.NDArray[np.float32]], converted: Sequence[npt.NDArray[np.float32]]
    ) -> float:
        """Return how far outputs are from the original ones; see `detector_parity.divergence`."""
        return divergence(original, converted)

    def content(
        self, model: bytes, scores: Mapping[str, float], command: str, out: Path | None
    ) -> tuple[DetectorCard, bytes]:
        """Return the card and a file with this network only."""
        model = deduplicate(model)
        card = msgspec.structs.replace(
            self._source.card,
            scores={**self._source.card.scores, **scores},
            made_by=(*self._source.card.made_by, command) if command else self._source.card.made_by,
            flatbuffer_sha256=hashlib.sha256(model).hexdigest(),
            refiner=None,
        )
        if out:
            card = with_detector_self_test(model, card, out)
        return card, with_card(model, card)
