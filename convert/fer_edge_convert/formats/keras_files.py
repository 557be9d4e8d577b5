"""Read the files of Keras 1, 2 and 3 as a float ``.tflite``.

A ``.keras`` file is a zip archive, an ``.h5`` file holds both description and weights, and older programs keep the
description in a JSON file beside the weights.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_edge.errors import InputError, ModelError, first_line, printable
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.limits import JSON_BYTES
from fer_edge.utils.zip_reader import open_zip
from fer_edge_convert.formats.keras_config import has_augmentation, refuse_code, simplify
from fer_edge_convert.formats.keras_layout import calculate_with_channels_last
from fer_edge_convert.formats.keras_one import is_by_theano, is_keras_one, modernize, turn_kernels
from fer_edge_convert.formats.nested import dictionaries
from fer_edge_convert.formats.outputs import choose_output
from fer_edge_convert.formats.tensorflow import DEBUG, convert_function, hide_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from fer_edge_convert.formats.request import ReadOptions

_BLOCK: Final = 1 << 20
_WEIGHTS: Final = (".weights.h5", ".h5", ".hdf5")


def read_keras_archive(path: Path, options: ReadOptions) -> tuple[str, bytes]:
    """Read a ``.keras`` file.

    Args:
        path: the file.
        options: what the user says about it.

    Returns:
        What it is, for people, and a float ``.tflite``.

    Raises:
        ModelError: it is damaged, or cannot be converted.
        InputError: an option is needed and was not given.
    """
    try:
        with open_zip(path, ModelError) as archive:
            texts = {member.name: member for member in archive.members}
            version = str(json.loads(texts["metadata.json"].read(JSON_BYTES))["keras_version"])
            config = simplify(json.loads(texts["config.json"].read(JSON_BYTES)))
    except Exception as error:  # a damaged archive can fail anywhere
        raise ModelError(f"{path}: damaged, or not a .keras file; save or copy the model again") from error
    custom = _load_custom(options.custom, config)
    if not options.unsafe:
        refuse_code(path, config, custom)

    def load(keras: Any) -> Any:  # noqa: ANN401 - either Keras
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "model.keras"
            _copy_archive(path, copy, json.dumps(config))
            return keras.models.load_model(str(copy), custom_objects=custom, compile=False)

    return f"Keras {printable(version)}", _convert(path, version, load, options)


def read_hdf5(path: Path, options: ReadOptions) -> tuple[str, bytes]:
    """Read an HDF5 file of any Keras, which may hold weights alone; see `read_keras_archive`."""
    import h5py  # noqa: PLC0415 - Keras brings it

    try:
        with h5py.File(path) as file:
            version, text = (_text(file.attrs.get(name)) for name in ("keras_version", "model_config"))
            is_empty = not len(file) and text == ""
        config = json.loads(text) if text else None
    except Exception as error:  # a damaged file can fail anywhere
        raise ModelError(f"{path}: damaged, or not an HDF5 file; save or copy the model again") from error
    if is_empty:
        raise ModelError(f"{path}: an HDF5 file without a model in it; save or copy the model again")
    if config is not None:
        refuse_architecture(path, options)
        return f"Keras {version or '1'}, HDF5", _load_parts(path, path, config, version, options, by_layer_name=True)
    return read_weights(path, options)


def read_description(path: Path, options: ReadOptions) -> Any:  # noqa: ANN401 - JSON
    """Return the description of the layers in an HDF5 file, or in the JSON file that belongs to it; None without one.

    Args:
        path: either file.
        options: what the user says about it.
    """
    import h5py  # noqa: PLC0415 - Keras brings it

    described: Path | None = path
    if path.suffix != ".json":
        with h5py.File(path) as file:
            if text := _text(file.attrs.get("model_config")):
                return json.loads(text)
        described = Path(options.architecture) if options.architecture else _find_architecture(path)
    return _parse_description(read_bytes(described, JSON_BYTES, ModelError)) if described else None


def find_weights(description: Path) -> Path:
    """Return the weights beside the JSON file that describes their layers: of the same name, or the only ones.

    Raises:
        ModelError: there are none, or several.
    """
    stem = description.name.removesuffix(".json")
    found = [file for suffix in _WEIGHTS if (file := description.with_name(stem + suffix)).is_file()]
    if not found:
        others = sorted({*description.parent.glob("*.h5"), *description.parent.glob("*.hdf5")})
        found = others if len(others) == 1 else []
    if not found:
        raise ModelError(
            f"{description}: it describes layers and holds no weights; give the file of the weights:"
            f" fer-edge convert WEIGHTS.h5 --architecture {description}"
        )
    return found[0]


def find_parts(path: Path, architecture: Path | None) -> tuple[Path, Path | None]:
    """Return the weights of a model and the JSON file that describes their layers.

    Args:
        path: a ``.keras``, HDF5 or JSON file that has been read; see `read_keras_archive`.
        architecture: the JSON file that the user gave.

    Returns:
        The file itself and None, if it is a whole model.
    """
    import h5py  # noqa: PLC0415 - Keras brings it

    if path.suffix == ".json":
        return find_weights(path), path
    if not h5py.is_hdf5(path):
        return path, None
    with h5py.File(path) as file:
        is_whole = "model_config" in file.attrs
    return path, None if is_whole else architecture or _find_architecture(path)


def refuse_architecture(path: Path, options: ReadOptions) -> None:
    """Refuse a description of layers for a model that has them.

    Raises:
        InputError: there is one.
    """
    if options.architecture:
        raise InputError(
            f"--architecture {options.architecture}: {path} holds its layers already; leave the option out"
        )


def read_weights(path: Path, options: ReadOptions) -> tuple[str, bytes]:
    """Read weights whose layers a JSON file describes; see `read_keras_archive`."""
    import h5py  # noqa: PLC0415 - Keras brings it

    architecture = Path(options.architecture) if options.architecture else _find_architecture(path)
    if architecture is None:
        raise ModelError(
            f"{path}: it holds weights without their layers; give the JSON file that describes them,"
            ' --architecture FILE.json, or save the whole model: model.save("model.keras")'
        )
    content = read_bytes(architecture, JSON_BYTES, ModelError)
    try:
        config = _parse_description(content)
        version = _version_of(config)
    except Exception as error:  # whatever the file holds
        raise ModelError(f"{architecture}: not a model's description, as model.to_json() writes it") from error
    with h5py.File(path) as file:
        by_layer_name = "layer_names" in file.attrs or "model_weights" in file
    kind = f"Keras {version}, layers of {printable(architecture.name)}"
    return kind, _load_parts(path, architecture, config, version, options, by_layer_name=by_layer_name)


def _load_parts(
    path: Path, described: Path, config: object, version: str, options: ReadOptions, *, by_layer_name: bool
) -> bytes:
    """Build the described layers, and load weights into them."""
    try:
        simple = simplify(config if isinstance(config, dict) else {})
    except RecursionError as error:
        raise ModelError(f"{described}: its description is nested too deeply") from error
    custom = _load_custom(options.custom, simple)
    _refuse_unknown_layers(described, simple, options.custom, custom)
    is_turned = is_by_theano(simple, _read_backend(path))
    if is_keras_one(simple):
        simple = modernize(simple)
    if not options.unsafe:
        refuse_code(described, simple, custom)

    def load_whole(keras: Any) -> Any:  # noqa: ANN401 - Keras 3
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copy(path, Path(folder) / "model.h5"))
            _replace_description(copy, json.dumps(simple))
            return keras.models.load_model(str(copy), custom_objects=custom, compile=False)

    def load(keras: Any) -> Any:  # noqa: ANN401 - either Keras
        model = keras.models.model_from_json(json.dumps(simple), custom_objects=custom)
        try:
            with tempfile.TemporaryDirectory() as folder:
                _load_weights(model, path, Path(folder), config, by_layer_name=by_layer_name)
        except Exception as error:
            if path == described:
                raise
            raise ModelError(
                f"{path}: its weights do not fit the layers that {described} describes; give the JSON file that belongs"
                " to them, --architecture FILE.json"
            ) from error
        if is_turned:
            turn_kernels(model)
        return model

    # The description in an HDF5 file of Keras 3 is in Keras 2's form, which only its loader of whole files reads.
    is_whole = path == described and version.startswith("3")
    return _convert(path, version, load_whole if is_whole else load, options)


def _load_weights(model: Any, path: Path, folder: Path, config: object, *, by_layer_name: bool) -> None:  # noqa: ANN401
    """Load weights into a model of either Keras; a copy of the file may be made in the folder."""
    file = path
    if is_keras_one(config):
        file = _copy_as_keras_one(path, folder)
    elif not by_layer_name and not path.name.endswith(".weights.h5"):  # Keras goes by the name
        file = folder / "model.weights.h5"
        file.symlink_to(path.resolve())
    try:
        model.load_weights(str(file))
    except ValueError:
        if not (by_layer_name and has_augmentation(config)):
            raise
        # Layers that augment have a state of their own in some versions, which no layer here takes.
        model.load_weights(str(file), by_name=True)


def _read_backend(path: Path) -> str:
    """Return the name of what Keras ran on when it wrote an HDF5 file; empty if that does not say so."""
    import h5py  # noqa: PLC0415 - Keras brings it

    with h5py.File(path) as file:
        return _text(file.get("model_weights", file).attrs.get("backend"))


def _copy_as_keras_one(path: Path, folder: Path) -> Path:
    """Copy an HDF5 file, with the version of Keras by which Keras 2 knows that it has to reorder kernels."""
    import h5py  # noqa: PLC0415 - Keras brings it

    copy = Path(shutil.copy(path, folder / "model.h5"))
    with h5py.File(copy, "r+") as file:
        file.get("model_weights", file).attrs["keras_version"] = "1"
    return copy


def _replace_description(path: Path, config: str) -> None:
    import h5py  # noqa: PLC0415 - Keras brings it

    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = config


def _find_architecture(weights: Path) -> Path | None:
    """Find the JSON file with the description beside the weights: of the same name, or the only one."""
    stem = weights.name
    for suffix in _WEIGHTS:
        stem = stem.removesuffix(suffix)
    candidates = [weights.with_name(f"{stem}.json"), *sorted(weights.parent.glob("*.json"))]
    described = [file for file in dict.fromkeys(candidates) if file.is_file() and _describes_layers(file)]
    if described and described[0].name == f"{stem}.json":
        return described[0]
    return described[0] if len(described) == 1 else None


def _describes_layers(path: Path) -> bool:
    with contextlib.suppress(ModelError, ValueError, RecursionError):
        config = _parse_description(read_bytes(path, JSON_BYTES, ModelError))
        return isinstance(config, dict) and {"class_name", "config"} <= config.keys()
    return False


def _parse_description(content: bytes) -> Any:  # noqa: ANN401 - JSON
    """Return a description, also one that was dumped twice, as ``json.dump(model.to_json(), file)`` does."""
    config = json.loads(content)
    return json.loads(config) if isinstance(config, str) else config


def _version_of(config: dict[str, Any]) -> str:
    """Return the version of Keras that wrote a description; Keras 3 leaves it out."""
    if not isinstance(config, dict) or not {"class_name", "config"} <= config.keys():
        raise ValueError
    return printable(str(config.get("keras_version") or ("3" if "module" in config else "2")))


def _copy_archive(path: Path, copy: Path, config: str) -> None:
    """Copy a ``.keras`` file with another description."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
        for member in source.infolist():
            if member.filename == "config.json":
                target.writestr("config.json", config)
                continue
            with source.open(member) as file, target.open(member.filename, "w", force_zip64=True) as out:
                while block := file.read(_BLOCK):
                    out.write(block)


