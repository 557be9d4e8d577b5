from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fer_edge.errors import ModelError
from fer_edge_train.torch_tensors import read_tensors

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    import torch as pytorch

pytestmark = pytest.mark.slow  # loading PyTorch


@pytest.fixture
def torch() -> ModuleType:
    module: ModuleType = pytest.importorskip("torch")  # here, for otherwise each worker loads it
    return module


def save(path: Path, content: Any) -> Path:  # noqa: ANN401 - whatever a file may hold
    import torch  # noqa: PLC0415

    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture
def network(torch: ModuleType) -> pytorch.nn.Module:
    torch.manual_seed(1)
    layers: pytorch.nn.Module = torch.nn.Sequential(torch.nn.Conv2d(3, 201, (1, 7)), torch.nn.BatchNorm2d(201))
    return layers


def test_reads_what_pytorch_saved(tmp_path: Path, torch: ModuleType, network: pytorch.nn.Module) -> None:
    stored = network.state_dict()
    stored["turned"] = stored["0.weight"].permute(2, 3, 1, 0)  # a view of the same storage
    stored["part"] = stored["0.weight"][3:5]
    stored["half"] = torch.arange(6).half().reshape(2, 3)
    tensors = read_tensors(save(tmp_path / "network.pth", stored))
    assert set(tensors) == set(stored)
    for name, tensor in stored.items():
        assert tensors[name].dtype == tensor.numpy().dtype
        assert np.array_equal(tensors[name], tensor.numpy()), name


class Harm:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def test_runs_nothing_that_a_file_names(tmp_path: Path, network: pytorch.nn.Module) -> None:
    path = save(tmp_path / "harm.pth", {**network.state_dict(), "harm": Harm(tmp_path / "harm")})
    with pytest.raises(ModelError, match=r"harm.pth: damaged, or not a dictionary of tensors") as error:
        read_tensors(path)
    assert "mkdir is no part of a dictionary of tensors" in str(error.value.__cause__)
    assert not (tmp_path / "harm").exists()
    with pytest.raises(ModelError, match="not a dictionary of tensors"):
        read_tensors(save(tmp_path / "network.pth", network))


def test_refuses_damaged_files(tmp_path: Path, torch: ModuleType, network: pytorch.nn.Module) -> None:
    content = save(tmp_path / "network.pth", network.state_dict()).read_bytes()
    wide = content.replace(b"K\xc9K\x03K\x01K\x07t", b"K\xcaK\x03K\x01K\x07t")
    assert wide != content
    endless = content.replace(b"K\xc9K\x03K\x01K\x07t", b"K\xc9K\x03K\x01J\xff\xff\xff\x7ft")
    for damaged in (wide, endless, content[:-1], content[: len(content) // 3], content[100:], b""):
        path = tmp_path / "damaged.pth"
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"damaged\.pth: damaged, or not a dictionary"):
            read_tensors(path)
    torch.save(network.state_dict(), tmp_path / "new.pth")
    with pytest.raises(ModelError, match=r"that PyTorch before 1\.6 saved"):
        read_tensors(tmp_path / "new.pth")
