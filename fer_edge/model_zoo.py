"""The models that the package ships, by name."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final, Literal

from fer_edge.errors import ModelError

DetectorName = Literal["network", "yunet"]

_FOLDER: Final = Path(__file__).parent / "models"
DEFAULT_MODEL: Final = _FOLDER / "edge.tflite"
DEFAULT_DETECTOR: Final = _FOLDER / "faces.tflite"
TRAINABLE: Final = ("edge", "edge-plus")  # the repository has the float models of these classifiers
CLASSIFIERS: Final = (*TRAINABLE, "large")
DETECTORS: Final = ("faces",)
# Forms of models that no command but convert reads.
_CONVERTIBLE: Final = {
    **dict.fromkeys((".keras", ".h5", ".hdf5"), "a Keras model"),
    ".onnx": "an ONNX model",
    ".pt2": "a model of PyTorch",
}
SHIPPED: Final = tuple(_FOLDER / f"{name}.tflite" for name in CLASSIFIERS + DETECTORS)


def find_model(model: str | Path, kind: Literal["classifier", "detector", "any"] = "classifier") -> Path:
    """Return the file of a model.

    Args:
        model: a file, or the name of a shipped model without its suffix, such as ``edge``. A file of that name in the
            current folder takes precedence.
        kind: kind of the model; an error lists the shipped models of this kind.

    Raises:
        ModelError: there is no such file, or it is of another form, which must be converted first.
    """
    path = Path(model)
    shipped = _FOLDER / f"{path}.tflite"
    if path.parent == Path() and not path.is_file() and shipped.exists():
        return shipped
    if not path.exists():
        raise ModelError(f"{path}: no such model file{_hint(path, kind)}")
    form = "a SavedModel folder" if (path / "saved_model.pb").is_file() else _CONVERTIBLE.get(path.suffix, "")
    if form and not (kind == "detector" and path.suffix == ".onnx"):  # YuNet is one
        raise ModelError(
            f"{path}: {form}; run `fer-edge convert {path} --int8 --data fer2013.csv -o {path.stem}.tflite` first"
        )
    return path


def missing_source(path: Path) -> ModelError:
    """Return the error for a model to convert that does not exist, with a remedy.

    Args:
        path: the model, as the user named it; perhaps the name of a shipped one, which is converted already.
    """
    near = difflib.get_close_matches(path.name, CLASSIFIERS + DETECTORS, 1) if path.parent == Path() else []
    remedy = "check the path; give a .keras, .h5, .hdf5, .onnx or .pt2 file, a SavedModel folder or a float .tflite"
    if near:
        name = "it" if near[0] == path.name else f"did you mean {near[0]}? It"
        remedy = f"{name} is shipped as a converted model, which other commands take by its name"
    return ModelError(f"{path}: no such model; {remedy}")


def _hint(path: Path, kind: str) -> str:
    """Return a hint if a path may be the misspelt name of a shipped model; otherwise an empty text."""
    names = {"classifier": CLASSIFIERS, "detector": DETECTORS}.get(kind, CLASSIFIERS + DETECTORS)
    near = difflib.get_close_matches(path.stem, names, 1)
    if path.parent != Path() or not (path.suffix == "" or (path.suffix == ".tflite" and near)):
        return ""
    known = f"the shipped models are {', '.join(names)}" if len(names) > 1 else f"the shipped model is {names[0]}"
    return f"; {known}{f' (did you mean {near[0]}?)' if near else ''}"
