"""The models that come with the package: from names to files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_SHIPPED: Final = Path(__file__).parent / "models"
DEFAULT_MODEL: Final = _SHIPPED / "edge.tflite"
DEFAULT_DETECTOR: Final = _SHIPPED / "faces.tflite"


def find_model(name: Path) -> Path:
    """The path of a model that comes with the package when ``name`` is its bare name (``edge``), else ``name``."""
    shipped = _SHIPPED / f"{name}.tflite"
    return shipped if name.parent == Path() and not name.is_file() and shipped.exists() else name
