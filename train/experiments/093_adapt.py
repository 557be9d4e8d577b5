"""Experiment 093: adapt the shipped model to an invented person, and measure what it learns and what it forgets.

    python train/experiments/093_adapt.py fer2013.csv --work FOLDER [--person glasses] [--faces 20] [--alone]
        [--set KEY=VALUE ...]

A person is made of Training faces of FER-2013. `glasses` wears dark glasses that are drawn on every face, and its
labels are permuted: happy is labelled sad and the other way round, angry surprise and the other way round. `dim` keeps
its labels, but its camera is dark, noisy, blurred and tilted. It is tested on 935 faces that `edge` has not learnt
from. Nothing is learnt from PublicTest, by which the forgetting is measured.
"""

# ruff: noqa: INP001, T201 - a script that prints

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.classification.comparison import change_of_accuracy, wilson_interval
from fer_edge.classification.metrics import measure
from fer_edge.datasets.dataset import TRAINING, Dataset
from fer_edge.datasets.readers import load_dataset
from fer_edge_train.adaptation import adapt, check_start_model, take_own_labels
from fer_edge_train.finish import predict
from fer_edge_train.network import load_trained
from fer_edge_train.recipe_files import load_recipe
from fer_edge_train.rehearsal import make_rehearsal
from fer_edge_train.split import holdout_keys, split_own_faces

if TYPE_CHECKING:
    import numpy.typing as npt

START: Final = Path(__file__).parents[2] / "models" / "edge.keras"
SWAPPED: Final = {"happy": "sad", "sad": "happy", "angry": "surprise", "surprise": "angry"}
WATCHED: Final = 500  # the lowest keys, which the rehearsal watches
UNSEEN: Final = 1435  # faces of the lowest keys, which `edge` has not learnt from
REHEARSED: Final = 4000  # the highest keys


def wear_glasses(face: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Draw dark glasses where the eyes of a face of FER-2013 are."""
    worn = cv2.resize(face, (192, 192), interpolation=cv2.INTER_CUBIC)
    for x in (60, 132):
        cv2.circle(worn, (x, 76), 27, (25,), cv2.FILLED, cv2.LINE_AA)
        cv2.circle(worn, (x, 76), 27, (230,), 4, cv2.LINE_AA)
    cv2.line(worn, (87, 72), (105, 72), (230,), 5, cv2.LINE_AA)
    return np.asarray(cv2.resize(worn, (48, 48), interpolation=cv2.INTER_AREA), np.uint8)


def dim(face: npt.NDArray[np.uint8], number: int) -> npt.NDArray[np.uint8]:
    """Show a face as a tilted camera in the dark does."""
    matrix = cv2.getRotationMatrix2D((23.5, 23.5), 22, 0.9)
    matrix[1, 2] += 3
    seen = cv2.GaussianBlur(cv2.warpAffine(face, matrix, (48, 48), borderMode=cv2.BORDER_REPLICATE), (5, 5), 1.2)
    noise = np.random.default_rng(number).normal(0, 7, seen.shape)
    return np.clip(12 + 0.3 * seen.astype(np.float64) + noise, 0, 255).astype(np.uint8)


def make_person(data: Dataset, rows: npt.NDArray[np.int64], person: str, usage: str) -> Dataset:
    """Make the faces of a person from those of a dataset."""
    faces = np.stack(
        [wear_glasses(data.faces[row]) if person == "glasses" else dim(data.faces[row], row) for row in rows]
    )
    labels = [data.labels[one] for one in data.classes[rows]]
    named = [SWAPPED.get(label, label) if person == "glasses" else label for label in labels]
    classes = np.array([data.labels.index(label) for label in named])
    return Dataset("person", data.labels, faces, classes, np.full(len(rows), usage))


def measure_change(name: str, data: Dataset, model: Path) -> None:
    """Print what a model is worth on faces, and what the model that it was adapted from is worth there."""
    spec = check_start_model(START).input
    before, after = (predict(load_trained(path), data.faces, spec, batch_size=256) for path in (START, model))
    change = change_of_accuracy(*(scores.argmax(axis=1) == data.classes for scores in (before, after)))
    was, is_now = (measure(scores, data.classes, data.labels) for scores in (before, after))
    low, high = wilson_interval(is_now.accuracy, is_now.faces)
    print(
        f"  {name}: {was.accuracy:.2%} -> {is_now.accuracy:.2%} ({low:.1%}-{high:.1%}), {change.points:+.2f} points"
        f" ({change.interval[0]:+.2f}..{change.interval[1]:+.2f}), {change.verdict}; macro F1 {was.macro_f1:.3f} ->"
        f" {is_now.macro_f1:.3f}; calibration error {was.ece:.3f} -> {is_now.ece:.3f}",
        flush=True,
    )


def main() -> None:
    """Run one adaptation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder, which keeps the answers for the rehearsal")
    parser.add_argument("--person", choices=("glasses", "dim"), default="glasses")
    parser.add_argument("--faces", type=int, default=20, help="faces of each class to learn from")
    parser.add_argument("--alone", action="store_true", help="rehearse nothing")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    recipe = load_recipe("adapt", options.set)
    adaptation = recipe.adaptation
    assert adaptation is not None  # noqa: S101 - the recipe has it
    data = load_dataset(options.data)
    training = np.flatnonzero(data.usages == TRAINING)
    order = training[np.argsort(holdout_keys(data.faces, training, 1), kind="stable")]
    middle, random = order[UNSEEN:-REHEARSED], np.random.default_rng(recipe.seed)
    of_each = [middle[data.classes[middle] == one] for one in range(len(data.labels))]
    chosen = np.concatenate([random.choice(rows, options.faces, replace=False) for rows in of_each])
    own = take_own_labels(make_person(data, chosen, options.person, TRAINING), data.labels, adaptation, START)
    split = split_own_faces(own, recipe.data.validation, recipe.data.validation_seed)
    begin = time.monotonic()
    rehearsal = None
    if not options.alone:
        rest = data.select(~np.isin(np.arange(len(data)), chosen))
        bank = options.work / f"bank-{recipe.target.views}.npz"
        labels = data.labels
        rehearsal = make_rehearsal(rest, recipe, adaptation, start=START, labels=labels, bank=bank, on_view=print)
    answered = time.monotonic()
    out = options.work / "run"
    shutil.rmtree(out, ignore_errors=True)
    result = adapt(own, split, rehearsal, recipe, adaptation, start=START, out=out, name="adapted")
    epochs = len((out / "history.csv").read_text().splitlines()) - 1
    print(
        f"{options.person}, {options.faces} a class{', alone' if options.alone else ''} {' '.join(options.set)}:"
        f" answers {answered - begin:.0f} s, training {time.monotonic() - answered:.0f} s, {epochs} epochs; held out"
        f" {result.before.accuracy:.1%} -> {result.trained.validation.accuracy:.1%} of {result.before.faces},"
        f" {result.change.verdict}"
    )
    measure_change("person", make_person(data, order[WATCHED:UNSEEN], options.person, "test"), result.trained.model)
    measure_change("PublicTest", data.select(data.usages == "PublicTest"), result.trained.model)


if __name__ == "__main__":
    main()
