"""Say what a file is that is not the model its name promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_edge.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

_READ: Final = 1024
_ARCHIVE: Final = "an archive; unpack it, and give the model that is in it"
_PICKLE: Final = (
    "a pickle of Python, which is not read, because opening one may run any code; save the model with"
    " model.save('model.keras') where it was made"
)
_CAFFE: Final = "a Caffe model, which is not read here; ask for a Keras or .tflite file"
_CHECKPOINT: Final = (
    "a part of a TensorFlow checkpoint, which holds weights without their layers; load it where the model is defined,"
    " with model.load_weights, and save the whole model: model.save('model.keras')"
)
_OTHER_FORMS: Final = {
    ".pb": (
        "a frozen graph of TensorFlow 1, which is not read here; make a .tflite of it with"
        " tf.compat.v1.lite.TFLiteConverter.from_frozen_graph, or ask for the Keras file"
    ),
    **dict.fromkeys((".zip", ".gz", ".tgz", ".tar", ".rar", ".7z"), _ARCHIVE),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _PICKLE),
    **dict.fromkeys((".caffemodel", ".prototxt"), _CAFFE),
    **dict.fromkeys((".index", ".meta"), _CHECKPOINT),
    ".mlmodel": "a Core ML model, which is not read here; ask for the Keras, ONNX or PyTorch file it was made of",
}
_LFS: Final = b"version https://git-lfs.github.com/spec/"


def read_begin(path: Path) -> bytes:
    """Return the first bytes of a file.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(_READ)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def refuse_other_file(path: Path, begin: bytes) -> None:
    """Refuse a file that stands in the place of a model: a Git LFS pointer, a web page, other XML, or nothing.

    Args:
        path: the file.
        begin: its first bytes.

    Raises:
        ModelError: it is one of these.
    """
    if not begin:
        raise ModelError(f"{path}: empty; copy or download the model again")
    if begin.startswith(_LFS):
        raise ModelError(
            f"{path}: a Git LFS pointer, not the model itself; get the model with `git lfs pull` in its repository"
        )
    if b"<net " in begin:
        raise ModelError(
            f"{path}: an OpenVINO network, which is not read here; ask for the ONNX or Keras file it was made of"
        )
    if b"<opencv_storage>" in begin:
        raise ModelError(f"{path}: a cascade of OpenCV, which finds faces; give the model that names expressions")
    if begin.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"{path}: a web page, not a model; download the file itself, on GitHub by its Raw button")


def refuse_other_form(path: Path, begin: bytes) -> None:
    """Refuse a model of a form that is not read here, with what to do.

    Args:
        path: the file.
        begin: its first bytes.

    Raises:
        ModelError: it is one.
    """
    remedy = _OTHER_FORMS.get(path.suffix.lower(), "")
    if path.suffix.startswith(".data-"):
        remedy = _CHECKPOINT
    elif path.name == "saved_model.pb":
        remedy = f"a part of a SavedModel; give the folder that it lies in: {path.parent}"
    elif path.suffix == ".json" and (b'"weightsManifest"' in begin or b'"modelTopology"' in begin):
        remedy = (
            "a TensorFlow.js model, which is not read here; make a Keras file of it with"
            f" `tensorflowjs_converter --input_format tfjs_layers_model --output_format keras {path.name} model.h5`"
        )
    if remedy:
        raise ModelError(f"{path}: {remedy}")
