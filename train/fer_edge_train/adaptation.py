"""Adapting a trained classifier to faces of one's own, so that it forgets little of what it knew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np
from scipy.special import softmax

from fer_edge.classification.comparison import change_of_accuracy
from fer_edge.classification.labels import canonical_label
from fer_edge.classification.metrics import measure
from fer_edge.datasets.dataset import TRAINING
from fer_edge.errors import DataError, ModelError
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_train.architectures.base import HEAD
from fer_edge_train.architectures.pretrained import Pretrained
from fer_edge_train.batch_workers import batch_workers, worker_count
from fer_edge_train.batches import FaceSource, PlainBatches, WeightedBatch, weigh
from fer_edge_train.callbacks import has_stopped
from fer_edge_train.finish import CalibrationFaces, finish, predict
from fer_edge_train.make_batch import BankAnswers, BatchSource, RehearsalSource, make_rehearsal_batch
from fer_edge_train.network import freeze_early_layers, load_trained
from fer_edge_train.prefetch import PrefetchedBatches
from fer_edge_train.run_folder import RunFolder, fingerprint
from fer_edge_train.targets import class_targets, class_weights
from fer_edge_train.training import compile_phase, phase_callbacks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.classification.comparison import AccuracyChange
    from fer_edge.classification.metrics import Metrics
    from fer_edge.datasets.dataset import Dataset
    from fer_edge.modelcard.schema import InputSpec
    from fer_edge_train.batch_workers import BatchWorkers
    from fer_edge_train.finish import ClassifierResult
    from fer_edge_train.recipe import Adaptation, Recipe
    from fer_edge_train.rehearsal import Rehearsal
    from fer_edge_train.split import Split

_TEMPERATURE_SPREAD: Final = 0.25  # of its logarithm: the model is calibrated before, and few faces are at hand


@dataclass(frozen=True, slots=True)
class AdaptationResult:
    """Result of an adaptation.

    Attributes:
        trained: the model and its scores.
        before: scores of the model before, on the held-out faces.
        change: of the accuracy on the held-out faces.
        same_answers: share of the watched faces of other data for which the answer is the same as before; None without
            such faces.
    """

    trained: ClassifierResult
    before: Metrics
    change: AccuracyChange
    same_answers: float | None


def check_start_model(path: Path) -> ClassifierCard:
    """Return the card of a model that can be adapted.

    Raises:
        ModelError: the file cannot be read, or is no grey, square classifier.
    """
    card = read_card(path, ClassifierCard)
    given = card.input
    if given.height != given.width or given.channels != 1 or given.per_image:
        raise ModelError(f"{path}: it takes other images than grey squares; adapt a model of `fer-edge train`")
    return card


def take_own_labels(data: Dataset, labels: tuple[str, ...], adaptation: Adaptation, start: Path) -> Dataset:
    """Return faces of one's own with the labels of the model that is adapted to them.

    Raises:
        DataError: the model does not have a label, there are no training faces, or fewer than two classes have enough.
    """
    known = set(map(canonical_label, labels))
    if unknown := [label for label in data.labels if canonical_label(label) not in known]:
        raise DataError(
            f"{data.name}: {start} has no label {' or '.join(unknown)}; it has {', '.join(labels)};"
            " rename or leave out labels with --map"
        )
    training = data.usages == TRAINING
    if not training.any():
        raise DataError(f"{data.name}: no faces to learn from; put them into train/LABEL/")
    counts = np.bincount(data.classes[training], minlength=len(data.labels))
    enough = counts >= adaptation.min_faces
    if enough.sum() < 2:
        found = ", ".join(f"{label} {count}" for label, count in zip(data.labels, counts, strict=True))
        raise DataError(
            f"{data.name}: too few training faces ({found}); label {adaptation.min_faces} or more of each of two"
            " classes at least"
        )
    return data.with_labels(labels)


def adapt(
    data: Dataset,
    split: Split,
    rehearsal: Rehearsal | None,
    recipe: Recipe,
    adaptation: Adaptation,
    *,
    start: Path,
    out: Path,
    name: str,
    resume: bool = False,
    made_by: tuple[str, ...] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> AdaptationResult:
    """Adapt a classifier, and save the run as `fer_edge_train.training.train` does.

    Args:
        data: faces of one's own, with the labels of the model.
        split: which of them are for training, validation and test.
        rehearsal: what keeps the model from forgetting; None to pull it to the weights that it had.
        recipe: how to train.
        adaptation: its section.
        start: ``.keras`` file of the model.
        out: folder of the run.
        name: name of the adapted model on its card.
        resume: whether to continue from the checkpoint in ``out``, if there is one.
        made_by: for the card, the commands that made the model.
        callbacks: more Keras callbacks.

    Raises:
        InputError: ``out`` holds another run, a resumed run had another recipe, or training diverged.
        ModelError: the model is none of `fer-edge train`.
    """
    folder = RunFolder(out)
    folder.check_can_start(resume=resume)
    epochs_done = folder.begin(recipe, fingerprint(_all_data(data, rehearsal, start)), resume=resume)
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy("float32")
    spec = check_start_model(start).input
    old = load_start_model(start)
    before = predict(keras.Model(old.input, old.output[HEAD]), data.faces, spec, split.validation, batch_size=256)
    model = folder.load_checkpoint(epochs_done)
    schedule = recipe.schedule
    record = folder.record(schedule, epochs_done)
    (phase,) = recipe.network.phases(schedule.epochs)
    if model is None:
        model = load_start_model(start)
        assert isinstance(recipe.network, Pretrained)  # noqa: S101 - the recipe has checked it
        freeze_early_layers(model, recipe.network.frozen)
        compile_phase(model, recipe, adaptation.steps, phase, [HEAD])
    pull = [] if rehearsal or not adaptation.pull else [PullToStart(old.get_weights(), adaptation.pull)]
    source = _source(data, split, rehearsal, recipe)
    epochs = range(epochs_done, schedule.epochs)
    if epochs and not has_stopped(record.history, schedule, 0):
        with batch_workers(source, worker_count()) as workers:
            batches = RehearsalBatches(source, split.train, workers, recipe, adaptation, spec=spec, epochs=epochs)
            every = [*pull, *phase_callbacks(recipe, record, phase, 0), *callbacks]
            batches.fit(model, every, _validation(data, split, rehearsal, spec))
    rehearsed = f"; {len(rehearsal.faces)} faces of {rehearsal.name} rehearsed" if rehearsal else "; nothing rehearsed"
    trained = finish(
        folder.final_model(model, record),
        data,
        recipe,
        split,
        _calibration_faces(data, split, rehearsal),
        name=name,
        folder=folder,
        spec=spec,
        made_by=made_by,
        rehearsed=rehearsed,
    )
    finished = load_trained(trained.model)
    after = predict(finished, data.faces, spec, split.validation, batch_size=256)
    truth = data.classes[split.validation]
    same = None
    if rehearsal:
        now = predict(finished, rehearsal.watched, spec, batch_size=256)
        same = float((now.argmax(axis=1) == rehearsal.watched_answers.argmax(axis=1)).mean())
    return AdaptationResult(
        trained,
        measure(softmax(before, axis=1), truth, data.labels),
        change_of_accuracy(before.argmax(axis=1) == truth, after.argmax(axis=1) == truth),
        same,
    )


def load_start_model(path: Path) -> keras.Model:
    """Load a finished classifier as it is trained: from images to a dictionary with its logits.

    Raises:
        ModelError: the file cannot be read, or is none of `fer-edge train`.
    """
    model = load_trained(path)
    try:
        return keras.Model(model.input, {HEAD: model.get_layer(HEAD).output})
    except ValueError as error:
        raise ModelError(
            f"{path}: a network without the output layer of `fer-edge train`; adapt a model that it made"
        ) from error


class PullToStart(keras.callbacks.Callback):
    """Pulls the weights towards those that the model had before, after each training step."""

    def __init__(self, start: list[npt.NDArray[np.float32]], strength: float) -> None:
        """Take the weights in the order of ``model.weights``, and the strength of the pull."""
        super().__init__()
        self._start, self._strength = start, strength

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Take back a part of the change."""
        share = min(self._strength * float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)), 1.0)
        trainable = {id(variable) for variable in self.model.trainable_variables}
        for variable, start in zip(self.model.weights, self._start, strict=True):
            if id(variable) in trainable:
                variable.assign(variable + share * (start - variable))


