"""Make models as other people make them. Run as a program, it keeps TensorFlow's warnings out of the tests.

``python -m tests.convert.foreign_models FOLDER`` needs Keras 3 and tf-keras (Keras 2). With Keras 2.15 in
Python 3.11 it makes the files of ``tests/data/keras2``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


def sequential(keras: Any) -> Any:  # noqa: ANN401 - either Keras
    """Return a narrow version of the network that many notebooks train on FER-2013."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Conv2D(8, 3, activation="relu", input_shape=(48, 48, 1)),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Conv2D(8, 3, activation="relu", padding="same"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(4),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(7, activation="softmax"),
        ]
    )


def xception(keras: Any) -> Any:  # noqa: ANN401
    """Return a small mini-Xception (Arriaga et al. 2017, arXiv:1710.07557): separable convolutions, residual adds."""
    layers = keras.layers
    image = keras.Input((64, 64, 1))
    x = layers.Conv2D(8, 3, use_bias=False)(image)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    for filters in (16, 24):
        shortcut = layers.Conv2D(filters, 1, strides=2, padding="same", use_bias=False)(x)
        shortcut = layers.BatchNormalization()(shortcut)
        x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D(3, 2, padding="same")(layers.BatchNormalization()(x))
        x = layers.Add()([x, shortcut])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(7, 3, padding="same")(x))
    return keras.Model(image, layers.Activation("softmax")(x))


def mobilenet(keras: Any) -> Any:  # noqa: ANN401
    """Return a MobileNet of 3 channels; Keras 2 saves its depthwise layers with an argument that Keras 3 rejects."""
    return keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=7)


def write_parts(keras: Any, tf_keras: Any, out: Path) -> None:  # noqa: ANN401
    """Write models in the less usual forms in which people publish them."""
    for name, package in (("two", tf_keras), ("three", keras)):
        folder = out / f"parts-{name}"
        folder.mkdir()
        model = sequential(package)
        model.save(folder / "whole.keras")
        (folder / "fer.json").write_text(model.to_json())
        model.save_weights(folder / ("fer.h5" if package is tf_keras else "fer.weights.h5"))
    layers = keras.layers
    narrow = [
        layers.Conv2D(4, 3, strides=4, activation="relu"),
        layers.Flatten(),
        layers.Dense(7, activation="softmax"),
    ]
    augmented = [keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)]), *narrow]
    keras.Sequential([keras.Input((48, 48, 1)), *augmented]).save(out / "augmented.keras")
    keras.Sequential(
        [
            keras.Input((48, 48, 1)),
            *(layers.Conv2D(4, 3, strides=2), layers.LeakyReLU(0.1), layers.Conv2D(4, 3, activation="elu")),
            *(layers.Conv2D(4, 3), layers.PReLU("uniform", shared_axes=(1, 2))),
            *(layers.Conv2D(4, 3, activation="selu"), layers.Conv2D(4, 3), layers.ELU(0.5)),
            layers.Conv2D(4, 3, activation="hard_silu"),
            *(layers.Flatten(), layers.Dense(7, activation="softmax")),
        ]
    ).save(out / "activations.keras")
    keras.Sequential(
        [
            keras.Input((48, 48, 1)),
            *(layers.Conv2D(4, 3, strides=4, activation="hard_shrink", name="shrunk"), layers.Flatten()),
            layers.Dense(7, activation="softmax"),
        ]
    ).save(out / "shrunk.keras")
    # A grey image in three channels, as people put before a network of colour images.
    grey = keras.Input((48, 48, 1))
    x = layers.Conv2D(4, 3, strides=4)(keras.ops.tile(grey, (1, 1, 1, 3)))
    x = layers.Flatten()(keras.ops.tile(layers.AveragePooling2D(2)(x), (1, 2, 3, 2)))
    keras.Model(grey, layers.Dense(7, activation="softmax")(x)).save(out / "tiled.keras")
    curves = [layers.Conv2D(8, 3, strides=2, activation=name) for name in ("celu", "mish", "softplus", "softsign")]
    keras.Sequential([keras.Input((48, 48, 1)), *curves, layers.Flatten(), layers.Dense(7, activation="softmax")]).save(
        out / "curves.keras"
    )
    for package, kind in ((keras, "keras"), (tf_keras, "h5")):
        _save_own_layer(package, out / f"own-layer.{kind}")
    for name, package in (("channels-first.keras", keras), ("channels-first.h5", tf_keras)):
        _save_channels_first(package, out / name)
    keras.mixed_precision.set_global_policy("mixed_float16")
    half = [keras.Input((48, 48, 1)), layers.Conv2D(4, 3, strides=4), layers.Flatten(), layers.Dense(7)]
    keras.Sequential([*half, layers.Softmax(dtype="float32")]).save(out / "mixed.keras")
    keras.mixed_precision.set_global_policy("float32")
    for name, shape in (("flat", (2304,)), ("no-channels", (48, 48)), ("four-channels", (48, 48, 4))):
        keras.Sequential(
            [keras.Input(shape), layers.Flatten(), layers.Dense(7, activation="softmax"), layers.Reshape((1, 1, 7))]
        ).save(out / f"{name}.keras")
    image = keras.Input((48, 48, 1))
    flat = layers.Flatten()(layers.AveragePooling2D(6)(image))
    sigmoids = layers.Dense(7, activation="sigmoid")(flat)
    keras.Model(image, sigmoids).save(out / "sigmoids.keras")
    keras.Model(image, layers.Dense(2, activation="tanh")(flat)).save(out / "valence.keras")


