"""Compare a model with the program that it was made for, on real faces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.errors import ModelError
from fer_edge.utils.words import counted
from fer_edge_convert.flatbuffer import Images, run_model
from fer_edge_convert.formats.forms import find_form
from fer_edge_convert.formats.isolated import run_original
from fer_edge_convert.stage import SEED

if TYPE_CHECKING:
    from fer_edge.datasets.dataset import Dataset
    from fer_edge.modelcard.schema import ClassifierCard
    from fer_edge_convert.formats.request import ReadOptions
    from fer_edge_convert.sources import SourceModel

_FACES: Final = 200
_LEAST_AGREEMENT: Final = 0.98  # of labels; two nearly equal scores may change places


def compare_with_original(source: SourceModel, options: ReadOptions, card: ClassifierCard, data: Dataset) -> str:
    """Compare the float model with the original, in ONNX Runtime or PyTorch.

    Args:
        source: the model.
        options: what the user said when it was read.
        card: what it takes.
        data: faces; some of them are used.

    Returns:
        What to tell the user.

    Raises:
        ModelError: the labels are not the same.
    """
    rows = np.sort(np.random.default_rng(SEED).permutation(len(data))[:_FACES])
    faces = Images(data.faces[rows], card.input)
    images = np.stack([faces[i] for i in range(len(faces))])
    form = find_form(source.path)
    program = "PyTorch" if form == "exported" else "ONNX Runtime"
    same = run_original(source.path, form, options, images).argmax(axis=1) == run_model(source.model, images).argmax(
        axis=1
    )
    if same.mean() < _LEAST_AGREEMENT:
        raise ModelError(
            f"{source.path}: translated to another model, which gives another label than {program} for"
            f" {int((~same).sum())} of {counted(len(rows), 'face')}; report it"
        )
    return f"original    {program} gives the same label for {int(same.sum())} of {counted(len(rows), 'face')}"
