"""Read models of other forms as a float ``.tflite``, through TensorFlow.

This runs in a process of its own; see `fer_edge_convert.isolated_reader`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_edge.errors import InputError, ModelError
from fer_edge.utils.limits import KERAS_BYTES
from fer_edge.utils.zip_reader import open_zip
from fer_edge_convert import flatbuffer
from fer_edge_convert.keras_config import use_float32
from fer_edge_convert.keras_files import CONFIG_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TOLERANCE: Final = 1e-3  # of probabilities, between TensorFlow and what it was converted to
_DEBUG: Final = "`fer-edge --debug convert ...` shows why"


def load_tensorflow() -> None:
    """Import TensorFlow."""
    with _hide_output():
        import tensorflow  # noqa: F401, ICN001, PLC0415 - seconds, and not needed for a .tflite


def read_keras(path: Path, version: str, config: Any, size: int | None, *, unsafe: bool) -> bytes:  # noqa: ANN401 - JSON
    """Read a ``.keras`` or HDF5 file that was checked, as a float ``.tflite``.

    Args:
        path: the file.
        version: the version of Keras that made it; empty for the first ones.
        config: the parsed description of the model.
        size: side of the images, for a model that takes any.
        unsafe: whether code in the file may be run.

    Raises:
        ModelError: it cannot be converted.
        InputError: the size is needed and not given.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = path
        if use_float32(config):
            source = Path(folder, f"model{path.suffix}")
            (_copy_archive if path.suffix == ".keras" else _copy_hdf5)(path, source, json.dumps(config))
        return _by_keras(path, source, version, size, unsafe=unsafe)


def _copy_archive(path: Path, copy: Path, config: str) -> None:
    with open_zip(path, ModelError) as archive, zipfile.ZipFile(copy, "w") as out:
        for member in archive.members:
            out.writestr(member.name, config if member.name == CONFIG_NAME else member.read(KERAS_BYTES))


def _copy_hdf5(path: Path, copy: Path, config: str) -> None:
    import h5py  # noqa: PLC0415 - Keras brings it

    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = config


