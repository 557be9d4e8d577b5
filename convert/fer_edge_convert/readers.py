"""Read models of other forms as a float ``.tflite``, through TensorFlow."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_edge.errors import InputError, ModelError, printable
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.limits import JSON_BYTES
from fer_edge.utils.zip_reader import open_zip
from fer_edge_convert import flatbuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fer_edge.utils.archive_member import ArchiveMember

_MODULES: Final = {"builtins", "keras", "tf_keras", "numpy"}  # whose classes may be made by name
_OPERATIONS: Final = (
    *("math.", "nn.", "__operators__.", "image.resize", "cast", "clip_by_value", "concat", "expand_dims", "identity"),
    *("pad", "reshape", "split", "squeeze", "stack", "tile", "transpose"),
)
_TRUST: Final = "; --unsafe runs it, if you trust who made it"
TOLERANCE: Final = 1e-3  # of probabilities, between TensorFlow and what it was converted to
_BLOCK: Final = 1 << 20
_DEBUG: Final = "`fer-edge --debug convert ...` shows why"


def read_keras_archive(path: Path, size: int | None, *, unsafe: bool) -> tuple[str, bytes]:
    """Read a ``.keras`` file.

    Args:
        path: the file.
        size: side of the images, for a model that takes any.
        unsafe: whether code in the file may be run.

    Returns:
        What it is, for people, and a float ``.tflite``.

    Raises:
        ModelError: it is damaged, or cannot be converted.
        InputError: the size is needed and not given.
    """
    try:
        with open_zip(path, ModelError) as archive:
            _check_members(archive.members)
            texts = {member.name: member for member in archive.members}
            version = str(json.loads(texts["metadata.json"].read(JSON_BYTES))["keras_version"])
            config = json.loads(texts["config.json"].read(JSON_BYTES))
    except Exception as error:  # a damaged archive can fail anywhere
        raise ModelError(f"{path}: damaged, or not a .keras file; save or copy the model again") from error
    _refuse_code(path, config, unsafe=unsafe)
    return f"Keras {printable(version)}", _by_keras(path, version, size, unsafe=unsafe)


def _check_members(members: Sequence[ArchiveMember]) -> None:
    """Unpack each member once, because Keras reads them whole: none may be more than the directory says."""
    for member in members:
        if member.is_bomb:
            raise UnpackError(f"{member.name} would unpack to {member.size} bytes")
        with member.open() as file:
            while file.read(_BLOCK):
                pass


def read_hdf5(path: Path, size: int | None, *, unsafe: bool) -> tuple[str, bytes]:
    """Read an HDF5 file of Keras 2 or before; see `read_keras_archive`."""
    import h5py  # noqa: PLC0415 - Keras brings it

    try:
        with h5py.File(path) as file:
            version, text = (_text(file.attrs.get(name)) for name in ("keras_version", "model_config"))
        config = json.loads(text) if text else None
    except Exception as error:  # a damaged file can fail anywhere
        raise ModelError(f"{path}: damaged, or not an HDF5 file; save or copy the model again") from error
    if config is None:
        raise ModelError(
            f"{path}: it holds weights without their model; build the model, load them, and save it whole:"
            ' model.save("model.keras")'
        )
    _refuse_code(path, config, unsafe=unsafe)
    return f"Keras {version or '1'}, HDF5", _by_keras(path, version, size, unsafe=unsafe)


def _text(value: object) -> str:
    """Return an attribute of an HDF5 file, which old ones hold as bytes; empty where there is none."""
    return value.decode() if isinstance(value, bytes) else "" if value is None else str(value)


def _refuse_code(path: Path, config: object, *, unsafe: bool) -> None:
    """Refuse a model whose description holds what would run as code while it is loaded.

    A Lambda layer, and a wrapper with a function of its own, are pickled functions; a class of somebody's module is
    imported; and an operation by name may be any of TensorFlow's, those that write files among them.
    """
    if unsafe:
        return
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        if not isinstance(one, dict):
            continue
        waiting += one.values()
        name, module = one.get("class_name"), one.get("module")
        lambdas = [key for key, value in one.items() if key.endswith("_type") and value == "lambda"]
        if name in {"Lambda", "__lambda__"} or lambdas:
            raise ModelError(f"{path}: it has a Lambda layer, which is code that loading would run{_TRUST}")
        if name and module and str(module).partition(".")[0] not in _MODULES:
            raise ModelError(f"{path}: it has a {name} of {module}, which is code that loading would run{_TRUST}")
        function = one.get("function")
        if isinstance(function, str) and not function.startswith(_OPERATIONS):
            raise ModelError(f"{path}: it calls {function}, which is code that loading would run{_TRUST}")


def _by_keras(path: Path, version: str, size: int | None, *, unsafe: bool) -> bytes:
    """Load with the Keras of the file's time: Keras 3 reads few files of Keras 2."""
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever it was trained with
    with _hide_output():
        try:
            if version.startswith("3"):
                import keras  # noqa: PLC0415 - seconds, and not needed for a .tflite

                model = keras.models.load_model(str(path), compile=False, safe_mode=not unsafe)
            else:
                import tf_keras  # noqa: PLC0415 - likewise
                from tf_keras.src.saving.serialization_lib import SafeModeScope  # noqa: PLC0415

                # Its loader of HDF5 files asks for the mode, but has no argument for it.
                with SafeModeScope(safe_mode=not unsafe):
                    model = tf_keras.models.load_model(str(path), compile=False)
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
    """Read a SavedModel folder as a float ``.tflite``; see `read_keras_archive`."""
    if not (path / "saved_model.pb").is_file():
        raise ModelError(f"{path}: not a SavedModel folder, it has no saved_model.pb")
    with _hide_output():
        import tensorflow as tf  # noqa: PLC0415 - seconds, and not needed for a .tflite

        try:
            loaded = tf.saved_model.load(str(path))
            signature: Any = loaded.signatures.get("serving_default") or next(iter(loaded.signatures.values()))
            taken = {name: tuple(spec.shape) for name, spec in signature.structured_input_signature[1].items()}
        except Exception as error:  # TensorFlow has many ways to say that it cannot
            raise ModelError(
                f"{path}: TensorFlow cannot load it, or nothing in it can be called; save it with model.export;"
                f" {_DEBUG}"
            ) from error
    if len(taken) != 1:
        raise ModelError(f"{path}: it has {len(taken)} inputs ({', '.join(taken)}); a classifier takes one image")
    ((name, shape),) = taken.items()
    return _convert_function(path, lambda x: signature(**{name: x}), shape, size)


def _convert_function(
    path: Path, function: Callable[[Any], Any], shape: tuple[int | None, ...], size: int | None
) -> bytes:
    """Return a float ``.tflite`` of a function of images, checked against it."""
    import tensorflow as tf  # noqa: PLC0415 - seconds, and not needed for a .tflite

    if len(shape) != 4 or shape[3] is None:
        raise ModelError(f"{path}: it takes {list(shape)}; a classifier takes images, [n, height, width, channels]")
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
            images = np.random.default_rng(0).uniform(0, 1, (4, *fixed[1:])).astype(np.float32)
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
            if not difference < TOLERANCE:
                raise ModelError(f"{path}: TensorFlow converted it to another model, {difference:.2g} apart; report it")
    return model


@contextlib.contextmanager
def _hide_output() -> Iterator[None]:
    """Hide the output and warnings of TensorFlow and Keras."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        yield
