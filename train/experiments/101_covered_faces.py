"""Train the second stage of the detector on with covered faces, in half the time that Keras takes (experiment 101).

    python 098_marked_by_eye.py collect faces --paste fer2013.csv --teacher yunet_n_640_640.onnx --seed 1010 \
        --out proposals.npz
    python 101_covered_faces.py train proposals.npz --weights models/faces-refiner.keras --out refiner.keras
    python 101_covered_faces.py blend models/faces-refiner.keras 101_second_stage.npz --out refiner.keras

Proposals and targets are those of `098_marked_by_eye.py`, the kernels those of `085_efficientnet_lite.py`. Training
goes on from its last finished epoch when the same command is given again. One thread is all it uses. ``blend`` takes
the mean of a second stage and the one that is kept beside this script.
"""

# ruff: noqa: INP001, T201 - a script that prints

from __future__ import annotations

import argparse
import importlib
import math
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"  # before Keras is loaded

import keras
import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from fer_edge.detection.refiner import OUTPUTS
from fer_edge.modelcard.archive import write_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import RefinerCard
from fer_edge_train.faces.detector_batches import PIXELS
from fer_edge_train.faces.detector_network import copy_detector_weights
from fer_edge_train.faces.refiner_network import build_refiner, to_inference_refiner
from fer_edge_train.faces.refiner_proposals import BOX, BOX_WEIGHT, POINTS, POINTS_WEIGHT, SCORE
from fer_edge_train.recipe_files import load_refiner_recipe

LITE: Any = importlib.import_module("085_efficientnet_lite")
MATCH: Any = importlib.import_module("099_edge_matches_large")
MARKED: Any = importlib.import_module("098_marked_by_eye")
LiteUnit: Any = LITE.Unit
Tensor = Any  # torch has types, but is not there where they are checked

SMOOTH = 0.05  # of the recipe's loss


