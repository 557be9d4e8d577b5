"""The second stage of a face detector as a stage to convert."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fer_edge.detection.resampling import crop_squares
from fer_edge.detection.selftest import with_refiner_self_test
from fer_edge.errors import DataError
from fer_edge.modelcard.archive import model_bytes, with_refiner
from fer_edge_convert.detector_parity import score_divergence
from fer_edge_convert.detector_stage import DetectorStage
from fer_edge_convert.flatbuffer import Images, deduplicate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.modelcard.schema import DetectorCard
    from fer_edge_convert.sources import RefinerSource


class SecondStage(DetectorStage):
    """The network that checks what the first stage takes for faces."""

    def __init__(
        self,
        source: RefinerSource,
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
        """Return the squares that the first stage proposes in images of full size.

        Raises:
            DataError: there are none.
        """
        card, squares = self._source.card, []
        for row in rows.tolist():
            gray = data.gray(row)
            proposed = self._source.first.propose(gray, (gray.shape[0], gray.shape[1]), card.min_score)
            squares += list(crop_squares(gray, proposed.boxes, card.extent, card.side)[1])
        if not squares:
            raise DataError(
                f"{data.name}: {self._source.detector} finds no face in these images, so that there is nothing to"
                " measure ranges on; give images with faces"
            )
        return Images(np.stack(squares), card.input)

    def divergence(
        self, original: Sequence[npt.NDArray[np.float32]], converted: Sequence[npt.NDArray[np.float32]]
    ) -> float:
        """Return Kullback-Leibler divergence of the scores in nats, plus mean difference of boxes where a face is."""
        by_width, others = ({one.shape[1]: one for one in some} for some in (original, converted))
        scores = score_divergence(by_width[1], others[1])
        boxes = np.abs(by_width[4] - others[4]).mean(axis=1, keepdims=True)
        return float((scores + by_width[1] * boxes).mean())

    def content(
        self, model: bytes, scores: Mapping[str, float], command: str, out: Path | None
    ) -> tuple[DetectorCard, bytes]:
        """Return a card for both stages, and the first stage's file with this network beside it."""
        model, first, own = deduplicate(model), self._source.first.card, self._source.card
        second = msgspec.structs.replace(
            own, scores={}, made_by=(), data="", flatbuffer_sha256=hashlib.sha256(model).hexdigest()
        )
        if out:
            second = with_refiner_self_test(model, second, out)
        card = msgspec.structs.replace(
            first,
            threshold=own.threshold,
            calibration=None,  # of the first stage alone, or of another second one
            crop_spec=own.crop_spec,
            scores={**own.scores, **scores},
            # The commands of the second stage include those of the first, from whose proposals it learnt.
            made_by=(*own.made_by, command) if command else own.made_by,
            refiner=second,
        )
        return card, with_refiner(model_bytes(self._source.detector), card, model)
