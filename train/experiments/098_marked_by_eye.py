"""Train the second stage of the detector on with faces and objects that were marked by eye (experiment 098).

    python 098_marked_by_eye.py collect faces --paste fer2013.csv --teacher yunet_n_640_640.onnx --out proposals.npz
    python 098_marked_by_eye.py train proposals.npz --weights models/faces-refiner.keras --out refiner.keras

``collect`` makes scenes as `fer-edge train-refiner --corrections` does, but draws images with corrections more often,
and always takes the first stage's boxes on marked objects. ``train`` goes on from a trained second stage. A part of the
target of small boxes is what that one says of them, so that it keeps what it knows of small faces.
"""

# ruff: noqa: INP001, T201 - a script that prints

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cv2
import keras
import msgspec
import numpy as np

from fer_edge.datasets.dataset import TRAINING
from fer_edge.datasets.faces import load_faces, without_test_images
from fer_edge.datasets.readers import load_dataset
from fer_edge.detection.label_corrections import correct_labels
from fer_edge.detection.metrics import pairwise_iou
from fer_edge.detection.postprocess import decode_outputs
from fer_edge.detection.resampling import crop_squares
from fer_edge.model_zoo import DEFAULT_DETECTOR
from fer_edge.modelcard.archive import write_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import RefinerCard
from fer_edge_train.faces.detector_batches import PIXELS
from fer_edge_train.faces.detector_network import copy_detector_weights
from fer_edge_train.faces.detector_targets import MIN_ROWS, pack, separate
from fer_edge_train.faces.refiner_loss import RefinerLoss
from fer_edge_train.faces.refiner_network import build_refiner, to_inference_refiner
from fer_edge_train.faces.refiner_proposals import (
    SCORE,
    Proposals,
    load_network,
    make_targets,
    mirror,
    pick_boxes,
    read_faces,
)
from fer_edge_train.faces.scene_sources import SceneSources, load_sources
from fer_edge_train.faces.scenes import make_scene
from fer_edge_train.faces.yunet_teacher import Teacher, compute_targets, contradict, missed_faces
from fer_edge_train.optimizer import AdamW, cosine
from fer_edge_train.recipe_files import load_refiner_recipe
from fer_edge_train.torch_kernels import native_kernels

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge_train.faces.refiner_recipe import RefinerRecipe

FACES_REPEATS, OBJECTS_REPEATS = 10, 4  # how often images with such corrections are drawn
SAME: Final = 0.4  # overlap from which on a box shows the marked face or object
OBJECTS_PER_SCENE: Final = 4
SIDE, IS_OBJECT, IS_FACE = 0, 1, 2  # columns of what is known of a proposal beside its target
FACE_WEIGHT, OBJECT_WEIGHT = 8.0, 3.0  # of marked ones in the loss
KEEP, KEEP_BELOW, KEEP_ALL = 0.5, 40.0, 24.0  # share of the target that small boxes keep, in pixels of their sides
BATCH: Final = 256


class Known(NamedTuple):
    """Proposals, and of each the side of its box and whether it shows a marked object or face."""

    proposals: Proposals
    extra: npt.NDArray[np.float32]


def with_repeats(sources: SceneSources) -> SceneSources:
    """Draw images with corrections more often."""
    counts = np.bincount(sources.drawn, minlength=len(sources.images))
    for i, image in enumerate(sources.images):
        scores = image.annotations.scores
        repeats = FACES_REPEATS if (scores == 1).any() else OBJECTS_REPEATS if (scores < 0).any() else 1
        counts[i] = max(counts[i], repeats)
    return sources._replace(drawn=np.repeat(np.arange(len(counts)), counts))


def propose(
    sources: SceneSources, teacher: Teacher, first: int, recipe: RefinerRecipe, rng: np.random.Generator
) -> Known:
    """Make a scene and take some of what the first stage proposes in it."""
    options = recipe.proposals
    image, annotations = make_scene(sources, first, options.side, recipe.augmentation, rng)
    annotations, objects = separate(annotations)
    marked = annotations.boxes[annotations.scores == 1]
    answers = compute_targets(image, teacher)
    contradict(answers, annotations, objects)
    missed = pack([missed_faces(annotations, answers)], MIN_ROWS)[0]
    faces, known = read_faces(np.concatenate((answers, missed)))
    network = load_network(DEFAULT_DETECTOR, options.side, 0)
    cells = decode_outputs(network.run(image, options.side, options.side, options.min_score), options.min_score)
    picked = pick_boxes(cells, faces, options, rng)
    on_object = np.flatnonzero(overlap(cells.boxes, objects) >= SAME)
    on_object = rng.choice(on_object, min(OBJECTS_PER_SCENE, len(on_object)), replace=False)
    picked = np.concatenate((picked, cells.boxes[on_object]))
    places, squares = crop_squares(image, picked, recipe.network.extent, recipe.network.side)
    is_face = overlap(picked, marked) >= SAME
    is_object = (overlap(picked, objects) >= SAME) & ~is_face
    targets = make_targets(picked, places, faces, known)
    targets[is_object] = 0
    extra = np.column_stack((places[:, 2] / recipe.network.extent, is_object, is_face)).astype(np.float32)
    return Known(Proposals(squares, targets), extra)


