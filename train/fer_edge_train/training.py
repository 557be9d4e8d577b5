"""Training: a dataset and a recipe in, a Keras model with its card, history and report out."""

from __future__ import annotations

import csv
import hashlib
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import keras
import msgspec
import numpy as np
import tomli_w
from keras import optimizers
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from fer_edge.card import Card, InputSpec, write_card
from fer_edge.datasets import TRAINING, Dataset
from fer_edge.errors import DataError, InputError
from fer_edge.files import replacing
from fer_edge.metrics import measure
from fer_edge_train.augment import augment, mixup
from fer_edge_train.network import build, with_probabilities
from fer_edge_train.report import write_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fer_edge.metrics import Metrics
    from fer_edge_train.recipe import Recipe

logger = logging.getLogger(__name__)

SIDE: Final = 48
# With this scale and offset a pixel becomes an int8 of the quantised model by flipping one bit.
INPUT: Final = InputSpec(height=SIDE, width=SIDE, scale=1 / 128, offset=-1.0)
_CHECKPOINT: Final = "checkpoint.keras"


@dataclass(frozen=True, slots=True)
class Result:
    """What a training run gave.

    Attributes:
        model: path of the finished ``model.keras``.
        validation: scores on the held-out part of the training faces.
        test: scores on the dataset's test rows, where it has any.
    """

    model: Path
    validation: Metrics
    test: Metrics | None