def _text(value: object) -> str:
    """Return an attribute of an HDF5 file, which old ones hold as bytes; empty where there is none."""
    return value.decode() if isinstance(value, bytes) else "" if value is None else str(value)


def _load_custom(name: str | None, config: object) -> dict[str, Any]:
    """Run the user's own file, and return the classes and functions that it defines, by the names in the description.

    Keras calls a class that was registered as it was saved ``package>Class``.
    """
    if name is None:
        return {}
    path = Path(name)
    if not path.is_file():
        raise InputError(f"--custom {path}: no such file")
    spec = importlib.util.spec_from_file_location("fer_edge_custom_layers", path)
    if spec is None or spec.loader is None:
        raise InputError(f"--custom {path}: not a Python file; give one whose name ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        with hide_output():
            spec.loader.exec_module(module)
    except Exception as error:  # it is the user's program
        raise InputError(f"--custom {path}: it fails ({type(error).__name__}: {first_line(error)})") from error
    defined = {
        name: value
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__
    }
    wanted = {str(one.get(key)) for one in dictionaries(config) for key in ("class_name", "registered_name")}
    registered = {name: name.rpartition(">")[2] for name in wanted if ">" in name}
    return defined | {name: defined[bare] for name, bare in registered.items() if bare in defined}


def _convert(path: Path, version: str, load: Callable[[Any], Any], options: ReadOptions) -> bytes:
    """Load with the Keras of the file's time, because Keras 3 reads few files of Keras 2, and convert."""
    with hide_output():
        try:
            if version.startswith("3"):
                import keras  # noqa: PLC0415 - takes seconds, and is not needed for a .tflite

                if options.unsafe:
                    keras.config.enable_unsafe_deserialization()
                model = load(keras)
            else:
                import tf_keras  # noqa: PLC0415 - likewise
                from tf_keras.src.saving.serialization_lib import SafeModeScope  # noqa: PLC0415

                # Its loader of HDF5 files asks for the mode, but has no argument for it.
                with SafeModeScope(safe_mode=not options.unsafe):
                    model = load(tf_keras)
            shapes = [tuple(one.shape) for one in model.inputs]
            names = getattr(model, "output_names", None) or ["scores"]  # a Sequential of Keras 3 has no names
            outputs = dict(zip(names, (tuple(one.shape) for one in model.outputs), strict=True))
        except ModelError:
            raise
        except Exception as error:  # a damaged file can fail anywhere in Keras
            raise ModelError(f"{path}: {_reason(error, options.custom)}; {DEBUG}") from error
    if len(shapes) != 1:
        raise ModelError(f"{path}: it has {len(shapes)} inputs; a classifier takes one image")
    if options.every_output:
        return convert_function(path, lambda image: model(image, training=False), shapes[0], options)
    chosen = list(outputs).index(choose_output(path, outputs, options))

    def classify(image: Any) -> Any:  # noqa: ANN401 - a tensor of either Keras
        result = model(image, training=False)
        return list(result.values() if isinstance(result, dict) else result)[chosen] if len(outputs) > 1 else result

    try:
        return convert_function(path, classify, shapes[0], options)
    except ModelError:
        if not calculate_with_channels_last(model):
            raise
    return convert_function(path, classify, shapes[0], options)


def _reason(error: Exception, custom: str | None) -> str:
    """Say why Keras cannot load a model; the cause is the last of the lines that it wraps around it."""
    text = str(error)
    if unknown := re.search(r"(?:Could not locate class|Unknown layer:|Unknown object:) '(?:\w+>)?(\w+)'", text):
        return _unknown_layer(unknown[1], custom)
    causes = re.findall(r"Exception encountered: (.+)", text)
    return f"Keras cannot load it ({(causes[-1] if causes else first_line(error))[:300]})"


def _refuse_unknown_layers(path: Path, config: object, file: str | None, custom: dict[str, Any]) -> None:
    """Refuse registered classes that nobody defines; Keras 2 would make their names themselves layers."""
    for one in dictionaries(config):
        if ">" in (name := str(one.get("class_name"))) and name not in custom:
            raise ModelError(f"{path}: {_unknown_layer(name.rpartition('>')[2], file)}")


def _unknown_layer(name: str, custom: str | None) -> str:
    known = f"neither Keras nor {custom} defines" if custom else "Keras does not know"
    return (
        f"it has a layer {printable(name)}, which {known}; give the file that defines it, --custom FILE.py, or save the"
        ' model where it is defined with model.export("folder") and convert that folder'
    )
