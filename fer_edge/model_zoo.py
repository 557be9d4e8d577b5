"""The models that the package ships, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent / "models"
DEFAULT_MODEL: Final = _FOLDER / "edge.tflite"
DEFAULT_DETECTOR: Final = _FOLDER / "faces.tflite"


def find_model(model: str | Path) -> Path:
    """Return the path of a model.

    Args:
        model: a file, or the name of a shipped model without its suffix, such as ``edge``.  A file of that name in
            the current folder takes precedence.
    """
    path = Path(model)
    shipped = _FOLDER / f"{path}.tflite"
    return shipped if path.parent == Path() and not path.is_file() and shipped.exists() else path