def overlap(boxes: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the largest intersection over union of each box with any of the others."""
    return np.asarray(pairwise_iou(boxes, others).max(axis=1, initial=0), np.float32)


def collect(options: argparse.Namespace) -> None:
    """Write the proposals of many scenes."""
    cv2.setNumThreads(1)
    recipe = load_refiner_recipe("refiner", options.set)
    (data,) = without_test_images([load_faces(options.data, "train")], options.marks / "split.csv")
    faces = load_dataset(options.paste, 48)
    pasted = faces.faces[faces.usages == TRAINING]
    data = correct_labels(data, options.marks / "training.csv")
    sources = with_repeats(load_sources(data, recipe.data, pasted, options.teacher))
    teacher = Teacher(options.teacher, recipe.data.teacher_scales)
    chosen = np.random.default_rng(options.seed).choice(sources.drawn, options.scenes)
    parts: list[Known] = []
    began = time.monotonic()
    for number, first in enumerate(chosen.tolist(), 1):
        parts.append(propose(sources, teacher, first, recipe, np.random.default_rng((options.seed, number))))
        if number % 1000 == 0:
            print(f"{number} of {options.scenes} scenes, {time.monotonic() - began:.0f} s", flush=True)
    np.savez(
        options.out,
        squares=np.concatenate([part.proposals.squares for part in parts]),
        targets=np.concatenate([part.proposals.targets for part in parts]),
        extra=np.concatenate([part.extra for part in parts]),
    )


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """Squares, targets and weights; each epoch has another order."""

    def __init__(self, known: Known, seed: int) -> None:
        """Begin with the first epoch."""
        super().__init__()
        self.known, self.seed, self.epoch = known, seed, 0
        self.on_epoch_begin()

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.known.extra) // BATCH

    def on_epoch_begin(self) -> None:
        """Shuffle."""
        self.order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.known.extra))

    def on_epoch_end(self) -> None:
        """Count the epoch."""
        self.epoch += 1
        self.on_epoch_begin()

    def __getitem__(self, step: int) -> tuple[Any, ...]:
        """Return a batch, half of it mirrored."""
        chosen = np.sort(self.order[step * BATCH : (step + 1) * BATCH])
        some = Proposals(self.known.proposals.squares[chosen], self.known.proposals.targets[chosen])
        extra, other = self.known.extra[chosen], mirror(some)
        flip = np.random.default_rng((self.seed, self.epoch, step)).random(len(chosen)) < 0.5
        squares = np.where(flip[:, None, None], other.squares, some.squares)
        targets = np.where(flip[:, None], other.targets, some.targets)
        weights = 1 + (FACE_WEIGHT - 1) * extra[:, IS_FACE] + (OBJECT_WEIGHT - 1) * extra[:, IS_OBJECT]
        return PIXELS.normalize(squares), targets, weights.astype(np.float32)


def kept_shares(extra: npt.NDArray[np.float32], keep: float) -> npt.NDArray[np.float32]:
    """Return how much of each target is to be what the trained stage says: up to ``keep`` of those of small boxes."""
    share = keep * np.clip((KEEP_BELOW - extra[:, SIDE]) / (KEEP_BELOW - KEEP_ALL), 0, 1)
    return np.asarray(share * (1 - np.maximum(extra[:, IS_FACE], extra[:, IS_OBJECT])), np.float32)


def keep_answers(model: keras.Model, known: Known) -> None:
    """Mix what a model says of small boxes into their targets."""
    squares, targets = known.proposals
    share = kept_shares(known.extra, KEEP)
    network = to_inference_refiner(model)
    for begin in range(0, len(squares), 4096):
        part = slice(begin, begin + 4096)
        score = np.asarray(network.predict_on_batch(PIXELS.normalize(squares[part]))[0])[:, 0]
        targets[part, SCORE] += share[part] * (score - targets[part, SCORE])


def train(options: argparse.Namespace) -> None:
    """Train a second stage on, and write it after each epoch."""
    keras.utils.set_random_seed(options.seed)
    recipe = load_refiner_recipe("refiner")
    model = build_refiner(recipe.network)
    network = to_inference_refiner(model)
    copy_detector_weights(network, options.weights)
    with np.load(options.proposals) as stored:
        known = Known(Proposals(stored["squares"], stored["targets"]), stored["extra"])
    keep_answers(model, known)
    batches = Batches(known, options.seed)
    rate = cosine(options.learning_rate, len(batches) * options.epochs, len(batches) // 5)
    optimizer = AdamW(rate, weight_decay=0.02, use_ema=True, ema_momentum=0.998, clipnorm=5.0)
    model.compile(optimizer, RefinerLoss(recipe.loss.box, recipe.loss.landmarks))
    with native_kernels():
        model.fit(batches, epochs=options.epochs, shuffle=False, verbose=2)
    optimizer.finalize_variable_values(model.trainable_variables)
    network.save(options.out)
    card = read_card(options.weights, RefinerCard)
    made_by = (*card.made_by, *options.made_by, shlex.join(["python", *sys.argv]))
    write_card(options.out, msgspec.structs.replace(card, made_by=made_by))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("collect")
    one.add_argument("data", type=Path, help="folder with train/")
    one.add_argument("--paste", type=Path, required=True, help="fer2013.csv")
    one.add_argument("--teacher", type=Path, required=True, help="YuNet's ONNX file")
    one.add_argument("--marks", type=Path, default=Path(__file__).parents[2] / "benchmarks" / "face_marks")
    one.add_argument("--scenes", type=int, default=80_000)
    one.add_argument("--seed", type=int, default=971)
    one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="changes a setting of the recipe")
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(function=collect)
    two = commands.add_parser("train")
    two.add_argument("proposals", type=Path)
    two.add_argument("--weights", type=Path, required=True, help="the second stage to start from, a .keras")
    two.add_argument("--epochs", type=int, default=6)
    two.add_argument("--learning-rate", type=float, default=1.5e-3)
    two.add_argument("--seed", type=int, default=971)
    two.add_argument("--made-by", action="append", default=[], help="for the card, a command that made the proposals")
    two.add_argument("--out", type=Path, required=True)
    two.set_defaults(function=train)
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()
