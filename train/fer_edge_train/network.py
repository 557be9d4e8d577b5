"""The networks that recipes name, in any Keras backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

import keras
from keras import applications, layers

from fer_edge.errors import InputError, ModelError, first_line
from fer_edge_train.recipe import Plain, Residual, Transfer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from fer_edge_train.calibration import Calibration
    from fer_edge_train.recipe import Network

HEAD: Final = "logits"
AUXILIARY: Final = "auxiliary"
BACKBONE: Final = "backbone"

# From input in -1..1 to what each backbone was trained with: 1 and 0 leave it, 127.5 gives 0..255, and
# VGG and ResNet want 0..255 less the means of ImageNet's blue, green and red.
_BACKBONES: Final = {
    "MobileNetV2": (1.0, 0.0, {}),
    "MobileNetV3Small": (127.5, 127.5, {"include_preprocessing": True}),
    "MobileNetV3Large": (127.5, 127.5, {"include_preprocessing": True}),
    "EfficientNetB0": (127.5, 127.5, {}),
    "VGG16": (127.5, [23.561, 10.721, 3.82], {}),
    "ResNet50": (127.5, [23.561, 10.721, 3.82], {}),
}


def build(
    network: Network, classes: int, size: int | None, *, auxiliary: int = 0, weights: Path | None = None
) -> keras.Model:
    """Build a network that gives logits.

    Args:
        network: its shape.
        classes: how many outputs.
        size: side of the images; None takes any, for training at several.
        auxiliary: outputs of a second head; 0 is none.
        weights: file for a transfer's backbone, instead of what the recipe says.

    Returns:
        A model from float images of shape (n, size, size, 1), -1..1, to a dict of float32 logits by head, each of
        shape (n, classes).

    Raises:
        InputError: a backbone's weights cannot be had.
    """
    images = keras.Input((size, size, 1), name="face")
    match network:
        case Residual():
            features = _residual(images, network)
        case Plain():
            features = _plain(images, network)
        case Transfer():
            features = _transfer(images, network, weights)
        case _:
            assert_never(network)
    if network.dropout and not isinstance(network, Plain):
        features = layers.Dropout(network.dropout)(features)
    heads = {HEAD: layers.Dense(classes, dtype="float32", name=HEAD)(features)}
    if auxiliary:
        heads[AUXILIARY] = layers.Dense(auxiliary, dtype="float32", name=AUXILIARY)(features)
    return keras.Model(images, heads)


def as_used(trained: keras.Model, size: int) -> keras.Model:
    """A copy in float32, for one image size, of what gives the first head's logits."""
    keras.config.set_dtype_policy("float32")
    return copied(first_head(trained), "float32", images=keras.Input((size, size, 1), name="face"))