def train(
    data: Dataset,
    recipe: Recipe,
    name: str,
    out: Path,
    *,
    votes: npt.NDArray[np.float32] | None = None,
    resume: bool = False,
    command: str = "",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Result:
    """Train a model, saving a checkpoint after every epoch.

    Args:
        data: faces; those of usage ``Training`` are trained on, all others are only tested on at the end.
        recipe: how to train.
        name: name of the model on its card.
        out: folder for ``model.keras``, ``history.csv``, ``recipe.toml`` and ``report/``.
        votes: annotators' votes for each face and label, float32 of shape (n, labels), or None.
        resume: go on from the checkpoint in ``out``; without one, start.
        command: what made the model, for its card.
        callbacks: more Keras callbacks, such as a progress display.

    Raises:
        DataError: too few faces to train on.
        InputError: ``out`` holds another run, or ``resume`` meets another recipe.
    """
    training = np.flatnonzero(data.usages == TRAINING)
    if not len(training):
        raise DataError(f"{data.name}: no Training rows to train on; it has {', '.join(sorted(set(data.usages)))}")
    kept, held = split(data.faces[training], recipe.validation, recipe.seed)
    kept, held = training[kept], training[held]
    if len(kept) < recipe.optimizer.batch_size or len(held) == 0:
        raise DataError(
            f"{data.name}: {len(training)} training faces, {len(kept)} of them not held out, are too few:"
            f" one batch of this recipe takes {recipe.optimizer.batch_size}"
        )
    if recipe.target.votes and votes is None:
        logger.warning(
            "the recipe wants %.0f %% FER+ votes in its targets and has none: its accuracy will be lower",
            100 * recipe.target.votes,
        )
    started = _prepare(out, recipe, _fingerprint(data, votes), resume=resume)

    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    targets = soft_targets(data.classes, len(data.labels), votes, recipe.target.votes)
    steps = len(kept) // recipe.optimizer.batch_size
    if started:
        model = keras.models.load_model(out / _CHECKPOINT)
    else:
        model = build(recipe.network, len(data.labels))
        model.compile(
            _optimizer(recipe, steps), keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
        )
    done = int(model.optimizer.iterations) // steps
    stages = _stages(recipe)
    watched = (INPUT.normalise(data.faces[held]), targets[held])
    record = [_History(out / "history.csv", done), _Checkpoint(out / _CHECKPOINT), *callbacks]
    for size, first, last in stages:
        if done < last:
            batches = _Batches(data.faces[kept], targets[kept], recipe, size, max(first, done))
            model.fit(
                batches,
                validation_data=watched,
                validation_batch_size=512,
                initial_epoch=max(first, done),
                epochs=last,
                callbacks=record,
                verbose=0,
            )

    held_logits = model.predict(watched[0], batch_size=512, verbose=0)
    temperature = fit_temperature(held_logits, targets[held])
    finished = with_probabilities(model, recipe.network, SIDE, temperature)

    def scored(part: npt.NDArray[np.int64]) -> Metrics:
        scores = finished.predict(INPUT.normalise(data.faces[part]), batch_size=512, verbose=0)
        return measure(scores, data.classes[part], data.labels)

    tested = np.flatnonzero(data.usages != TRAINING)
    result = Result(out / "model.keras", scored(held), scored(tested) if len(tested) else None)
    counts = {"trained on": len(kept), "held out": len(held), "tested on": len(tested), "skipped": len(data.skipped)}
    write_report(
        out / "report",
        out / "history.csv",
        data,
        counts,
        validation=result.validation,
        test=result.test,
        temperature=temperature,
    )
    scores = {"float accuracy on held-out training faces": result.validation.accuracy}
    if result.test:
        parts = " and ".join(sorted(set(data.usages[tested].tolist())))
        scores[f"float accuracy on {parts}"] = result.test.accuracy
    card = Card(
        name=name,
        labels=data.labels,
        input=INPUT,
        scores={what: round(score, 4) for what, score in scores.items()},
        made_by=(command,) if command else (),
        data=f"{len(kept)} of the {len(training)} training faces of {Path(data.name).name}"
        + (f", {recipe.target.votes:.0%} FER+ votes in the targets" if votes is not None else ""),
        note="An expression is not a feeling: the scores say how a face looks, not what a person feels.",
    )
    with replacing(result.model) as temporary:
        finished.save(temporary)
        write_card(temporary, card)
    return result


def split(faces: npt.NDArray[np.uint8], share: float, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Hold out a share of the faces, with near-duplicates on the same side.

    Near-duplicates are faces with the same difference hash (8x8 signs of the horizontal gradient), which
    survives changes of brightness, contrast and compression.

    Args:
        faces: uint8 of shape (n, height, width).
        share: what part to hold out, 0..1.
        seed: of the random choice.

    Returns:
        Sorted indices of the faces kept and of those held out.
    """
    small = np.stack([cv2.resize(face, (9, 8), interpolation=cv2.INTER_AREA) for face in faces]).astype(np.int16)
    bits = np.packbits(np.diff(small, axis=2).reshape(len(faces), 64) > 0, axis=1)
    _, group = np.unique(bits, axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.random.default_rng(seed).permutation(group.max() + 1)
    sizes = np.bincount(group)
    held_groups = order[np.cumsum(sizes[order]) <= max(round(share * len(faces)), 1)]
    held = np.isin(group, held_groups)
    return np.flatnonzero(~held), np.flatnonzero(held)


def soft_targets(
    classes: npt.NDArray[np.int64], count: int, votes: npt.NDArray[np.float32] | None, share: float
) -> npt.NDArray[np.float32]:
    """Class probabilities to teach: the dataset's label, mixed with the annotators' votes where a face has any.

    Args:
        classes: label of each face, shape (n,).
        count: how many classes there are.
        votes: votes of shape (n, count), or None.
        share: weight of the votes, 0..1.

    Returns:
        float32 of shape (n, count) whose rows add up to 1.
    """
    hard = np.eye(count, dtype=np.float32)[classes]
    if votes is None:
        return hard
    total = votes.sum(axis=1, keepdims=True)
    soft = np.where(total > 0, votes / np.maximum(total, 1), hard)
    return ((1 - share) * hard + share * soft).astype(np.float32)


def fit_temperature(logits: npt.NDArray[np.float32], targets: npt.NDArray[np.float32]) -> float:
    """The temperature at which the logits fit the targets best (Guo et al. 2017, arXiv:1706.04599).

    Args:
        logits: shape (n, classes).
        targets: class probabilities of the same shape.
    """

    def loss(log_temperature: float) -> float:
        return float(-(targets * log_softmax(logits / math.exp(log_temperature), axis=1)).sum(axis=1).mean())

    return math.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x)


def _fingerprint(data: Dataset, votes: npt.NDArray[np.float32] | None) -> str:
    """SHA-256 of all that a run learns from."""
    digest = hashlib.sha256(repr(data.labels).encode())
    for array in (data.faces, data.classes, data.usages, *(() if votes is None else (votes,))):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _prepare(out: Path, recipe: Recipe, fingerprint: str, *, resume: bool) -> bool:
    """Make ``out`` ready and tell whether there is a checkpoint to go on from."""
    text = f"# SHA-256 of the data: {fingerprint}\n{tomli_w.dumps(msgspec.to_builtins(recipe))}"
    written = out / "recipe.toml"
    if not resume:
        if (out / _CHECKPOINT).exists() or (out / "model.keras").exists():
            raise InputError(f"{out}: holds a training run; add --resume to go on with it, or choose another --out")
    elif (out / _CHECKPOINT).exists():
        if not written.exists() or written.read_text(encoding="utf-8") != text:
            raise InputError(f"{out}: was begun with another recipe or other data; resume with the same options")
        return True
    else:
        logger.warning("%s: no checkpoint to resume, so training starts from the beginning", out)
    with replacing(written) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return False


def _optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    how = recipe.optimizer
    warmup = round(min(how.warmup_epochs, recipe.schedule.epochs / 4) * steps)
    rate = optimizers.schedules.CosineDecay(
        how.learning_rate / 20,
        max(recipe.schedule.epochs * steps - warmup, 1),
        warmup_target=how.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = optimizers.AdamW(rate, weight_decay=how.weight_decay)
    # Decaying these would only fight batch normalisation.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _stages(recipe: Recipe) -> list[tuple[int, int, int]]:
    """Picture size, first epoch and last epoch (exclusive) of each stage that has an epoch."""
    epochs, sizes = recipe.schedule.epochs, recipe.schedule.sizes
    # The last size gets at least one epoch, however short the run: the model is used at it.
    starts = [min(round(start * epochs), epochs - 1) for start, _ in sizes] + [epochs]
    return [(size, starts[i], starts[i + 1]) for i, (_, size) in enumerate(sizes) if starts[i] < starts[i + 1]]


class _Batches(keras.utils.PyDataset):
    """Augmented batches that depend on nothing but the recipe's seed, the epoch and the step."""

    def __init__(
        self,
        faces: npt.NDArray[np.uint8],
        targets: npt.NDArray[np.float32],
        recipe: Recipe,
        size: int,
        epoch: int,
    ) -> None:
        super().__init__(workers=1, max_queue_size=4)
        self._faces, self._targets, self._recipe = faces, targets, recipe
        self._size, self._epoch = size, epoch
        self._shuffle()

    def __len__(self) -> int:
        return len(self._faces) // self._recipe.optimizer.batch_size

    def __getitem__(self, step: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        batch = self._recipe.optimizer.batch_size
        chosen = self._order[step * batch : (step + 1) * batch]
        how = self._recipe.augmentation
        rng = np.random.default_rng((self._recipe.seed, self._epoch, step))
        faces = INPUT.normalise(augment(self._faces[chosen], self._size, how, rng))
        return mixup(faces, self._targets[chosen], how.mixup, rng)

    def on_epoch_end(self) -> None:
        self._epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        self._order = np.random.default_rng((self._recipe.seed, self._epoch)).permutation(len(self._faces))


class _Checkpoint(keras.callbacks.Callback):
    """Save model and optimizer after each epoch; how far a run came is in the optimizer's step count."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        with replacing(self._path) as temporary:
            self.model.save(temporary)


class _History(keras.callbacks.Callback):
    """One CSV row an epoch; when resuming, rows of epochs that will be done again are dropped."""

    _FIELDS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")

    def __init__(self, path: Path, done: int) -> None:
        super().__init__()
        self._path = path
        self._rows: list[dict[str, Any]] = []
        if done:
            with path.open(newline="", encoding="utf-8") as file:
                self._rows = list(csv.DictReader(file))[:done]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            # Before the checkpoint is written: the one before is still good.
            raise InputError(f"training diverged in epoch {epoch + 1}: lower optimizer.learning_rate in the recipe")
        values = {key: value for key, value in (logs or {}).items() if key in self._FIELDS}
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._rows.append({"epoch": epoch + 1, **values, "learning_rate": rate})
        with replacing(self._path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._FIELDS)
            writer.writeheader()
            writer.writerows(self._rows)
