"""Export networks of PyTorch to ONNX, as people do. Run as a program, it keeps PyTorch's warnings out of the tests.

``python -m tests.convert.onnx_models FOLDER`` writes each network by both exporters: ``NAME-script.onnx`` by the older
one, ``NAME-graph.onnx`` by that of PyTorch 2.5 and later, which keeps the weights in a file beside it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

SIDE = 48


class Merge(nn.Module):  # type: ignore[misc] # PyTorch is not looked into
    """Join what several modules make of one image, along the channels or by addition."""

    def __init__(self, *modules: Any, add: bool = False) -> None:  # noqa: ANN401
        super().__init__()
        self.parts, self.add = nn.ModuleList(modules), add

    def forward(self, x: Any) -> Any:  # noqa: ANN401
        parts = [part(x) for part in self.parts]
        return sum(parts[1:], parts[0]) if self.add else torch.cat(parts, 1)


class Function(nn.Module):  # type: ignore[misc]
    """A function as a module."""

    def __init__(self, function: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:  # noqa: ANN401
        return self.function(x)


class SqueezeExcite(nn.Module):  # type: ignore[misc]
    """Weigh channels by their means (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.less, self.more = nn.Conv2d(channels, channels // 2, 1), nn.Conv2d(channels // 2, channels, 1)

    def forward(self, x: Any) -> Any:  # noqa: ANN401
        return x * torch.sigmoid(self.more(F.silu(self.less(F.adaptive_avg_pool2d(x, 1)))))


class Attention(nn.Module):  # type: ignore[misc]
    """A block of a transformer over the places of an image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.attend = nn.LayerNorm(channels), nn.MultiheadAttention(channels, 4, batch_first=True)
        self.dense = nn.Linear(channels, channels)

    def forward(self, x: Any) -> Any:  # noqa: ANN401
        tokens = x.flatten(2).transpose(1, 2)
        normal = self.norm(tokens)
        tokens = tokens + self.attend(normal, normal, normal, need_weights=False)[0]
        return F.gelu(self.dense(tokens)).transpose(1, 2).reshape(x.shape)


def convolution(channels: int, filters: int, size: int = 3, stride: int = 1, groups: int = 1, **rest: Any) -> Any:  # noqa: ANN401
    return nn.Sequential(
        nn.Conv2d(channels, filters, size, stride, rest.pop("padding", size // 2), groups=groups, bias=False, **rest),
        nn.BatchNorm2d(filters),
    )


def shuffle(x: Any) -> Any:  # noqa: ANN401
    """Mix the channels of groups (Zhang et al. 2018, arXiv:1707.01083)."""
    n, channels, height, width = x.shape
    return x.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(n, channels, height, width)


def networks() -> dict[str, tuple[int, Any]]:
    """Return networks of several families, with the channels of their images."""
    relu = nn.ReLU()
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 7)]
    block = nn.Sequential(convolution(16, 16), nn.ReLU(), convolution(16, 16))
    activations = [
        *(
            nn.LeakyReLU(0.1),
            nn.ELU(),
            nn.ELU(0.7),
            nn.SELU(),
            nn.PReLU(),
            nn.PReLU(8),
            nn.Hardswish(),
            nn.Hardsigmoid(),
        ),
        *(nn.SiLU(), nn.Tanh(), nn.GELU(), nn.ReLU6(), nn.Hardtanh(-1, 2), nn.Softplus(), nn.Mish()),
        *(nn.CELU(0.5), nn.Softsign()),
    ]
    layers = [layer for one in activations for layer in (one, convolution(8, 8))]
    return {
        "vgg": (
            1,
            nn.Sequential(
                *(convolution(1, 8), relu, nn.MaxPool2d(2), convolution(8, 16), relu, nn.MaxPool2d(2)),
                Function(lambda x: x.view(x.size(0), -1)),
                nn.Linear(16 * 12 * 12, 7),
                nn.Softmax(1),
            ),
        ),
        "resnet": (
            3,
            nn.Sequential(
                Function(lambda x: (x - torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)) / 0.25),
                *(convolution(3, 16, 7, 2), relu, nn.MaxPool2d(3, 2, 1), Merge(block, nn.Identity(), add=True), relu),
                Function(lambda x: x.mean([2, 3])),
                nn.Linear(16, 7),
            ),
        ),
        "mobilenet": (
            3,
            nn.Sequential(
                *(convolution(3, 8, 3, 2), nn.Hardswish(), convolution(8, 32, 1), nn.Hardswish()),
                *(convolution(32, 32, 5, 2, 32), nn.Hardswish(), SqueezeExcite(32), convolution(32, 16, 1)),
                *(nn.Conv2d(16, 7, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LogSoftmax(1)),
            ),
        ),
        "shufflenet": (
            1,
            nn.Sequential(
                *(convolution(1, 8, 3, 2), relu, convolution(8, 16, 3, 1, 4), relu, Function(shuffle)),
                *(convolution(16, 16, 3, 2, 16), *head),
            ),
        ),
        "inception": (
            1,
            nn.Sequential(
                *(convolution(1, 8, 3, 2), nn.Tanh()),
                Merge(convolution(8, 4, 1), convolution(8, 4, 5), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1)),
                Function(lambda x: torch.cat([a * torch.sigmoid(b) for a, b in [x.chunk(2, 1)]] + [x[:, 2:6]], 1)),
                *(convolution(16, 16, 3, 2, dilation=2, padding=2), *head),
            ),
        ),
        "pooling": (
            1,
            nn.Sequential(
                *(convolution(1, 8), nn.AvgPool2d(3, 2, 1), convolution(8, 8), nn.MaxPool2d(3, 2, ceil_mode=True)),
                *(nn.AvgPool2d(3, 2, 1, count_include_pad=False), convolution(8, 16)),
                *(nn.AvgPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, ceil_mode=True, padding=1), *head),
            ),
        ),
        "transformer": (
            1,
            nn.Sequential(convolution(1, 8, 3, 2), nn.ReLU(), convolution(8, 16, 3, 4), Attention(16), *head),
        ),
        "normalization": (
            1,
            nn.Sequential(
                *(nn.ReflectionPad2d(1), nn.Conv2d(1, 8, 3, 2), nn.InstanceNorm2d(8, affine=True), relu),
                *(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(8, 16, 3, 2), nn.GroupNorm(2, 16), *head[:2]),
                *(nn.BatchNorm1d(16), nn.Linear(16, 7), nn.Sigmoid()),
            ),
        ),
        "activations": (1, nn.Sequential(convolution(1, 8, 3, 4), *layers, convolution(8, 16), *head)),
    }


def settle(network: Any) -> Any:  # noqa: ANN401
    """Give a network the statistics of a trained one, so that its scores depend on the image."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.3)
    return network.eval()


def main(out: Path) -> None:
    """Write all models into a folder."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras  # noqa: PLC0415 - with PyTorch

    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for name, (channels, network) in networks().items():
        image = (torch.rand(1, channels, SIDE, SIDE),)
        settle(network)
        names = {"input_names": ["image"], "output_names": ["scores"]}
        old = 11 if name in {"vgg", "resnet", "pooling"} else 17
        axes = {"image": {0: "n"}, "scores": {0: "n"}}
        torch.onnx.export(
            network, image, out / f"{name}-script.onnx", dynamo=False, opset_version=old, dynamic_axes=axes, **names
        )
        torch.onnx.export(network, image, out / f"{name}-graph.onnx", dynamo=True, verbose=False, **names)
    any_size = nn.Sequential(
        convolution(1, 16, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7)
    )
    torch.onnx.export(
        *(settle(any_size), (torch.rand(1, 1, SIDE, SIDE),), out / "any-size.onnx"),
        dynamo=False,
        input_names=["image"],
        dynamic_axes={"image": {0: "n", 2: "height", 3: "width"}},
    )
    half = settle(nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 23 * 23, 7))).half()
    torch.onnx.export(half, (torch.rand(1, 1, SIDE, SIDE).half(),), out / "half.onnx", dynamo=False)
    batch = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 7)).eval()
    torch.onnx.export(batch, (torch.rand(32, 1, SIDE, SIDE),), out / "batch.onnx", dynamo=False)
    # A trained network, the shipped one; Keras calculates with the channels last.
    edge = keras.models.load_model(Path(__file__).parents[2] / "models" / "edge.keras", compile=False)
    edge(torch.zeros(1, SIDE, SIDE, 1))
    edge.export(out / "edge.onnx", format="onnx", verbose=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
