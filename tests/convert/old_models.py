"""Make models with libraries that no longer run beside those of the tests, and print their scores for `images`.

``python tests/convert/old_models.py FOLDER`` writes ``theano.h5``, and its weights and JSON apart, with Keras 1.2.2 and
Theano 1.0.5 in Python 3.7 (``THEANO_FLAGS=mode=Mode,linker=py,optimizer=None,cxx=`` needs no compiler), and
``operations.h5`` with TensorFlow 2.3 in Python 3.8. In Python 3.10, TensorFlow 2.12 writes ``metadata.tflite`` and
``metadata-uint8.tflite``, which tflite-support 0.4.4 gives metadata, and ``tf2onnx.onnx`` by tf2onnx 1.16.1. All of
them are in ``tests/data/old``.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np


def images() -> Any:  # noqa: ANN401 - NumPy of that time has no types
    """Return three images of shape (48, 48), in 0..1."""
    ramp, ones = np.arange(48) / 48, np.ones(48)
    return np.stack([np.outer(ramp, 1 - ramp), np.outer(ramp, ones), 1 - np.outer(ones, ramp**2)]).astype(np.float32)


def write_theano(out: Path) -> Any:  # noqa: ANN401
    """Write a network with channels first, as tutorials of 2016 have it, and return its scores."""
    os.environ["KERAS_BACKEND"] = "theano"
    importlib.import_module("theano.ifelse")  # which Keras needs loaded
    from keras import backend, layers, models  # noqa: PLC0415

    backend.set_image_dim_ordering("th")
    model = models.Sequential(
        [
            layers.Convolution2D(4, 3, 3, border_mode="same", input_shape=(1, 48, 48), W_regularizer="l2"),
            *(layers.Activation("relu"), layers.MaxPooling2D(pool_size=(4, 4)), layers.BatchNormalization(axis=1)),
            *(layers.ZeroPadding2D((1, 1)), layers.Convolution2D(6, 3, 3, init="he_normal"), layers.PReLU()),
            *(layers.AveragePooling2D((2, 2), strides=(2, 2)), layers.Flatten(), layers.Dropout(0.5)),
            *(layers.Dense(7), layers.Activation("softmax")),
        ]
    )
    random = np.random.RandomState(7)
    for layer in model.layers:
        low, high = (0.5, 1.5) if "normalization" in layer.name else (-0.4, 0.5)
        layer.set_weights([random.uniform(low, high, one.shape) for one in layer.get_weights()])
    model.compile("sgd", "categorical_crossentropy")
    model.save(str(out / "theano.h5"))
    model.save_weights(str(out / "theano-weights.h5"))
    (out / "theano-weights.json").write_text(model.to_json())
    return model.predict(images()[:, None] / 4)


def write_operations(out: Path) -> Any:  # noqa: ANN401
    """Write a network that calls TensorFlow's functions between its layers, and return its scores."""
    import tensorflow as tf  # noqa: PLC0415

    tf.random.set_seed(1)
    layers = tf.keras.layers
    image = tf.keras.Input((48, 48, 1))
    x = tf.keras.applications.mobilenet_v2.preprocess_input(tf.concat([image, image, image], 3))
    x = tf.nn.relu6(layers.Conv2D(4, 3, strides=4)(x) - 0.1)
    model = tf.keras.Model(image, layers.Dense(7, activation="softmax")(layers.Flatten()(x)))
    model.save(str(out / "operations.h5"))
    return model.predict(255 * images()[..., None])


def write_tools(out: Path) -> Any:  # noqa: ANN401
    """Write a network by the tools that turn Keras models into other files, and return its scores."""
    import tensorflow as tf  # noqa: PLC0415

    tf2onnx: Any = importlib.import_module("tf2onnx")
    writers: Any = importlib.import_module("tflite_support.metadata_writers")
    tf.keras.utils.set_random_seed(3)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input((48, 48, 1)),
            *(layers.Conv2D(8, 5, strides=3, padding="same"), layers.BatchNormalization(), layers.LeakyReLU(0.1)),
            *(layers.SeparableConv2D(12, 3, strides=2, activation="relu"), layers.AveragePooling2D(3)),
            *(
                layers.Flatten(),
                layers.Dense(7, "softmax", kernel_initializer=tf.keras.initializers.RandomNormal(0, 2)),
            ),
        ]
    )
    signature = (tf.TensorSpec((None, 48, 48, 1), tf.float32, name="image"),)
    tf2onnx.convert.from_keras(model, signature, opset=13, output_path=str(out / "tf2onnx.onnx"))
    labels = out / "labels.txt"
    labels.write_text("angry\ndisgust\nfear\nhappy\nsad\nsurprise\nneutral\n")
    for name, is_quantized in (("metadata", False), ("metadata-uint8", True)):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if is_quantized:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[None, ..., None]] for image in images())
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        writer = writers.image_classifier.MetadataWriter.create_for_inference(
            converter.convert(), [0.0], [1.0], [str(labels)]
        )
        writers.writer_utils.save_file(writer.populate(), str(out / f"{name}.tflite"))
    labels.unlink()
    return model.predict(images()[..., None])


if __name__ == "__main__":
    write = {(3, 8): write_operations, (3, 10): write_tools}.get(sys.version_info[:2], write_theano)
    sys.stdout.write(f"{write(Path(sys.argv[1])).tolist()}\n")
