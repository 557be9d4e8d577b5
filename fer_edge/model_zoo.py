"""The models that come with the package: from names to files."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final, Literal

from fer_edge.errors import ModelError

_SHIPPED: Final = Path(__file__).parent / "models"
DEFAULT_MODEL: Final = _SHIPPED / "edge.tflite"
DEFAULT_DETECTOR: Final = _SHIPPED / "faces.tflite"
CLASSIFIERS: Final = ("edge", "edge-plus")
DETECTORS: Final = ("faces",)


def find_model(name: Path, kind: Literal["classifier", "detector", "any"] = "classifier") -> Path:
    """Return the file of a model.

    Args:
        name: a path, or the bare name of a model that comes with the package, such as ``edge``.
        kind: what the caller needs; an error lists the shipped models of that kind.

    Raises:
        ModelError: there is no such file, or it is a Keras model, which must be converted first.
    """
    shipped = _SHIPPED / f"{name}.tflite"
    if name.parent == Path() and not name.is_file() and shipped.exists():
        return shipped
    if not name.exists():
        raise ModelError(f"{name}: no such model file{_shipped_models(name, kind)}")
    if name.suffix in {".keras", ".h5", ".hdf5"} or (name / "saved_model.pb").is_file():
        what = "a SavedModel folder" if name.is_dir() else "a Keras model"
        raise ModelError(
            f"{name}: {what}; run `fer-edge convert {name} --int8 --data fer2013.csv -o {name.stem}.tflite` first"
        )
    return name


def _shipped_models(name: Path, kind: str) -> str:
    """Return a hint for what may be the misspelt name of a shipped model."""
    names = {"classifier": CLASSIFIERS, "detector": DETECTORS}.get(kind, CLASSIFIERS + DETECTORS)
    near = difflib.get_close_matches(name.stem, names, 1)
    if name.parent != Path() or not (name.suffix == "" or (name.suffix == ".tflite" and near)):
        return ""
    known = f"the shipped models are {', '.join(names)}" if len(names) > 1 else f"the shipped model is {names[0]}"
    return f"; {known}{f' (did you mean {near[0]}?)' if near else ''}"
