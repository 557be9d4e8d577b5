"""Small networks with known weights and a face detector's outputs; they find bright squares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from fer_edge.modelcard.archive import write_card
from fer_edge.modelcard.schema import DetectorCard, PixelSpec, RefinerCard

if TYPE_CHECKING:
    from pathlib import Path

SQUARE = 8  # side of the squares that it finds, in pixels
STRIDES = (8, 16, 32)
SIDE = 32  # side of the second stage's input, in pixels
EXTENT = 2.0  # of the second stage's input, in sides of a square


def make_detector() -> keras.Model:
    """Return the first stage: input (None, None, 1) of -1..1; it finds squares of 1 at multiples of 8 pixels."""
    image = keras.Input((None, None, 1))
    x = image
    levels = []
    for i in range(5):
        # Channel 0 is the mean of four pixels; random weights make the others differ.
        x = keras.layers.Conv2D(4, 2, strides=2, activation="relu", name=f"halve{i}")(x)
        if i >= 2:
            levels.append(x)
    # Pass features of a coarser level to a finer one.
    upsampled = keras.layers.Conv2D(16, 1, name="down")(levels[1])
    levels[0] = keras.layers.Add()([levels[0], keras.ops.depth_to_space(upsampled, 2)])
    outputs = []
    for stride, level in zip(STRIDES, levels, strict=True):
        outputs += [
            keras.layers.Conv2D(1, 1, activation="sigmoid", name=f"score{stride}")(level),
            keras.layers.Conv2D(4, 1, name=f"box{stride}")(level),
            keras.layers.Conv2D(10, 1, name=f"landmarks{stride}")(level),
        ]
    model = keras.Model(image, outputs, name="bright_squares")
    rng = np.random.default_rng(3)
    for i in range(5):
        kernel = rng.normal(0, 0.05, (2, 2, 1 if i == 0 else 4, 4))
        kernel[..., 0, 0] = 0.25
        kernel[..., 1:, 0] = 0
        # The first layer adds 1, because ReLU would set negative inputs to 0.
        model.get_layer(f"halve{i}").set_weights([kernel, np.array([i == 0, 0.1, 0.1, 0.1])])
    projection = model.get_layer("down")
    projection.set_weights([rng.normal(0, 0.01, weights.shape) for weights in projection.get_weights()])
    for stride in STRIDES:
        score = np.zeros((1, 1, 4, 1))
        score[..., 0, 0] = 12
        # A fully bright cell has the value 2. Coarser levels must find nothing.
        model.get_layer(f"score{stride}").set_weights([score, np.array([-18.0 if stride == SQUARE else -40.0])])
        for name, bias in (("box", [0, 0, 0, 0]), ("landmarks", np.linspace(-0.5, 0.5, 10))):
            layer = model.get_layer(f"{name}{stride}")
            shape = layer.get_weights()[0].shape
            layer.set_weights([rng.normal(0, 0.01, shape), np.asarray(bias, float)])
    return model


def make_refiner() -> keras.Model:
    """Return the second stage: input (32, 32, 1); it scores the middle's brightness and finds the square's centre."""
    side, half = SIDE, SIDE // 2
    image = keras.Input((side, side, 1))
    # Map -1..1 to 0..1 first; otherwise the dense layers would have to undo the offset of all pixels exactly.
    x = keras.layers.Conv2D(1, 1, activation="relu", name="light")(image)
    x = keras.layers.Flatten()(x)
    score = keras.layers.Dense(1, activation="sigmoid", name="score")(x)
    box = keras.layers.Dense(4, name="box")(x)
    landmarks = keras.layers.Dense(10, name="landmarks")(x)
    model = keras.Model(image, [score, box, landmarks], name="centred_squares")
    model.get_layer("light").set_weights([np.full((1, 1, 1, 1), 0.5), np.array([0.5])])
    middle = np.zeros((side, side))
    middle[3 * side // 8 : 5 * side // 8, 3 * side // 8 : 5 * side // 8] = (4 / side) ** 2
    model.get_layer("score").set_weights([20 * middle.reshape(-1, 1), np.array([-8.0])])
    # A square of half the side covers half**2 pixels wherever it is.
    offsets = ((np.arange(side) + 0.5) / side - 0.5) / half**2
    x_offsets, y_offsets = np.tile(offsets, (side, 1)), np.tile(offsets[:, None], (1, side))
    size = np.log(1 / EXTENT)
    model.get_layer("box").set_weights(
        [
            np.stack([x_offsets.ravel(), y_offsets.ravel(), *np.zeros((2, side * side))], axis=1),
            np.array([0, 0, size, size]),
        ]
    )
    points = np.stack([(x_offsets, y_offsets)[i % 2].ravel() for i in range(10)], axis=1)
    model.get_layer("landmarks").set_weights([points, np.linspace(-0.1, 0.1, 10)])
    return model


def write_refiner(path: Path) -> None:
    """Write the second stage as ``.keras`` with a card."""
    make_refiner().save(path)
    card = RefinerCard(
        name="centred",
        input=PixelSpec(scale=1 / 128, offset=-1.0),
        side=SIDE,
        extent=EXTENT,
        min_score=0.1,
        threshold=0.5,
        made_by=("first", "second"),
        scores={"average precision": 0.5},
    )
    write_card(path, card)


def write_detector(path: Path) -> None:
    """Write the first stage as ``.keras`` with a card."""
    make_detector().save(path)
    card = DetectorCard(name="squares", input=PixelSpec(scale=1 / 128, offset=-1.0), smallest_face=SQUARE)
    write_card(path, card)
