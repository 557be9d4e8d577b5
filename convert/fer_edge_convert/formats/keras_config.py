"""The JSON description of a Keras model: what it says, what in it is code, and what newer versions refuse.

Keras writes the layers of a model as nested dictionaries with ``class_name`` and ``config``.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from fer_edge.errors import ModelError, printable
from fer_edge_convert.formats.nested import dictionaries

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_MODULES: Final = {"builtins", "keras", "tf_keras", "numpy"}  # whose classes may be made by name
_OPERATIONS: Final = (
    *("math.", "nn.", "__operators__.", "image.", "linalg.", "cast", "clip_by_value", "concat", "convert_to_tensor"),
    *("expand_dims", "fill", "identity", "ones", "pad", "reshape", "repeat", "shape", "slice", "split", "squeeze"),
    *("stack", "strided_slice", "tile", "transpose", "unstack", "zeros"),
)
# The same operations by TensorFlow's own names, as TensorFlow 2.0 to 2.3 stored them.
_GRAPH_OPERATIONS: Final = {
    *("Abs", "Add", "AddV2", "AvgPool", "BiasAdd", "Cast", "ConcatV2", "Exp", "ExpandDims", "Identity", "Log", "Max"),
    *("Maximum", "Mean", "Min", "Minimum", "Mul", "Neg", "Pack", "Pad", "Pow", "RealDiv", "Relu", "Relu6", "Reshape"),
    *("ResizeBilinear", "ResizeNearestNeighbor", "ReverseV2", "Rsqrt", "Shape", "Sigmoid", "Softmax", "Softplus"),
    *("Split", "Sqrt", "Square", "Squeeze", "StridedSlice", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Unpack"),
}
_TRUST: Final = "; --unsafe runs it, if you trust who made it"
_TRAINING_ONLY: Final = ("compile_config", "training_config")
# Layers that change values in training and do nothing afterwards, with those of the package efficientnet of 2019.
_AUGMENTATION: Final = {
    *("DropConnect", "FixedDropout"),
    *("AugMix", "CutMix", "GaussianDropout", "GaussianNoise", "MixUp", "RandAugment", "RandomBrightness"),
    *("RandomColorDegeneration", "RandomColorJitter", "RandomContrast", "RandomElasticTransform", "RandomErasing"),
    *("RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHeight", "RandomHue", "RandomInvert"),
    *("RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation", "RandomSharpness"),
    *("RandomShear", "RandomTranslation", "RandomWidth", "RandomZoom"),
}
_MIXED: Final = {"mixed_float16", "mixed_bfloat16", "float16", "bfloat16"}
_POLICIES: Final = {"DTypePolicy", "FloatDTypePolicy", "Policy", "PolicyV1"}


def refuse_code(path: Path, config: object, known: Collection[str] = ()) -> None:
    """Refuse a model whose description holds what would run as code while it is loaded.

    A Lambda layer, and a wrapper with a function of its own, are pickled functions; a class of somebody's module is
    imported; and an operation by name may be any of TensorFlow's, those that write files among them.

    Args:
        path: the model, for errors.
        config: its description.
        known: names of classes and functions that the user allows.

    Raises:
        ModelError: it holds code.
    """
    for one in dictionaries(config):
        name, module = one.get("class_name"), one.get("module")
        lambdas = [key for key, value in one.items() if key.endswith("_type") and value == "lambda"]
        if name in {"Lambda", "__lambda__"} or lambdas:
            raise ModelError(f"{path}: it has a Lambda layer, which is code that loading would run{_TRUST}")
        if name and module and name not in known and str(module).partition(".")[0] not in _MODULES:
            raise ModelError(
                f"{path}: it has a {name} of {module}, which is code that loading would run; --custom FILE.py gives a"
                f" file that defines it{_TRUST}"
            )
        if "node_def" in one and (operation := _operation_of(one["node_def"])) not in _GRAPH_OPERATIONS:
            raise ModelError(f"{path}: it calls {printable(operation)}, which is code that loading would run{_TRUST}")
        function = one.get("function")
        if isinstance(function, str) and function not in known and not function.startswith(_OPERATIONS):
            raise ModelError(f"{path}: it calls {function}, which is code that loading would run{_TRUST}")


def _operation_of(node: object) -> str:
    """Return the name of the operation in a node of a graph, which is JSON as text or as dictionary."""
    if isinstance(node, str):
        with contextlib.suppress(ValueError):
            node = json.loads(node)
    return str(node.get("op", "")) if isinstance(node, dict) else "an operation of TensorFlow"


def simplify(config: dict[str, Any]) -> dict[str, Any]:
    """Return the description for use alone, in float32, in a form that every version of Keras can read.

    What is for training alone is left out: losses, metrics and the layers that augment images, whose arguments differ
    from version to version.
    """
    result: dict[str, Any] = _simplify({key: value for key, value in config.items() if key not in _TRAINING_ONLY})
    return result


def _simplify(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return [_simplify(one) for one in value]
    if not isinstance(value, dict):
        return value
    name, inner = value.get("class_name"), value.get("config")
    if name in _POLICIES and isinstance(inner, dict):
        if inner.get("name") in _MIXED:
            return "float32"
        return value
    if name in _AUGMENTATION and isinstance(inner, dict):
        return _identity(value, inner)
    return {
        key: "float32" if key == "dtype" and isinstance(one, str) and one in _MIXED else _simplify(one)
        for key, one in value.items()
    }


def _identity(layer: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return a layer that does nothing, in place of one that augments."""
    kept = {key: config[key] for key in ("name", "batch_input_shape", "batch_shape", "input_shape") if key in config}
    rest: dict[str, Any] = {key: layer[key] for key in ("build_config", "inbound_nodes", "name") if key in layer}
    made: dict[str, Any] = {"class_name": "Activation", "config": {**kept, "activation": "linear"}, **rest}
    if "module" in layer:
        made |= {"module": "keras.layers", "registered_name": None}
    return made


def has_augmentation(config: object) -> bool:
    """Return whether layers augment images."""
    return any(one.get("class_name") in _AUGMENTATION for one in dictionaries(config))