def copied(
    model: keras.Model, precision: str, images: keras.KerasTensor | None = None, but: Collection[str] = ()
) -> keras.Model:
    """A copy of a model in another precision.

    Args:
        model: which may have models within it.
        precision: of its arithmetic, as Keras names it.
        images: what the copy takes; None takes what the model does.
        but: names of layers that stay as they are.
    """

    def anew(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if layer.name not in but and "dtype" in config:
            config["dtype"] = precision
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(model, images, clone_function=anew, recursive=True)
    copy.set_weights(model.get_weights())
    for layer in every_layer(copy):
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()  # without which it goes on with the statistics that it had before
    return copy


def every_layer(model: keras.Model) -> Iterator[keras.Layer]:
    """A model's layers, with those of a model within it in its place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from every_layer(layer)
        else:
            yield layer


def with_probabilities(model: keras.Model, calibration: Calibration) -> keras.Model:
    """The same network to calibrated probabilities; the calibration is folded into its last layer's weights."""
    head = model.get_layer(HEAD)
    weights, biases = head.get_weights()
    head.set_weights([weights / calibration.temperature, biases / calibration.temperature + calibration.biases])
    return keras.Model(model.input, layers.Softmax(name="scores")(head.output))


def load_trained(path: Path) -> keras.Model:
    """A trained model, to take its weights or to ask it.

    Raises:
        ModelError: the file is damaged, missing or of another kind.
    """
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # a damaged file can fail anywhere in Keras
        raise ModelError(f"{path}: Keras cannot load it ({first_line(error)}); train it again") from error


def first_head(model: keras.Model) -> keras.Model:
    """The model from its input to the logits of its first head; weights are shared."""
    return keras.Model(model.input, model.get_layer(HEAD).output)


def _residual(x: keras.KerasTensor, network: Residual) -> keras.KerasTensor:
    x = _convolution(x, network.stem, kernel=5, strides=network.stem_strides)
    for stage, (width, pairs) in enumerate(zip(network.widths, network.pairs, strict=True)):
        if stage > 0 or width != network.stem:
            x = _convolution(x, width, strides=2 if stage > 0 else 1)
        for _ in range(pairs):
            y = _convolution(_convolution(x, width), width, activate=False)
            if network.squeeze:
                y = _squeezed(y, width, network.squeeze)
            x = layers.ReLU()(layers.Add()([x, y]))
    return layers.GlobalAveragePooling2D()(x)


def _squeezed(x: keras.KerasTensor, width: int, ratio: int) -> keras.KerasTensor:
    """Channels weighed by what their means over the image say."""
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(max(width // ratio, 4), 1, activation="relu", kernel_initializer="he_normal")(y)
    return layers.Multiply()([x, layers.Conv2D(width, 1, activation="sigmoid")(y)])


def _plain(x: keras.KerasTensor, network: Plain) -> keras.KerasTensor:
    for width in network.widths:
        for _ in range(network.convolutions):
            if network.batch_norm:
                x = _convolution(x, width)
            else:
                x = layers.Conv2D(width, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D()(x)
        if network.block_dropout:
            x = layers.Dropout(network.block_dropout)(x)
    x = layers.Flatten()(x) if network.top == "flatten" else layers.GlobalAveragePooling2D()(x)
    for units in network.dense:
        x = layers.Dense(units, activation="relu", kernel_initializer="he_normal")(x)
        if network.dropout:
            x = layers.Dropout(network.dropout)(x)
    return x


def _transfer(x: keras.KerasTensor, network: Transfer, weights: Path | None) -> keras.KerasTensor:
    scale, offset, options = _BACKBONES[network.backbone]
    asked = None if weights or network.weights == "none" else network.weights
    shape = (network.side, network.side, 3)
    # The last application's own name would hold a number that depends on what was built before.
    try:
        backbone = getattr(applications, network.backbone)(
            input_shape=shape, include_top=False, pooling="avg", weights=asked, name=BACKBONE, **options
        )
    except Exception as error:  # no network, no such host, a damaged cache: Keras raises what its downloader does
        raise InputError(
            f"ImageNet's weights of {network.backbone} cannot be had ({first_line(error)}): give a file with"
            " --weights FILE, or start at random with --set network.weights=none"
        ) from error
    if weights:
        try:
            backbone.load_weights(weights)
        except Exception as error:  # h5py and Keras have many ways to say so
            raise InputError(
                f"{weights}: no weights of {network.backbone} without its top ({first_line(error)}); save them with"
                f" keras.applications.{network.backbone}(include_top=False).save_weights(FILE)"
            ) from error
    x = layers.Resizing(network.side, network.side)(x)
    x = layers.Concatenate()([x, x, x])
    return backbone(layers.Rescaling(scale, offset)(x))


def _convolution(
    x: keras.KerasTensor, filters: int, *, kernel: int = 3, strides: int = 1, activate: bool = True
) -> keras.KerasTensor:
    x = layers.Conv2D(filters, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    x = layers.BatchNormalization(momentum=0.97)(x)
    return layers.ReLU()(x) if activate else x
