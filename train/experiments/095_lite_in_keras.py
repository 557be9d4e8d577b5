"""Make a Keras model of a network that `085_efficientnet_lite.py` has trained (experiment 095).

    python 095_lite_in_keras.py runs/lite0/weights.npz fer2013.csv --out runs/lite0/model.keras

The model is what the recipe transfer builds, with these weights: cubic resizing from 48 pixels is inside. Its scores
are calibrated on the faces that fer-edge holds out, unless `edge` taught it. It needs no PyTorch.
"""

# ruff: noqa: INP001, T201 - a script that prints

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np

from fer_edge.datasets.readers import load_dataset
from fer_edge.modelcard.pixel_statistics import PixelStatistics
from fer_edge.modelcard.schema import ClassifierCard, InputSpec
from fer_edge_train.architectures.base import HEAD
from fer_edge_train.architectures.efficientnet_lite import load_tensors
from fer_edge_train.calibration import Calibration
from fer_edge_train.ensemble import save_calibrated
from fer_edge_train.finish import predict
from fer_edge_train.recipe_files import load_recipe
from fer_edge_train.split import split_dataset
from fer_edge_train.training import OFFSET, SCALE

if TYPE_CHECKING:
    import numpy.typing as npt

LABELS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # in the order of experiment 085
SIDE: Final = 48  # of the faces


def read_weights(path: Path) -> tuple[str, int, dict[str, npt.NDArray[Any]]]:
    """Return the kind of a network, the side of its images in pixels, and its weights by their names."""
    with np.load(path) as stored:
        kind = f"EfficientNet{str(stored['kind']).capitalize()}"
        return kind, int(stored["size"]), {name: stored[name] for name in stored if "." in name}


def build(kind: str, side: int, weights: dict[str, npt.NDArray[Any]]) -> keras.Model:
    """Build the network of the recipe transfer with some weights: from grey faces, -1..1, to logits.

    Args:
        kind: ``EfficientNetLite0``, ``1`` or ``2``.
        side: side of the images that it makes of the faces, in pixels.
        weights: by the names of experiment 085.
    """
    recipe = load_recipe("transfer", [f"network.backbone={kind}", f"network.side={side}", "network.weights=none"])
    model = recipe.network.build(len(LABELS), SIDE)
    load_tensors(model.get_layer("backbone"), weights)
    model.get_layer(HEAD).set_weights([weights["last.weight"].T, weights["last.bias"]])
    return keras.Model(model.input, model.get_layer(HEAD).output)


def and_unlabelled(path: Path | None) -> str:
    """Say how many faces without labels there are in a file."""
    if not path:
        return ""
    with np.load(path) as stored:
        return f", and {len(stored['faces'])} faces without labels"


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--side", type=int, help="side of the images in pixels, instead of that of the last epochs")
    parser.add_argument(
        "--taught-by-edge",
        action="store_true",
        help="calibrate nothing: edge's teachers had learnt the held-out faces, and its scores are calibrated (104)",
    )
    parser.add_argument(
        "--unlabelled", type=Path, help="for the card, faces without labels that it learnt from as well"
    )
    parser.add_argument("--made-by", action="append", default=[], help="for the card, a command that made the weights")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    kind, side, weights = read_weights(options.weights)
    data = load_dataset(options.csv, SIDE).with_labels(LABELS)
    split = split_dataset(data, 0.05, 1, batch_size=1)  # the recipes' share and seed
    spec = InputSpec(height=SIDE, width=SIDE, scale=SCALE, offset=OFFSET)
    model = build(kind, options.side or side, weights)
    card = ClassifierCard(
        name=options.out.stem,
        labels=LABELS,
        input=spec,
        pixels=PixelStatistics.from_faces(data.faces[split.train[:: len(split.train) // 2000 + 1]]),
        made_by=(*options.made_by, shlex.join(["python", *sys.argv])),
        data=f"ImageNet, then {len(split.train)} training faces of {options.csv.name} with annotators' votes"
        f"{and_unlabelled(options.unlabelled)}; {len(split.validation)} more held out",
        note="An expression is not a feeling: the scores say how a face looks, not what a person feels.",
    )
    if options.taught_by_edge:
        calibration = Calibration(1.0, np.zeros(len(LABELS), np.float32))
    else:
        logits = predict(model, data.faces, spec, split.validation, batch_size=64)
        calibration = Calibration.fit(logits, data.classes[split.validation])
    validation, test = save_calibrated(model, calibration, data, split, out=options.out, card=card)
    print(
        f"{options.out}: {validation.accuracy:.2%} of {validation.faces} held-out faces right, ECE {validation.ece:.3f}"
    )
    if test:
        print(f"{test.accuracy:.2%} of {test.faces} test faces right, ECE {test.ece:.3f}")


if __name__ == "__main__":
    main()
