"""Train EfficientNet-Lite0 on with the eight classes of FER+ (experiment 103).

    pip install torch
    python 103_lite_on_ferplus.py --weights models/lite0.npz --sizes 144:5 --out runs/1030

The network begins with the weights that learnt FER-2013's labels (097), and a new last layer. All Training faces with
votes teach it, those without a majority too. It takes network and training from `085_efficientnet_lite.py`.
"""

# ruff: noqa: INP001 - a script

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fer_edge.classification.labels import FERPLUS
from fer_edge.datasets.dataset import TRAINING
from fer_edge.datasets.ferplus import add_votes
from fer_edge.datasets.near_duplicates import near_duplicates
from fer_edge.datasets.readers import load_dataset
from fer_edge_train.split import hold_out, holdout_keys

LITE: Any = importlib.import_module("085_efficientnet_lite")

SIDE, SEED = 48, 1030
HELD_OUT, LEFT_OUT = -1, -2


class Votes:
    """FER-2013's Training and PublicTest with the shares of FER+'s votes, in the form of experiment 085."""

    def __init__(self, faces: Path, votes: Path, _folds: int) -> None:
        """Read both files; a vote that nobody shares does not count."""
        data = add_votes(load_dataset(faces, SIDE), votes)
        if data.votes is None:
            raise SystemExit(f"{votes}: no votes")
        shared = np.where(data.votes > 1, data.votes, 0)
        own = shared[:, : len(FERPLUS)]
        clear = (shared.max(1) > shared.sum(1) / 2) & (shared.argmax(1) < len(FERPLUS))
        total = own.sum(1, keepdims=True)
        training, public = np.flatnonzero(data.usages == TRAINING), (data.usages == "PublicTest") & clear
        self.faces, self.label = np.asarray(data.faces[training]), own[training].argmax(1)
        self.shares = (own / np.maximum(total, 1))[training].astype(np.float32)
        self.hard = np.where(clear[training, None], np.eye(len(FERPLUS))[self.label], self.shares).astype(np.float32)
        pixels = np.asarray(data.faces)
        kept, held = hold_out(
            near_duplicates(pixels)[training], holdout_keys(pixels, training, LITE.HELD_OUT_SEED), LITE.HELD_OUT
        )
        self.fold = np.full(len(training), LEFT_OUT)
        self.fold[kept] = 0
        self.fold[held] = np.where(clear[training[held]], HELD_OUT, LEFT_OUT)
        self.fold[total[training, 0] == 0] = LEFT_OUT
        self.public, self.public_label = pixels[public], own[public].argmax(1)


def main() -> None:
    """Do what the command line says."""
    torch.set_num_threads(1)
    LITE.keep_memory()
    LITE.LABELS, LITE.Data = FERPLUS, Votes
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, default=Path("fer2013.csv"))
    parser.add_argument("--votes-csv", type=Path, default=Path("fer2013new.csv"))
    parser.add_argument("--weights", type=Path, required=True, help="of experiment 097; the last layer is left out")
    parser.add_argument("--sizes", default="144:5", help="images' side and for how many epochs")
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    start = options.out / "start.npz"
    with np.load(options.weights) as stored:
        np.savez(start, **{name: stored[name] for name in stored if not name.startswith("last.")})
    settings: dict[str, Any] = {
        "fold": LITE.ALL,
        "folds": 1,
        "kind": "lite0",
        "batch": 64,
        "weight_decay": 0.05,
        "votes": 0.7,  # the rest is the majority's class
        "bank": None,
        "share": 0.0,
        "mixup": 0.2,
        "erase": 0.25,
        "average": 0.998,
    }
    LITE.train(argparse.Namespace(**settings, **vars(options) | {"weights": start}))


if __name__ == "__main__":
    main()
