"""A Keras model as a `Classifier`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import keras
import numpy as np

from fer_edge.errors import ModelError
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_convert.formats.isolated import check_isolated

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


_BATCH: Final = 512  # faces at a time


class KerasClassifier:
    """A ``.keras`` model with a card.

    Attributes:
        card: what the model is and takes.
        model: the Keras model.
    """

    def __init__(self, path: Path) -> None:
        """Load a model.

        Raises:
            ModelError: the file is missing, damaged or has no card.
        """
        if path.suffix != ".keras":
            raise ModelError(f"{path}: not a .keras model; give the model.keras that `fer-edge train` made")
        self.card = read_card(path, ClassifierCard)
        check_isolated(path)
        try:
            self.model = keras.models.load_model(path, compile=False)
        except Exception as error:  # a damaged file can fail anywhere in Keras
            raise ModelError(f"{path}: damaged, Keras cannot load it; train it again") from error

    def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return float32 scores of shape (n, labels), each 0..1, for uint8 grey faces of shape (n, height, width)."""
        batches = (faces[begin : begin + _BATCH] for begin in range(0, len(faces), _BATCH))
        scores = [self.model.predict_on_batch(self.card.input.normalize(batch)) for batch in batches]
        return np.concatenate([np.asarray(batch, np.float32) for batch in scores])
