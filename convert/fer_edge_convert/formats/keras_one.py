"""Bring files of Keras 1 and of Theano to what Keras 2 reads.

Keras 1 (2015 to 2017) had other names for layers and their arguments. Theano, which Keras ran on before TensorFlow,
turned kernels by half a circle before it multiplied with them, as mathematicians define a convolution.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from fer_edge_convert.formats.nested import dictionaries

_ONLY_ONE: Final = {"W_regularizer", "border_mode", "nb_filter", "output_dim"}  # words that Keras 2 does not have
_LAYERS: Final = {
    "AtrousConvolution2D": "Conv2D",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Deconvolution2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
}
_ARGUMENTS: Final = {
    "atrous_rate": "dilation_rate",
    "bias": "use_bias",
    "border_mode": "padding",
    "nb_filter": "filters",
    "output_dim": "units",
    "p": "rate",
    "sigma": "stddev",
    "subsample": "strides",
}
_MERGES: Final = {"ave": "Average", "concat": "Concatenate", "max": "Maximum", "mul": "Multiply", "sum": "Add"}
_SILENT: Final = {"Cropping2D", "UpSampling2D", "ZeroPadding2D"}  # layers that have an order of axes and may not say it
_ORDERS: Final = {"th": "channels_first", "tf": "channels_last"}
# Arguments that do nothing after training, in forms of their own. Weights replace what initializers give.
_DROPPED: Final = {
    *("W_constraint", "W_learning_rate_multiplier", "W_regularizer", "activity_regularizer", "b_constraint"),
    *("b_regularizer", "beta_init", "beta_regularizer", "gamma_init", "gamma_regularizer", "init", "input_dim"),
    *("input_dtype", "input_length", "mode", "weights"),
}
_TURNED: Final = {"Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose"}


def is_keras_one(config: object) -> bool:
    """Return whether a description is of Keras 1, by its words; the first ones do not say their version."""
    return any(_ONLY_ONE & one.keys() for one in dictionaries(config))


def is_by_theano(config: dict[str, Any], backend: str) -> bool:
    """Return whether Theano trained a model.

    Args:
        config: its description.
        backend: what its weights say. Keras 1 says nothing; with channels first, as only Theano wanted them, it is
            taken for Theano.
    """
    backend = backend or str(config.get("backend", ""))
    return backend == "theano" or (not backend and any(one.get("dim_ordering") == "th" for one in dictionaries(config)))


def modernize(config: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the description of a model of Keras 1 in the words of Keras 2."""
    orders = [str(one["dim_ordering"]) for one in dictionaries(config) if "dim_ordering" in one]
    return _modernize(config, orders[0] if orders else "tf")


def _modernize(config: Any, usual: str) -> Any:  # noqa: ANN401 - JSON
    """Return a part of the description in the words of Keras 2, with an order of axes where a layer says none."""
    if isinstance(config, list):
        return [_modernize(one, usual) for one in config]
    if not isinstance(config, dict):
        return config
    old = config.get("config")
    if "class_name" not in config or not isinstance(old, dict) or "layers" in old:
        return {key: _modernize(value, usual) for key, value in config.items()}
    name = str(config["class_name"])
    if name == "Merge":
        return {**config, **_merge(old)}
    if name == "BatchNormalization" and old.get("mode"):  # statistics of the image, not of training
        name = f"BatchNormalization_mode_{old['mode']}"
    new = {_ARGUMENTS.get(key, key): value for key, value in old.items() if key not in _DROPPED}
    if "dim_ordering" in new or name in _SILENT:
        new["data_format"] = _ORDERS.get(str(new.pop("dim_ordering", usual)), "channels_last")
    if {"nb_row", "nb_col"} <= new.keys():
        new["kernel_size"] = [new.pop("nb_row"), new.pop("nb_col")]
    if "filter_length" in new:
        new["kernel_size"] = new.pop("filter_length")
    return {**config, "class_name": _LAYERS.get(name, name), "config": new}


def _merge(old: dict[str, Any]) -> dict[str, Any]:
    """Return name and arguments of the layer that merges in a way; of an unknown way there is none."""
    way = old.get("mode")
    new = {"name": old.get("name")} | ({"axis": old.get("concat_axis", -1)} if way == "concat" else {})
    return {"class_name": _MERGES.get(str(way), f"Merge_{way}"), "config": new}


def turn_kernels(model: Any) -> None:  # noqa: ANN401 - a model of Keras 2
    """Turn the kernels of a model that Theano trained by half a circle."""
    for layer in model.submodules:
        if type(layer).__name__ in _TURNED:
            kernel, *rest = layer.get_weights()
            layer.set_weights([np.flip(kernel, tuple(range(kernel.ndim - 2))), *rest])
