"""Training a classifier: from a dataset and a recipe to a Keras model with its card, history and report."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

import keras
import numpy as np

from fer_edge.datasets.dataset import TRAINING
from fer_edge.errors import DataError, InputError
from fer_edge.modelcard.schema import InputSpec
from fer_edge_train.architectures.base import AUXILIARY, HEAD, Phase
from fer_edge_train.batch_workers import batch_workers, worker_count
from fer_edge_train.batches import AugmentedBatches, FaceSource, PlainBatches
from fer_edge_train.callbacks import EarlyStopping, PlateauRate, SeedDropout, has_stopped
from fer_edge_train.finish import CalibrationFaces, finish
from fer_edge_train.hardware import resolve_precision
from fer_edge_train.make_batch import BankAnswers
from fer_edge_train.network import copy_classifier_weights
from fer_edge_train.optimizer import make_optimizer, make_rate
from fer_edge_train.run_folder import RunFolder, fingerprint
from fer_edge_train.targets import class_targets, class_weights, vote_shares
from fer_edge_train.torch_kernels import native_kernels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets.dataset import Dataset
    from fer_edge_train.bank import Bank
    from fer_edge_train.finish import ClassifierResult
    from fer_edge_train.recipe import Recipe
    from fer_edge_train.run_folder import RunRecord
    from fer_edge_train.split import Split

logger = logging.getLogger(__name__)

# With this scale and offset, a pixel becomes an int8 of the quantized model by flipping one bit.
SCALE: Final = 1 / 128
OFFSET: Final = -1.0


class _Stage(NamedTuple):
    """Consecutive epochs of one phase with images of one size."""

    size: int
    epochs: range
    phase: Phase


def apply_labels(data: Dataset, recipe: Recipe) -> Dataset:
    """Return the dataset with the labels of a recipe.

    Raises:
        DataError: a label of the recipe is not in the data, or there are fewer than two.
    """
    if recipe.data.labels:
        if missing := [label for label in recipe.data.labels if label not in data.labels]:
            raise DataError(
                f"{data.name}: no faces of {', '.join(missing)}, which the recipe needs;"
                " add data that has them (--data, --map), or change data.labels"
            )
        data = data.with_labels(recipe.data.labels)
    if len(data.labels) < 2:
        raise DataError(f"{data.name}: only one class ({', '.join(data.labels)}); give at least two")
    return data


def check_start(recipe: Recipe, out: Path, *, with_teachers: bool, resume: bool) -> None:
    """Refuse wrong options before any data is read.

    Raises:
        InputError: ``out`` holds another run, or the recipe does not use the teachers.
    """
    if with_teachers and not recipe.target.distillation:
        raise InputError("this recipe does not use teachers; add --set target.distillation=0.5")
    RunFolder(out).check_can_start(resume=resume)


def train(
    data: Dataset,
    split: Split,
    recipe: Recipe,
    name: str,
    out: Path,
    *,
    weights: Path | None = None,
    bank: Bank | None = None,
    resume: bool = False,
    made_by: tuple[str, ...] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> ClassifierResult:
    """Train a classifier and save checkpoints.

    Args:
        data: faces, as `apply_labels` returns them.
        split: which faces are for training, validation and test.
        recipe: how to train.
        name: name of the model on its card.
        out: folder for ``model.keras``, ``history.csv``, ``recipe.toml`` and ``report/``.
        weights: a ``.keras`` of the same network to start from, or the weights of a backbone.
        bank: teachers' answers for the Training faces.
        resume: whether to continue from the checkpoint in ``out``, if there is one.
        made_by: for the card, the commands that made the model and what it learns from, in order.
        callbacks: more Keras callbacks, such as a progress display.

    Raises:
        InputError: ``out`` holds another run, a resumed run had another recipe, or training diverged.
        ModelError: ``weights`` are those of another network.
    """
    options, schedule = recipe.target, recipe.schedule
    votes = data.votes_for(data.labels)
    if (options.votes or options.auxiliary) and votes is None:
        logger.warning("the recipe learns from FER+ votes, but none are given: accuracy will be lower; give --votes")
    check_start(recipe, out, with_teachers=bank is not None, resume=resume)
    if options.distillation and bank is None:
        logger.warning(
            "the recipe learns from teachers, but none are given: accuracy will be lower; give --bank or --teacher"
        )
    folder = RunFolder(out)
    epochs_done = folder.begin(recipe, fingerprint(_training_data(data, weights, bank)), resume=resume)

    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(resolve_precision(recipe.precision))
    heads = _targets(data, recipe, votes)
    balance = class_weights(data.classes[split.train], len(data.labels), options.class_weight)[data.classes, None]
    weighted = {head: target * balance for head, target in heads.items()}
    spec = InputSpec(height=recipe.data.side, width=recipe.data.side, scale=SCALE, offset=OFFSET)
    validation = PlainBatches(FaceSource(data.faces, heads, split.validation, spec), recipe.optimizer.batch_size)
    answers = _bank_answers(data, recipe, bank) if bank else None
    source = FaceSource(data.faces, weighted, split.train, spec, answers)
    steps = len(split.train) // recipe.optimizer.batch_size
    stages = _stages(recipe)
    last_stage = stages[-1].epochs.start
    record = folder.record(schedule, epochs_done, best_from=last_stage)
    model = folder.load_checkpoint(epochs_done) or _new_model(recipe, data.labels, len(heads), weights)
    with native_kernels(), batch_workers(source.arrays, worker_count()) as workers:
        for stage in stages:
            epochs = range(max(stage.epochs.start, epochs_done), stage.epochs.stop)
            if not epochs or has_stopped(record.history, schedule, last_stage):
                continue
            if epochs.start == stage.phase.epochs.start:
                compile_phase(model, recipe, steps, stage.phase, list(heads))
            batches = AugmentedBatches(source, workers, recipe, stage.size, epochs)
            batches.fit(model, [*phase_callbacks(recipe, record, stage.phase, last_stage), *callbacks], validation)
    model = folder.final_model(model, record)
    calibration = CalibrationFaces.of(data, _calibration_faces(split, answers))
    return finish(model, data, recipe, split, calibration, name=name, folder=folder, spec=spec, made_by=made_by)


def _bank_answers(data: Dataset, recipe: Recipe, bank: Bank) -> BankAnswers:
    """Find the faces of a dataset that a bank is for."""
    return BankAnswers(bank, np.flatnonzero(data.usages == TRAINING), HEAD, recipe.target.distillation)


def _calibration_faces(split: Split, answers: BankAnswers | None) -> npt.NDArray[np.int64]:
    """Choose the held-out faces that no teacher has learnt from, if there are any."""
    unseen = split.validation[answers.unseen(split.validation)] if answers else split.validation
    if seen := len(split.validation) - len(unseen):
        logger.warning(
            "teachers have learnt from %d of %d held-out faces, so the accuracy there is too high; %s",
            seen,
            len(split.validation),
            "scores are calibrated on the others" if len(unseen) else "scores are calibrated on them, too",
        )
    return unseen if len(unseen) else split.validation


def _training_data(data: Dataset, weights: Path | None, bank: Bank | None) -> Iterator[bytes]:
    """Everything that a run learns from."""
    yield repr((data.labels, data.digest())).encode()
    for array in (data.classes, data.usages, data.votes):
        yield b"none" if array is None else array.tobytes()
    if bank is not None:
        yield repr(bank.views).encode()
        yield bank.codes.tobytes()
    if weights:
        yield weights.read_bytes()


def _targets(
    data: Dataset, recipe: Recipe, votes: npt.NDArray[np.float32] | None
) -> dict[str, npt.NDArray[np.float32]]:
    """Compute the targets of each head, without class weights and teachers."""
    count = len(data.labels)
    heads = {HEAD: class_targets(recipe.target, data.classes, count, votes)}
    if recipe.target.auxiliary and votes is not None:
        heads[AUXILIARY] = vote_shares(votes, np.eye(count, dtype=np.float32)[data.classes])
    return heads


def _new_model(recipe: Recipe, labels: tuple[str, ...], heads: int, weights: Path | None) -> keras.Model:
    # If all stages have images of one size, a fixed size lets the compiler know it.
    sizes = {stage.size for stage in _stages(recipe)}
    size = sizes.pop() if len(sizes) == 1 else None
    network = recipe.network
    backbone = weights if network.takes_backbone_weights else None
    model = network.build(len(labels), size, auxiliary=len(labels) if heads > 1 else 0, weights=backbone)
    if weights and not backbone:
        copy_classifier_weights(model, weights, labels)
    return model


def _stages(recipe: Recipe) -> list[_Stage]:
    """Divide a run into parts with one phase and one image size."""
    parts = [
        _Stage(size, range(max(epochs.start, phase.epochs.start), min(epochs.stop, phase.epochs.stop)), phase)
        for phase in recipe.network.phases(recipe.schedule.epochs)
        for size, epochs in recipe.schedule.stages(recipe.data.side)
    ]
    return [part for part in parts if part.epochs]


def compile_phase(model: keras.Model, recipe: Recipe, steps: int, phase: Phase, heads: list[str]) -> None:
    """Give a model the optimizer and the losses of a phase.

    Args:
        model: from images to a dictionary with the logits of each head.
        recipe: how to train.
        steps: training steps in an epoch.
        phase: the phase.
        heads: names of the heads.
    """
    recipe.network.set_trainable(model, phase)
    peak = recipe.optimizer.learning_rate * phase.rate_factor
    rate = make_rate(recipe.schedule, peak, len(phase.epochs), steps)
    optimizer = make_optimizer(recipe.optimizer, rate)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    if len(heads) == 1:
        model.compile(optimizer, loss, metrics=["accuracy"])
    else:
        weights = {HEAD: 1.0, AUXILIARY: recipe.target.auxiliary}
        model.compile(optimizer, dict.fromkeys(heads, loss), loss_weights=weights, metrics={HEAD: ["accuracy"]})


def phase_callbacks(recipe: Recipe, record: RunRecord, phase: Phase, last_stage: int) -> list[keras.callbacks.Callback]:
    """Return the callbacks of a phase: what records the run, changes its rate and stops it.

    Args:
        recipe: how to train.
        record: of the run.
        phase: the phase.
        last_stage: first epoch that may be the best one.
    """
    schedule = recipe.schedule
    rate = recipe.optimizer.learning_rate * phase.rate_factor
    plateau = PlateauRate(schedule, record.history, rate, phase.epochs.start)
    return [
        SeedDropout(recipe.seed),
        *record.callbacks,
        *([plateau] if schedule.rate == "plateau" else []),
        EarlyStopping(schedule, record.history, last_stage),
    ]