class RehearsalBatches(PrefetchedBatches):
    """Batches of one's own faces and of those that are rehearsed, which depend on nothing but seed, epoch and step."""

    def __init__(
        self,
        source: RehearsalSource,
        own_rows: npt.NDArray[np.int64],
        workers: BatchWorkers,
        recipe: Recipe,
        adaptation: Adaptation,
        *,
        spec: InputSpec,
        epochs: range,
    ) -> None:
        """Make the batches of ``epochs``.

        Args:
            source: what batches are made from.
            own_rows: the training faces of one's own.
            workers: make batches of ``source``.
            recipe: batch size, augmentation and seed.
            adaptation: steps in an epoch, and the share of rehearsal.
            spec: input of the model.
            epochs: the epochs, counted from 0.
        """
        super().__init__(workers, adaptation.steps, epochs)
        self._recipe, self._spec = recipe, spec
        size = recipe.optimizer.batch_size
        rehearsed = round(adaptation.rehearsal * size) if source.rehearsal else 0
        self._own = _Cycle(own_rows, max(size - rehearsed, 1), recipe.seed)
        others = np.arange(len(source.rehearsal.faces) if source.rehearsal else 0)
        self._rehearsal = _Cycle(others, rehearsed, recipe.seed + 1)

    def make(self, epoch: int, step: int) -> WeightedBatch:
        """Make images of shape (batch, side, side, 1), their targets and the weights of the faces."""
        number = epoch * len(self) + step
        rows = self._own.take(number), self._rehearsal.take(number)
        faces, targets = self._batch_workers.run(
            make_rehearsal_batch, rows, self._spec.height, self._recipe, (epoch, step)
        )
        return weigh(self._spec.normalize(faces), targets)


