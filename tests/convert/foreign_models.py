"""Makes models as other people make them; run as a program, for TensorFlow's warnings are not the tests' business.

``python -m tests.convert.foreign_models FOLDER`` with Keras 3 and tf-keras, the second's keeper, or with Keras 2.15 in
Python 3.11, which made what is in ``tests/data/keras2``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def sequential(keras: Any) -> Any:  # noqa: ANN401 - either Keras
    """What the notebooks of the world train on FER-2013, narrow."""
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
    """Like mini-Xception (Arriaga et al. 2017, arXiv:1710.07557): separable convolutions, strided residual adds."""
    layers = keras.layers
    given = keras.Input((64, 64, 1))
    x = layers.Conv2D(8, 3, use_bias=False)(given)
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
    return keras.Model(given, layers.Activation("softmax")(x))


def mobilenet(keras: Any) -> Any:  # noqa: ANN401
    """Three channels and depthwise convolutions, which Keras 2 wrote with an argument that Keras 3 refuses."""
    return keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=7)


def main(out: Path) -> None:
    """Write them."""
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

    face_networks.write(out / "squares.keras")
    face_networks.write_second(out / "centred.keras")
    tf_keras.utils.set_random_seed(1)
    mobilenet(tf_keras).save(out / "mobilenet.h5")
    mobilenet(keras).save(out / "mobilenet.keras")
    xception(keras).export(out / "saved", verbose=False)
    sequential(keras).save(out / "sequential-3.h5")
    layers = keras.layers
    ours = keras.models.load_model(Path(__file__).parents[2] / "models" / "edge.keras", compile=False)
    # Ours as somebody would save it who does not normalise beforehand.
    keras.Sequential([keras.Input((48, 48, 1)), layers.Rescaling(1 / 128, -1), ours]).save(out / "raw.keras")
    given = keras.Input((48, 48, 1))
    flat = layers.Flatten()(layers.AveragePooling2D(6)(given))
    logits = layers.Dense(7)(flat)
    keras.Model(given, logits).save(out / "logits.keras")
    keras.Model(given, [layers.Softmax()(logits), layers.Dense(2)(flat)]).save(out / "two.keras")
    for name, package in (("lambda.keras", keras), ("lambda.h5", tf_keras)):
        own = package.layers
        package.Sequential(
            [
                own.Input((48, 48, 1)) if package is keras else own.InputLayer((48, 48, 1)),
                own.Lambda(lambda x: x * 0.5),
                own.Flatten(),
                own.Dense(7, activation="softmax"),
            ]
        ).save(out / name)
    any_size = keras.Input((None, None, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(any_size))
    keras.Model(any_size, layers.Dense(7, activation="softmax")(pooled)).save(out / "any-size.keras")
    sequential(keras).save_weights(out / "only.weights.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