def _save_own_layer(keras: Any, path: Path) -> None:  # noqa: ANN401
    """Save a network with a layer of somebody's own, which was registered as Keras advises."""

    @keras.saving.register_keras_serializable(package="mine")
    class Twice(keras.layers.Layer):  # type: ignore[misc]
        def call(self, values: Any) -> Any:  # noqa: ANN401
            return values * 2

    layers = keras.layers
    image = keras.Input((48, 48, 1))
    flat = layers.Flatten()(Twice()(layers.AveragePooling2D(6)(image)))
    keras.Model(image, layers.Dense(7, activation="softmax")(flat)).save(path)


def _save_channels_first(keras: Any, path: Path) -> None:  # noqa: ANN401
    """Save a network as people trained them with Theano: images of shape (channels, height, width)."""
    layers, first = keras.layers, {"data_format": "channels_first"}
    image = keras.Input((1, 48, 48))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", **first)(image)
    x = layers.MaxPooling2D(4, **first)(layers.BatchNormalization(axis=1)(x))
    x = layers.SeparableConv2D(8, 3, activation="relu", **first)(x)
    flat = layers.Flatten(**first)(layers.AveragePooling2D(2, **first)(x))
    scores = layers.Dense(7, activation="softmax")(flat)
    keras.Model(image, scores).save(path)


def _save_spread(keras: Any, path: Path) -> None:  # noqa: ANN401
    """Save a network with a dense layer whose outputs differ thirtyfold in the size of their weights."""
    layers = keras.layers
    dense = layers.Dense(32, activation="relu")
    end = [layers.AveragePooling2D(4), layers.Flatten(), dense, layers.Dense(7, activation="softmax")]
    network = keras.Sequential([keras.Input((48, 48, 1)), *end])
    weights, biases = dense.get_weights()
    dense.set_weights([weights * np.geomspace(0.1, 3, 32, dtype=np.float32), biases])
    network.save(path)