class Unit(LiteUnit):  # type: ignore[misc]  # of a script
    """A convolution, normalization and maybe ReLU, as Keras has them."""

    def infer(self, x: Tensor) -> Tensor:
        """Convolve and normalize by the running statistics."""
        inside, margins = LITE.pad(x, self.kernel, self.stride)
        y = functional.conv2d(
            inside, self.conv.weight.to(LITE.NUMBERS), None, self.stride, margins, 1, self.conv.groups
        )
        norm = self.norm
        y = functional.batch_norm(y.float(), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return (functional.relu(y) if self.activation else y).to(LITE.NUMBERS)


class Refiner(nn.Module):  # type: ignore[misc]
    """The recipe refiner's network, whose layers have the names of the Keras model."""

    def __init__(self, stem: int, widths: tuple[int, ...], blocks: tuple[int, ...], last: int) -> None:
        """Begin at random; ``last`` is the side of the last features."""
        super().__init__()
        self.units, given = nn.ModuleDict(), stem
        self.plan: list[tuple[str, ...]] = [("stem",)]  # names in order; two pairs of names are a residual block
        self.units["stem"] = Unit(4, stem, 3, activation=LITE.RELU)
        for level, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            if level:
                self.plan.append(self.separable(f"level{level}", given, width, 2))
            else:
                self.units[f"level{level}"] = Unit(given, width, 3, 2, activation=LITE.RELU)
                self.plan.append((f"level{level}",))
            for block in range(count):
                name = f"block{level}_{block + 1}"
                first = self.separable(f"{name}_a", width, width)
                self.plan.append((*first, *self.separable(f"{name}_b", width, width, activation=LITE.NONE)))
            given = width
        self.whole = nn.Parameter(torch.zeros(given, 1, last, last))
        self.whole_normal = nn.BatchNorm2d(given, eps=1e-3, momentum=0.01)
        self.units["head"] = Unit(given, given, activation=LITE.RELU)
        self.dense = nn.ModuleDict({name: nn.Linear(given, n) for name, n in OUTPUTS.items()})
        self.to(memory_format=LITE.LAST)

    def separable(
        self, name: str, given: int, made: int, stride: int = 1, activation: int = LITE.RELU
    ) -> tuple[str, ...]:
        """Add a depthwise and a pointwise convolution, and return their names."""
        self.units[f"{name}_depthwise"] = Unit(given, given, 3, stride, depthwise=True, activation=LITE.NONE)
        self.units[name] = Unit(given, made, activation=activation)
        return f"{name}_depthwise", name

    def forward(self, squares: Tensor) -> Tensor:
        """Images of shape (n, side, side), 0..255, to logit, box and points, in float32."""
        x = (squares * PIXELS.scale + PIXELS.offset)[:, None]
        x = functional.pixel_unshuffle(x, 2).to(LITE.NUMBERS).contiguous(memory_format=LITE.LAST)
        for names in self.plan:
            y = x
            for name in names:
                y = self.units[name](y)
            x = functional.relu(x + y) if len(names) > 2 else y
        x = self.whole_normal((x.float() * self.whole[:, 0]).sum((2, 3), keepdim=True))
        x = self.units["head"](x.to(LITE.NUMBERS).contiguous(memory_format=LITE.LAST)).float().flatten(1)
        return torch.cat([dense(x) for dense in self.dense.values()], 1)

    def layers(self) -> dict[str, list[Tensor]]:
        """Return the arrays of each layer of the Keras model, in its order, by its name."""
        found: dict[str, list[Tensor]] = {}
        for name, unit in self.units.items():
            found[name] = [unit.conv.weight]
            found[f"{name}_normal"] = statistics(unit.norm)
        found |= {"whole": [self.whole], "whole_normal": statistics(self.whole_normal)}
        return found | {name: [dense.weight, dense.bias] for name, dense in self.dense.items()}


def statistics(norm: Tensor) -> list[Tensor]:
    """Return the arrays of a batch normalization in the order of Keras."""
    return [norm.weight, norm.bias, norm.running_mean, norm.running_var]


def axes(array: npt.NDArray[np.float32] | Tensor, name: str, *, to_torch: bool) -> tuple[int, ...] | None:
    """Return how to transpose an array between the layouts of Keras and PyTorch."""
    if array.ndim == 2:
        return (1, 0)
    if array.ndim < 2:
        return None
    if name == "whole" or name.endswith("_depthwise"):
        return (2, 3, 0, 1)  # both ways
    return (3, 2, 0, 1) if to_torch else (2, 3, 1, 0)


def exchange(network: Refiner, model: Any, *, to_torch: bool) -> None:  # noqa: ANN401 - a Keras model
    """Copy all weights from a Keras model to the network, or back."""
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    own = network.layers()
    if own.keys() != layers.keys():
        raise SystemExit(f"other layers than expected: {sorted(own.keys() ^ layers.keys())}")
    with torch.no_grad():
        for name, tensors in own.items():
            if to_torch:
                for tensor, array in zip(tensors, layers[name].get_weights(), strict=True):
                    order = axes(array, name, to_torch=True)
                    tensor.copy_(torch.from_numpy(np.ascontiguousarray(array.transpose(order) if order else array)))
            else:
                arrays = [tensor.detach().float().numpy() for tensor in tensors]
                orders = [axes(array, name, to_torch=False) for array in arrays]
                layers[name].set_weights(
                    [a.transpose(order) if order else a for a, order in zip(arrays, orders, strict=True)]
                )


def loss_of(output: Tensor, target: Tensor, weight: Tensor, box_share: float, points_share: float) -> Tensor:
    """Compute what `RefinerLoss` computes, as a weighted mean."""
    score = functional.binary_cross_entropy_with_logits(output[:, SCORE], target[:, SCORE], reduction="none")
    errors = functional.smooth_l1_loss(output[:, 1:15], target[:, 1:15], reduction="none", beta=SMOOTH)
    box = errors[:, BOX.start - 1 : BOX.stop - 1].sum(1) * target[:, BOX_WEIGHT]
    points = errors[:, POINTS.start - 1 : POINTS.stop - 1].mean(1) * target[:, POINTS_WEIGHT]
    return ((score + box_share * box + points_share * points) * weight).mean()


class Training:
    """A second stage in training."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Begin from the weights of a trained one, or go on from the checkpoint."""
        self.options, self.recipe = options, load_refiner_recipe("refiner")
        shape = self.recipe.network
        self.model = build_refiner(shape)
        self.inference = to_inference_refiner(self.model)
        copy_detector_weights(self.inference, options.weights)
        last = shape.side >> (1 + len(shape.widths))
        self.network = Refiner(shape.stem, shape.widths, shape.blocks, last)
        exchange(self.network, self.model, to_torch=True)
        with np.load(options.proposals) as stored:
            self.squares, self.targets, self.extra = (stored[name] for name in ("squares", "targets", "extra"))
        self.keep_answers()
        self.network.train()
        self.learner = MATCH.Learner(self.network, options.learning_rate, options.out.with_suffix(".pt"))
        self.steps = len(self.squares) // MARKED.BATCH

    def keep_answers(self) -> None:
        """Mix what the network says of small boxes into their targets, as 098 does."""
        self.network.eval()
        share = MARKED.kept_shares(self.extra, self.options.keep)
        with torch.no_grad():
            for begin in range(0, len(self.squares), 4096):
                part = slice(begin, begin + 4096)
                score = torch.sigmoid(self.network(torch.from_numpy(self.squares[part]).float())[:, 0]).numpy()
                self.targets[part, SCORE] += share[part] * (score - self.targets[part, SCORE])

    def epoch(self, epoch: int) -> float:
        """Learn from every square once; the mean loss."""
        rng, total = np.random.default_rng((self.options.seed, epoch)), 0.0
        order = rng.permutation(len(self.squares))
        for step in range(self.steps):
            chosen = np.sort(order[step * MARKED.BATCH : (step + 1) * MARKED.BATCH])
            some = MARKED.Proposals(self.squares[chosen], self.targets[chosen])
            other, flip = MARKED.mirror(some), rng.random(len(chosen)) < 0.5
            squares = np.where(flip[:, None, None], other.squares, some.squares)
            targets = np.where(flip[:, None], other.targets, some.targets)
            _, is_object, is_face = self.extra[chosen].T
            weights = 1 + (MARKED.FACE_WEIGHT - 1) * is_face + (MARKED.OBJECT_WEIGHT - 1) * is_object
            batch = [torch.from_numpy(np.ascontiguousarray(one)).float() for one in (squares, targets, weights)]
            total += self.step(batch, epoch * self.steps + step)
        return float(total / self.steps)

    def step(self, batch: list[Tensor], done: int) -> float:
        """Learn from squares, their targets and their weights; the loss."""
        squares, targets, weights = batch
        cosine = 0.5 * (1 + math.cos(math.pi * done / (self.steps * self.options.epochs)))
        loss = loss_of(self.network(squares), targets, weights, self.recipe.loss.box, self.recipe.loss.landmarks)
        return float(self.learner.step(loss, min((done + 1) * 5 / self.steps, max(cosine, 0.01)), done))

    def save(self, epochs: int) -> None:
        """Write the checkpoint, and the running mean as a Keras model with its card."""
        self.learner.save(epochs)
        shape = self.recipe.network
        mean = Refiner(shape.stem, shape.widths, shape.blocks, self.network.whole.shape[-1])
        mean.load_state_dict(self.learner.mean)
        exchange(mean, self.model, to_torch=False)
        self.inference.save(self.options.out)
        card = read_card(self.options.weights, RefinerCard)
        made_by = (*card.made_by, *self.options.made_by, shlex.join(["python", *sys.argv]))
        write_card(self.options.out, msgspec.structs.replace(card, made_by=made_by))


def train(options: argparse.Namespace) -> None:
    """Train a second stage on."""
    training = Training(options)
    for epoch in range(training.learner.begin, options.epochs):
        began, loss = time.monotonic(), training.epoch(epoch)
        print(f"epoch {epoch + 1}, loss {loss:.4f}, {time.monotonic() - began:.0f} s", flush=True)
        training.save(epoch + 1)


def blend(options: argparse.Namespace) -> None:
    """Write the weighted mean of the weights of two second stages."""
    model = keras.models.load_model(options.first, compile=False)
    with np.load(options.second) as stored:
        for layer in model.layers:
            pairs = ((array, stored[f"{layer.name}.{i}"]) for i, array in enumerate(layer.get_weights()))
            layer.set_weights([a + options.share * (b.astype(np.float32) - a) for a, b in pairs])
    model.save(options.out)
    card = read_card(options.first, RefinerCard)
    made_by = (*card.made_by, *options.made_by, shlex.join(["python", *sys.argv]))
    write_card(options.out, msgspec.structs.replace(card, made_by=made_by))


def main() -> None:
    """Do what the command line says."""
    torch.set_num_threads(1)
    LITE.keep_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    both = argparse.ArgumentParser(add_help=False)
    both.add_argument("--made-by", action="append", default=[], help="for the card, a command that made the proposals")
    both.add_argument("--out", type=Path, required=True)
    one = commands.add_parser("train", parents=[both])
    one.add_argument("proposals", type=Path)
    one.add_argument("--weights", type=Path, required=True, help="the second stage to start from, a .keras")
    one.add_argument("--keep", type=float, default=MARKED.KEEP, help="share of small boxes' targets that it keeps")
    one.add_argument("--epochs", type=int, default=6)
    one.add_argument("--learning-rate", type=float, default=1.5e-3)
    one.add_argument("--seed", type=int, default=1010)
    one.set_defaults(command=train)
    two = commands.add_parser("blend", parents=[both])
    two.add_argument("first", type=Path, help="a .keras")
    two.add_argument("second", type=Path, help="weights in 16 bits, by the names of the layers")
    two.add_argument("--share", type=float, default=0.8, help="of the second one")
    two.set_defaults(command=blend)
    options = parser.parse_args()
    options.command(options)


if __name__ == "__main__":
    main()
