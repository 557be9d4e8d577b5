"""Make a Keras model of an `edge` that `100_bank_of_mixed_faces.py` has trained (experiment 100).

    python 100_edge_in_keras.py models/edge.keras runs/1001/edge.npz fer2013.csv --out edge.keras

Its scores are not calibrated on the faces that fer-edge holds out: `edge`'s own teachers had learnt those faces, and it
gives what it knows of them to its student (78 % right there, 71 % on PublicTest). The teachers' scores are calibrated,
and the student has learnt them. It needs no PyTorch.
"""

# ruff: noqa: INP001, T201 - a script that prints

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import keras
import msgspec
import numpy as np

from fer_edge.datasets.readers import load_dataset
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_train.architectures.base import HEAD
from fer_edge_train.calibration import Calibration
from fer_edge_train.ensemble import save_calibrated
from fer_edge_train.split import split_dataset


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edge", type=Path, help="the model from which training began")
    parser.add_argument("arrays", type=Path)
    parser.add_argument("csv", type=Path)
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the arrays in a mean with the first model's weights"
    )
    parser.add_argument("--made-by", action="append", default=[], help="for the card, a command that made the arrays")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    card = read_card(options.edge, ClassifierCard)
    data = load_dataset(options.csv, card.input.height).with_labels(card.labels)
    split = split_dataset(data, 0.05, 1, batch_size=1)  # the recipes' share and seed
    trained = keras.models.load_model(options.edge, compile=False)
    model = keras.Model(trained.input, trained.get_layer(HEAD).output)
    with np.load(options.arrays) as stored:
        arrays = [stored[name] for name in stored]
    for layer in model.layers:
        count = len(layer.weights)
        pairs = zip(layer.get_weights(), arrays[:count], strict=True)
        layer.set_weights([own + options.share * (array.astype(np.float32) - own) for own, array in pairs])
        arrays = arrays[count:]
    if arrays:
        raise SystemExit(f"{options.arrays}: {len(arrays)} arrays more than the model has")
    none = Calibration(1.0, np.zeros(len(card.labels), np.float32))
    made_by = (*card.made_by, *options.made_by, shlex.join(["python", *sys.argv]))
    card = msgspec.structs.replace(card, made_by=made_by)
    validation, test = save_calibrated(model, none, data, split, out=options.out, card=card)
    print(f"{options.out}: {validation.accuracy:.2%} of held-out faces right, whose labels its teachers knew")
    if test:
        print(f"{test.accuracy:.2%} of {test.faces} test faces right, ECE {test.ece:.3f}")


if __name__ == "__main__":
    main()