def main(out: Path) -> None:
    """Write all models into a folder."""
    import keras  # noqa: PLC0415

    out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(1)
    if keras.__version__.startswith("2"):
        sequential(keras).save(out / "sequential.h5")
        xception(keras).save(out / "xception.h5")
        sequential(keras).save(out / "sequential-2.keras")
        return
    import tf_keras  # noqa: PLC0415

    from tests.convert import face_networks  # noqa: PLC0415 - Keras 3 alone

    face_networks.write_detector(out / "squares.keras")
    face_networks.write_refiner(out / "centred.keras")
    tf_keras.utils.set_random_seed(1)
    mobilenet(tf_keras).save(out / "mobilenet.h5")
    mobilenet(keras).save(out / "mobilenet.keras")
    xception(keras).export(out / "saved", verbose=False)
    sequential(keras).save(out / "sequential-3.h5")
    layers = keras.layers
    edge = keras.models.load_model(Path(__file__).parents[2] / "models" / "edge.keras", compile=False)
    # The shipped model with normalization as its first layer.
    keras.Sequential([keras.Input((48, 48, 1)), layers.Rescaling(1 / 128, -1), edge]).save(out / "raw.keras")
    # The same for images that are standardized by themselves: it gives each face the same contrast.
    keras.Sequential([keras.Input((48, 48, 1)), layers.Rescaling(1 / 2), edge]).save(out / "per-image.keras")
    image = keras.Input((48, 48, 1))
    flat = layers.Flatten()(layers.AveragePooling2D(6)(image))
    logits = layers.Dense(7)(flat)
    keras.Model(image, logits).save(out / "logits.keras")
    keras.Model(image, [layers.Softmax()(logits), layers.Dense(2)(flat)]).save(out / "two.keras")
    for name, package in (("lambda.keras", keras), ("lambda.h5", tf_keras)):
        package_layers = package.layers
        package.Sequential(
            [
                package_layers.Input((48, 48, 1)) if package is keras else package_layers.InputLayer((48, 48, 1)),
                package_layers.Lambda(lambda x: x * 0.5),
                package_layers.Flatten(),
                package_layers.Dense(7, activation="softmax"),
            ]
        ).save(out / name)
    write_parts(keras, tf_keras, out)
    _save_spread(keras, out / "spread.keras")
    any_size = keras.Input((None, None, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(any_size))
    keras.Model(any_size, layers.Dense(7, activation="softmax")(pooled)).save(out / "any-size.keras")
    sequential(keras).save_weights(out / "only.weights.h5")
    for policy in ("mixed_float16", "mixed_bfloat16"):
        for name, package in ((f"{policy}.keras", keras), (f"{policy}.h5", tf_keras)):
            package.mixed_precision.set_global_policy(policy)
            sequential(package).save(out / name)
            package.mixed_precision.set_global_policy("float32")
    _save_signatures(out, keras)


def _save_signatures(out: Path, keras: Any) -> None:  # noqa: ANN401
    """Save SavedModels whose signatures are not the one that Keras exports."""
    import tensorflow as tf  # noqa: PLC0415 - see main

    class Signatures(tf.Module):  # type: ignore[misc] # TensorFlow has no types
        def __init__(self) -> None:
            self.network = sequential(keras)

        @tf.function(input_signature=[tf.TensorSpec((None, 48, 48, 1), tf.uint8)])  # type: ignore[untyped-decorator]
        def from_bytes(self, x: Any) -> Any:  # noqa: ANN401
            return {"scores": self.network(tf.cast(x, tf.float32) / 255, training=False)}

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])  # type: ignore[untyped-decorator]
        def from_files(self, x: Any) -> Any:  # noqa: ANN401
            return {"length": tf.strings.length(x)}

        @tf.function(input_signature=[tf.TensorSpec((None, 48, 48, 1), tf.float32)])  # type: ignore[untyped-decorator]
        def serve(self, x: Any) -> Any:  # noqa: ANN401
            return {"scores": self.network(x, training=False)}

        @tf.function(input_signature=[tf.TensorSpec((32, 48, 48, 1), tf.float32)])  # type: ignore[untyped-decorator]
        def serve_batch(self, x: Any) -> Any:  # noqa: ANN401
            return {"scores": self.network(x, training=False)}

    module = Signatures()
    tf.saved_model.save(module, str(out / "saved-bytes"), signatures={"serving_default": module.from_bytes})
    two = {"classify": module.from_files, "serve": module.serve}
    tf.saved_model.save(module, str(out / "saved-two"), signatures=two)
    tf.saved_model.save(module, str(out / "saved-batch"), signatures={"serving_default": module.serve_batch})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