class _Cycle:
    """Rows in random order, all of them before any comes again."""

    def __init__(self, rows: npt.NDArray[np.int64], count: int, seed: int) -> None:
        """Give ``count`` rows at a time."""
        self._rows, self._count, self._seed = rows, count, seed

    def take(self, number: int) -> npt.NDArray[np.int64]:
        """Return the rows of a batch, by its number."""
        if not self._count or not len(self._rows):
            return np.array([], np.int64)
        at = np.arange(number * self._count, (number + 1) * self._count)
        rounds = at // len(self._rows)
        orders = {one: np.random.default_rng((self._seed, int(one))).permutation(self._rows) for one in set(rounds)}
        return np.array([orders[one][place] for one, place in zip(rounds, at % len(self._rows), strict=True)])


def _source(data: Dataset, split: Split, rehearsal: Rehearsal | None, recipe: Recipe) -> RehearsalSource:
    """Make what batches are made from; each class of one's own has the same weight."""
    count = len(data.labels)
    balance = class_weights(data.classes[split.train], count, recipe.target.class_weight)[data.classes, None]
    own = BatchSource(data.faces.view(np.ndarray), {HEAD: balance * class_targets(recipe.target, data.classes, count)})
    if rehearsal is None:
        return RehearsalSource(own, None)
    answers = BankAnswers(rehearsal.bank, np.arange(len(rehearsal.faces)), HEAD, share=1.0)
    whole = np.full((len(rehearsal.faces), count), 1 / count, np.float32)  # of which the answers take all
    return RehearsalSource(own, BatchSource(rehearsal.faces, {HEAD: whole}, answers))


def _validation(data: Dataset, split: Split, rehearsal: Rehearsal | None, spec: InputSpec) -> PlainBatches:
    """Return what chooses the epoch: the held-out faces of one's own, and as many watched ones with the old answers."""
    faces, targets = data.faces[split.validation], np.eye(len(data.labels), dtype=np.float32)
    hard = targets[data.classes[split.validation]]
    if rehearsal:
        count = min(len(faces), len(rehearsal.watched))
        faces = np.concatenate([faces, rehearsal.watched[:count]])
        hard = np.concatenate([hard, rehearsal.watched_answers[:count]])
    return PlainBatches(FaceSource(faces, {HEAD: hard}, np.arange(len(faces)), spec), 256)


def _calibration_faces(data: Dataset, split: Split, rehearsal: Rehearsal | None) -> CalibrationFaces:
    """Return the held-out faces and, with the same weight in all, the watched ones with the old answers."""
    own = CalibrationFaces.of(data, split.validation)
    faces, targets = own.faces, own.targets
    if rehearsal:
        weight = len(own.faces) / len(rehearsal.watched)
        faces = np.concatenate([faces, rehearsal.watched])
        targets = np.concatenate([targets, np.float32(weight) * rehearsal.watched_answers])
    return CalibrationFaces(faces, targets, _TEMPERATURE_SPREAD)


def _all_data(data: Dataset, rehearsal: Rehearsal | None, start: Path) -> Iterator[bytes]:
    """Everything that a run learns from."""
    yield repr((data.labels, data.digest())).encode()
    yield data.classes.tobytes()
    yield data.usages.tobytes()
    if rehearsal:
        yield repr((rehearsal.bank.faces, rehearsal.bank.views)).encode()
        yield rehearsal.bank.codes.tobytes()
    yield start.read_bytes()
