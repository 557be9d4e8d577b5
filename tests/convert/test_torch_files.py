"""Test programs of `torch.export`, and what is said of other files of PyTorch, none of which is unpickled."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest

from fer_edge.errors import ModelError
from fer_edge.tflite.graph import read_graph
from fer_edge_convert.flatbuffer import run_model
from fer_edge_convert.formats.isolated import read_isolated, run_original
from fer_edge_convert.formats.request import ReadOptions
from fer_edge_convert.sources import open_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("convert"),
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"),
]
PROGRAM = """
import sys, torch
from torch import nn
torch.manual_seed(1)
layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.PReLU(8), nn.Conv2d(8, 8, 3, groups=8), nn.Hardswish()]
net = nn.Sequential(*layers, nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(8 * 11 * 11, 7)).eval()
image = torch.zeros(2, 1, 48, 48)
folder = sys.argv[1]
any_number = {"input": {0: torch.export.Dim("n")}}
torch.export.save(torch.export.export(net, (image,), dynamic_shapes=any_number), folder + "/net.pt2")
torch.save(net.state_dict(), folder + "/weights.pth")
torch.save({"epoch": 3, "model": net.state_dict()}, folder + "/checkpoint.pt")
torch.save(net.state_dict(), folder + "/old.pth", _use_new_zipfile_serialization=False)
torch.save({"net": net.state_dict()}, folder + "/PrivateTest_model.t7", _use_new_zipfile_serialization=False)
torch.save({"net": net.state_dict()}, folder + "/model_best.pth.tar")
torch.save(net.state_dict(), folder + "/Z_resmasking_dropout1_rot30_2019Nov30_13.32")
torch.save(net, folder + "/whole.pt")
torch.jit.trace(net, image[:1]).save(folder + "/script.pt")
torch.jit.load(folder + "/script.pt")
torch.onnx.export(torch.jit.load(folder + "/script.pt").eval(), image[:1], folder + "/script.onnx", dynamo=False)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a network as PyTorch saves it in each of its forms."""
    folder = tmp_path_factory.mktemp("torch")
    result = subprocess.run([sys.executable, "-c", PROGRAM, folder], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder


def test_converts_a_program_of_torch_export(saved: Path) -> None:
    kind, model = read_isolated(saved / "net.pt2", "exported", ReadOptions())
    assert kind == "PyTorch, torch.export"
    graph = read_graph(model, saved)
    assert tuple(graph.inputs[0].shape) == (1, 48, 48, 1)
    assert {"PRELU", "DEPTHWISE_CONV_2D", "HARD_SWISH"} <= {one.kind for one in graph.operations}
    images = np.random.default_rng(0).uniform(-1, 1, (4, 48, 48, 1)).astype(np.float32)
    expected = run_original(saved / "net.pt2", "exported", ReadOptions(), images)
    assert expected.std(axis=0).min() > 1e-3
    assert np.abs(run_model(model, images) - expected).max() < 1e-4
    # The same network in another form.
    session = onnxruntime.InferenceSession(saved / "script.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    script = np.concatenate([session.run(None, {name: one[None]})[0] for one in images.transpose(0, 3, 1, 2)])
    assert np.abs(expected - script).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (
            "weights.pth",
            r"weights of PyTorch without their network \(a state dict\), which is not unpickled; load them",
        ),
        ("checkpoint.pt", "weights of PyTorch without their network"),
        ("old.pth", "weights of PyTorch without their network"),
        ("PrivateTest_model.t7", "weights of PyTorch without their network"),
        ("model_best.pth.tar", "weights of PyTorch without their network"),
        ("Z_resmasking_dropout1_rot30_2019Nov30_13.32", "weights of PyTorch without their network"),
        (
            "whole.pt",
            r"a pickled network of PyTorch, of the class torch\.nn\.modules\.container\.Sequential, which is not",
        ),
        (
            "script.pt",
            r"a TorchScript program, .* torch\.onnx\.export\(torch\.jit\.load\(\"script\.pt\"\).*dynamo=False",
        ),
    ],
)
def test_says_what_other_files_hold_and_what_to_do(saved: Path, name: str, problem: str) -> None:
    with pytest.raises(ModelError, match=problem) as caught:
        open_model(saved / name)
    assert "\n" not in str(caught.value)
    assert "torch.onnx.export(" in str(caught.value)


def test_the_advice_for_torchscript_works(saved: Path) -> None:
    assert open_model(saved / "script.onnx").outputs == 7


class Harm:
    """Make a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_never_unpickles(tmp_path: Path) -> None:
    for name in ("m.pt", "m.pth", "m.ckpt", "pytorch_model.bin"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(Harm(tmp_path / "made"), protocol=2))
        with pytest.raises(ModelError, match=r"a pickled network of PyTorch, of the class posix\.mkdir, which is not"):
            open_model(path)
    assert not (tmp_path / "made").exists()
    (tmp_path / "m.safetensors").write_bytes(b"\x08" + bytes(7) + b"{}      ")
    with pytest.raises(ModelError, match="weights without their network"):
        open_model(tmp_path / "m.safetensors")


def _call(content: dict[str, Any]) -> None:
    content["graph_module"]["graph"]["nodes"][0]["target"] = "torch.load"


def _evaluate(content: dict[str, Any]) -> None:
    content["range_constraints"] = {}
    content["graph_module"]["graph"]["sym_int_values"] = {"s0": {"as_expr": {"expr_str": "__import__('os').abort()"}}}


@pytest.mark.parametrize(
    ("change", "member", "problem"),
    [
        (_call, "models/model.json", r"refused, it calls torch\.load, which is not one of PyTorch's operators"),
        (_evaluate, "models/model.json", "its sizes depend on each other"),
        (
            lambda content: next(iter(content["config"].values())).update(use_pickle=True),
            "data/weights/model_weights_config.json",
            "refused, it holds a pickle, which loading would run",
        ),
    ],
)
def test_refuses_programs_that_would_run_code(
    saved: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], *, member: str, problem: str
) -> None:
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(saved / "net.pt2") as source, zipfile.ZipFile(path, "w") as target:
        for info in source.infolist():
            content = source.read(info)
            if info.filename.partition("/")[2] == member:
                described = json.loads(content)
                change(described)
                content = json.dumps(described).encode()
            target.writestr(info.filename, content)
    with pytest.raises(ModelError, match=problem):
        open_model(path)


def test_refuses_compiled_and_damaged_programs(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes((saved / "net.pt2").read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/data/aotinductor/model/model.so", b"\x7fELF")
    with pytest.raises(
        ModelError, match=r"refused, it holds data/aotinductor/model/model\.so, which loading might run"
    ):
        open_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr("net/models/model.json", "{}")
    with pytest.raises(ModelError, match=r"PyTorch .* cannot load it"):
        open_model(path)
