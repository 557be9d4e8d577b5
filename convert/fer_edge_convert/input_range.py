"""Infer which values a model's pixels had in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.errors import InputError
from fer_edge.modelcard.schema import INPUT_RANGES
from fer_edge_convert.flatbuffer import Images, run_model
from fer_edge_convert.stage import SEED

if TYPE_CHECKING:
    from fer_edge.datasets.dataset import Dataset
    from fer_edge_convert.sources import SourceModel

_FACES: Final = 2000  # at most
_MARGIN: Final = 0.02  # of accuracy, by which the best range must beat the others; and by three times the noise


def infer_range(source: SourceModel, labels: tuple[str, ...], data: Dataset, usage: str | None) -> str:
    """Return the range of pixel values with which a model of unknown origin is right most often.

    Args:
        source: the model.
        labels: names of its outputs.
        data: labelled faces.
        usage: the part of them to use; by default what is neither Training nor validation.

    Returns:
        A key of ``INPUT_RANGES``.

    Raises:
        InputError: no range is clearly better than the others.
    """
    test = data.select_usage(usage)
    rows = np.sort(np.random.default_rng(SEED).permutation(len(test))[:_FACES])
    truth = test.classes_for(labels)[rows]
    right = {}
    for name, scale_offset in INPUT_RANGES.items():
        spec = source.make_card(labels, scale_offset).input
        right[name] = (run_model(source.model, Images(test.faces[rows], spec)).argmax(axis=1) == truth).astype(
            np.float64
        )
    best = max(right, key=lambda name: right[name].mean())
    for name, other in right.items():
        gain = right[best] - other
        if name != best and gain.mean() <= max(_MARGIN, 3 * gain.std() / len(gain) ** 0.5):
            shares = ", ".join(f"{one} {share.mean():.0%}" for one, share in right.items())
            raise InputError(
                f"{source.path}: it does not say which values its pixels had in training, and the data does not tell"
                f" (right on {shares} of {len(rows)} faces): give --input-range 0..1, -1..1 or 0..255"
            )
    return best
