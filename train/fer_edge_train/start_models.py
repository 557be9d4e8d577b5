"""The float models from which the shipped ones were converted, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fer_edge.errors import ModelError
from fer_edge.model_zoo import CLASSIFIERS, TRAINABLE

_FOLDER: Final = "models"


def find_start_model(model: Path) -> Path:
    """Return the file of a model to start from.

    Args:
        model: a ``.keras`` file; or the name of a shipped classifier, whose float model lies in the folder ``models``
            of the repository: of the one that this program runs from, or of the current folder.

    Raises:
        ModelError: there is no such file, or it has another form.
    """
    if model.parent == Path() and str(model) in CLASSIFIERS and not model.exists():
        if str(model) not in TRAINABLE:
            raise ModelError(
                f"{model}: its float model is not kept; make it with the commands that `fer-edge inspect {model}`"
                f" prints, or give {' or '.join(TRAINABLE)}"
            )
        places = [Path(__file__).parents[2] / _FOLDER, Path(_FOLDER)]
        found = [place / f"{model}.keras" for place in places if (place / f"{model}.keras").is_file()]
        if found:
            return found[0]
        raise ModelError(
            f"{model}: its float model is not part of the installed package; run this in the folder of the repository,"
            f" or give its file models/{model}.keras"
        )
    if not model.is_file():
        raise ModelError(f"{model}: no such model; give a .keras of `fer-edge train`, or {' or '.join(TRAINABLE)}")
    if model.suffix != ".keras":
        raise ModelError(
            f"{model}: not a .keras file, and only these can be trained; give the float model it was made of"
        )
    return model