def _by_keras(path: Path, source: Path, version: str, size: int | None, *, unsafe: bool) -> bytes:
    """Load with the Keras of the file's time: Keras 3 reads few files of Keras 2.

    Args:
        path: the user's file, for errors.
        source: the file to load, which may be a copy.
        version: the version of Keras that made it.
        size: as for `read_keras`.
        unsafe: as for `read_keras`.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever it was trained with
    with _hide_output():
        try:
            if version.startswith("3"):
                import keras  # noqa: PLC0415 - seconds, and not needed for a .tflite

                model = keras.models.load_model(str(source), compile=False, safe_mode=not unsafe)
            else:
                import tf_keras  # noqa: PLC0415 - likewise
                from tf_keras.src.saving.serialization_lib import SafeModeScope  # noqa: PLC0415

                # Its loader of HDF5 files asks for the mode, but has no argument for it.
                with SafeModeScope(safe_mode=not unsafe):
                    model = tf_keras.models.load_model(str(source), compile=False)
            shapes = [tuple(one.shape) for one in model.inputs]
        except Exception as error:  # a damaged file can fail anywhere in Keras
            unknown = re.search(r"(?:Could not locate class|Unknown layer:) '(\w+)'", str(error))
            reason = f"it has a layer {unknown[1]}, which Keras does not know" if unknown else "Keras cannot load it"
            raise ModelError(
                f"{path}: {reason}; if it has custom layers, save it where they are defined with"
                f' model.export("folder") and convert that SavedModel; {_DEBUG}'
            ) from error
    if len(shapes) != 1:
        raise ModelError(f"{path}: it has {len(shapes)} inputs; a classifier takes one image")
    return _convert_function(path, lambda x: model(x, training=False), shapes[0], size)


def read_saved_model(path: Path, size: int | None) -> bytes:
    """Read a SavedModel folder that was checked, as a float ``.tflite``; see `read_keras`."""
    with _hide_output():
        import tensorflow as tf  # noqa: PLC0415 - seconds, and not needed for a .tflite

        try:
            loaded = tf.saved_model.load(str(path))  # whose variables live as long as it does
            signature = _choose_signature(loaded.signatures)
            taken = {name: (tuple(spec.shape), spec.dtype) for name, spec in _inputs(signature).items()}
        except Exception as error:  # TensorFlow has many ways to say that it cannot
            raise ModelError(
                f"{path}: TensorFlow cannot load it, or nothing in it can be called; save it with model.export;"
                f" {_DEBUG}"
            ) from error
    if len(taken) != 1:
        raise ModelError(f"{path}: it has {len(taken)} inputs ({', '.join(taken)}); a classifier takes one image")
    ((name, (shape, dtype)),) = taken.items()
    return _convert_function(path, lambda x: signature(**{name: tf.cast(x, dtype)}), shape, size)


def _choose_signature(signatures: Any) -> Any:  # noqa: ANN401 - TensorFlow has no types
    """Return the signature that is served by default; if that takes no image, one that does."""

    def rank(name: str) -> tuple[bool, bool]:
        inputs = list(_inputs(signatures[name]).values())
        takes_image = len(inputs) == 1 and len(inputs[0].shape) == 4
        return not takes_image, name != "serving_default"

    return signatures[min(signatures, key=rank)]


def _inputs(signature: Any) -> dict[str, Any]:  # noqa: ANN401 - TensorFlow has no types
    inputs: dict[str, Any] = signature.structured_input_signature[1]
    return inputs


def _convert_function(
    path: Path, function: Callable[[Any], Any], shape: tuple[int | None, ...], size: int | None
) -> bytes:
    """Return a float ``.tflite`` of a function of images, checked against it."""
    import tensorflow as tf  # noqa: PLC0415 - seconds, and not needed for a .tflite

    if len(shape) != 4 or shape[3] is None:
        raise ModelError(f"{path}: it takes {list(shape)}; a classifier takes images, [n, height, width, channels]")
    if shape[0] not in {None, 1}:
        raise ModelError(f"{path}: it takes batches of {shape[0]} images; save it with a batch of any size, or of one")
    height, width = shape[1] or size, shape[2] or size
    if height is None or width is None:
        raise InputError(f"{path}: it takes images of any size: say which with --size, such as --size 48")
    fixed = (1, height, width, shape[3])
    with _hide_output():
        try:
            concrete = tf.function(function).get_concrete_function(tf.TensorSpec(fixed, tf.float32))
            # The converter freezes those variables alone that something holds which TensorFlow can track.
            owner = tf.Module()
            owner.variables_used = list(concrete.variables)
            converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], owner)
            model = bytes(converter.convert())
            # Of each range that models take; one of whole numbers would see only zeros in the first.
            images = np.random.default_rng(0).uniform(0, 1, (4, *fixed[1:])).astype(np.float32)
            images[2:] *= 255
            originals = [concrete(tf.constant(image[None])) for image in images]
        except Exception as error:  # TensorFlow has many ways to say that it cannot
            raise ModelError(f"{path}: TensorFlow cannot convert it to .tflite; {_DEBUG}") from error
    expected = [
        np.concatenate(list(map(np.asarray, each))) for each in zip(*map(tf.nest.flatten, originals), strict=True)
    ]
    if len({output.shape for output in expected}) == len(expected):  # otherwise outputs cannot be told apart by shape
        given = flatbuffer.run_all(model, images)
        for output, other in zip(sorted(expected, key=lambda output: output.shape), given, strict=True):
            difference = float(np.abs(output - other).max() / max(np.abs(output).max(), 1.0))
            if not difference < _TOLERANCE:
                raise ModelError(f"{path}: TensorFlow converted it to another model, {difference:.2g} apart; report it")
    return model


@contextlib.contextmanager
def _hide_output() -> Iterator[None]:
    """Hide the output and warnings of TensorFlow and Keras."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        yield
