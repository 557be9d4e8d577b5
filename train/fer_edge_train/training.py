"""Training: a dataset and a recipe in, a Keras model with its card, history and report out."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import keras
import msgspec
import numpy as np
import tomli_w

from fer_edge.errors import DataError, InputError, ModelError, first_line
from fer_edge.modelcard.archive import write_card
from fer_edge.modelcard.pixel_statistics import PixelStatistics
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard, InputSpec
from fer_edge.utils.atomic_file import replacing
from fer_edge_train.batch_norm import restate
from fer_edge_train.batch_workers import makers, makers_here
from fer_edge_train.batches import AugmentedBatches, Faces, PlainBatches
from fer_edge_train.calibration import Calibration
from fer_edge_train.callbacks import BEST, Average, Checkpoint, History, Plateau, Seeds, StopEarly, checkpoints, stopped
from fer_edge_train.hardware import resolved
from fer_edge_train.network import (
    AUXILIARY,
    BACKBONE,
    HEAD,
    as_used,
    build,
    first_head,
    load_trained,
    with_probabilities,
)
from fer_edge_train.optimizer import Rate, cosine, make_optimizer
from fer_edge_train.recipe import Transfer
from fer_edge_train.report import Judged, write_report
from fer_edge_train.targets import class_targets, class_weights, shares
from fer_edge_train.teachers import SoftLabels, Teachers
from fer_edge_train.torch_kernels import native_kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fer_edge.classification.metrics import Metrics
    from fer_edge.datasets.dataset import Dataset
    from fer_edge_train.recipe import Recipe
    from fer_edge_train.split import Parts

logger = logging.getLogger(__name__)

# With this scale and offset a pixel becomes an int8 of the quantised model by flipping one bit.
SCALE: Final = 1 / 128
OFFSET: Final = -1.0


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


@dataclass(frozen=True, slots=True)
class _Stage:
    """Epochs ``first`` to ``last`` (exclusive), on images of ``size``; each ``phase`` has an optimizer of its own."""

    size: int
    first: int
    last: int
    phase: range
    frozen: bool


def prepared(data: Dataset, recipe: Recipe) -> Dataset:
    """The dataset under the classes that a recipe learns.

    Raises:
        DataError: a label of the recipe is not in the data, or there are fewer than two.
    """
    if recipe.data.labels:
        if absent := [label for label in recipe.data.labels if label not in data.labels]:
            raise DataError(
                f"{data.name}: no faces of {', '.join(absent)}, which the recipe wants;"
                " fuse it with data that has them (--data, --map), or change data.labels"
            )
        data = data.with_labels(recipe.data.labels)
    if len(data.labels) < 2:
        raise DataError(f"{data.name}: one class only ({', '.join(data.labels)}); give at least two")
    return data


def check_start(recipe: Recipe, out: Path, *, taught: bool, resume: bool) -> None:
    """Refuse what cannot become a run before anything is read for it.

    Raises:
        InputError: ``out`` holds another run, or there are teachers of whom the recipe learns nothing.
    """
    if taught and not recipe.target.distillation:
        raise InputError("the recipe learns nothing from teachers; add --set target.distillation=0.5")
    check_folder(out, resume=resume)


def check_folder(out: Path, *, resume: bool) -> None:
    """Refuse to begin a run in a folder that holds one.

    Raises:
        InputError: ``out`` does.
    """
    if not resume and (checkpoints(out) or (out / "model.keras").exists()):
        raise InputError(f"{out}: holds a training run; add --resume to go on with it, or choose another --out")


def train(
    data: Dataset,
    parts: Parts,
    recipe: Recipe,
    name: str,
    out: Path,
    *,
    weights: Path | None = None,
    taught: SoftLabels | Teachers | None = None,
    resume: bool = False,
    made_by: tuple[str, ...] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Result:
    """Train a model, saving a checkpoint after every epoch.

    Args:
        data: faces, as `prepared`.
        parts: which of them are learnt from, which are watched, and which are only tested on at the end.
        recipe: how to train.
        name: name of the model on its card.
        out: folder for ``model.keras``, ``history.csv``, ``recipe.toml`` and ``report/``.
        weights: a ``.keras`` of the same network to begin from, or a backbone's weights for a transfer.
        taught: teachers' answers for the same faces, or teachers to ask about every image.
        resume: go on from the checkpoint in ``out``; without one, start.
        made_by: the commands that make the model and what it learns from, in order, for its card.
        callbacks: more Keras callbacks, such as a progress display.

    Raises:
        InputError: ``out`` holds another run, ``resume`` meets another recipe, or training diverged.
        ModelError: ``weights`` are those of another network.
    """
    target, count = recipe.target, len(data.labels)
    votes = data.votes_for(data.labels)
    if (target.votes or target.auxiliary) and votes is None:
        logger.warning("the recipe learns from FER+ votes and has none: its accuracy will be lower; give --votes")
    check_start(recipe, out, taught=taught is not None, resume=resume)
    if target.distillation and taught is None:
        logger.warning("the recipe learns from teachers and has none: its accuracy will be lower; give --teacher")
    done = begin(out, recipe, _fingerprint(data, weights, taught), resume=resume)

    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(resolved(recipe.precision))
    answers = taught.scores if isinstance(taught, SoftLabels) else None
    heads = {HEAD: class_targets(target, data.classes, count, votes, answers)}
    if target.auxiliary and votes is not None:
        heads[AUXILIARY] = shares(votes, np.eye(count, dtype=np.float32)[data.classes])
    balance = class_weights(data.classes[parts.kept], count, target.class_weight)[data.classes, None]
    weighted = {head: goal * balance for head, goal in heads.items()}
    spec = InputSpec(height=recipe.data.side, width=recipe.data.side, scale=SCALE, offset=OFFSET)
    watched = PlainBatches(Faces(data.faces, heads, parts.held, spec), recipe.optimizer.batch_size)
    learnt = Faces(data.faces, weighted, parts.kept, spec)
    steps = len(parts.kept) // recipe.optimizer.batch_size
    history = History(out / "history.csv", done)
    model = _model(recipe, data.labels, len(heads), weights, checkpoints(out).get(done))
    schedule = recipe.schedule
    keep_best = schedule.stop_epochs > 0
    last_stage = _stages(recipe)[-1].first
    average = Average(out, schedule.epochs, schedule.average_epochs, done, schedule.checkpoint_epochs)
    checkpoint = Checkpoint(
        out,
        history,
        best_from=last_stage if keep_best else None,
        every=schedule.checkpoint_epochs,
        epochs=schedule.epochs,
    )
    asked = taught if isinstance(taught, Teachers) else None
    with native_kernels(), makers(learnt.all, makers_here()) as crew:
        for stage in _stages(recipe):
            start = max(stage.first, done)
            if start >= stage.last or stopped(history, schedule, last_stage):
                continue
            if start == stage.phase.start:
                _compile(model, recipe, steps, stage, list(heads))
            rate = recipe.optimizer.learning_rate * _fine_tuning(recipe, stage)
            batches = AugmentedBatches(learnt, crew, recipe, stage.size, range(start, stage.last), teachers=asked)
            batches.teach(
                model,
                [
                    Seeds(recipe.seed),
                    history,
                    average,
                    checkpoint,
                    *([Plateau(schedule, history, rate, stage.phase.start)] if schedule.rate == "plateau" else []),
                    StopEarly(schedule, history, last_stage),
                    *callbacks,
                ],
                watched,
            )
    if keep_best:
        model = keras.models.load_model(out / BEST, compile=False)
    elif average.weights is not None:
        model.set_weights(average.weights)
    return _finish(model, data, recipe, parts, name=name, out=out, spec=spec, made_by=made_by)


def _finish(
    model: keras.Model,
    data: Dataset,
    recipe: Recipe,
    parts: Parts,
    *,
    name: str,
    out: Path,
    spec: InputSpec,
    made_by: tuple[str, ...],
) -> Result:
    """Calibrate, measure, report and save what was trained."""
    used = as_used(model, recipe.data.side)
    if recipe.schedule.statistics_faces:
        chosen = np.random.default_rng(recipe.seed).permutation(parts.kept)[: recipe.schedule.statistics_faces]
        seen = PlainBatches(Faces(data.faces, {}, chosen, spec), recipe.optimizer.batch_size)
        restate(used, (seen[step][0] for step in range(len(seen))))

    def predict(model: keras.Model, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        faces = PlainBatches(Faces(data.faces, {}, rows, spec), recipe.optimizer.batch_size)
        return np.asarray(model.predict(faces, verbose=0), np.float32)

    calibration = Calibration.fit(predict(used, parts.held), data.classes[parts.held])
    finished = with_probabilities(used, calibration)
    judged = {"held out": Judged.of(predict(finished, parts.held), parts.held, data)}
    if len(parts.tested):
        judged["tested on"] = Judged.of(predict(finished, parts.tested), parts.tested, data)
    validation = judged["held out"].metrics
    test = judged["tested on"].metrics if len(parts.tested) else None
    scores = {"float accuracy on held-out training faces": validation.accuracy}
    if test:
        tested = " and ".join(sorted(set(data.usages[parts.tested].tolist())))
        scores[f"float accuracy on {tested}"] = test.accuracy
    learnt = data.votes is not None and (recipe.target.votes or recipe.target.auxiliary)
    of_votes = ", FER+'s majority" if recipe.target.protocol == "ferplus" else ""
    of_votes += ", its annotators' votes in the targets" if learnt else ""
    names = " + ".join(Path(one).name for one in data.name.split(" + "))
    card = ClassifierCard(
        name=name,
        labels=data.labels,
        input=spec,
        pixels=PixelStatistics.from_faces(data.faces[parts.kept[:: len(parts.kept) // 2000 + 1]]),
        scores={what: round(score, 4) for what, score in scores.items()},
        made_by=made_by,
        data=f"{len(parts.kept)} training faces of {names}{of_votes}; {len(parts.held)} more watched",
        note="An expression is not a feeling: the scores say how a face looks, not what a person feels.",
    )
    result = Result(out / "model.keras", validation, test)
    with replacing(result.model) as temporary:
        finished.save(temporary)
        write_card(temporary, card)
    write_report(out, data, recipe, parts, judged, calibration=calibration)
    return result


def _fingerprint(data: Dataset, weights: Path | None, taught: SoftLabels | Teachers | None) -> str:
    """SHA-256 of all that a run learns from."""
    digest = hashlib.sha256(repr((data.labels, data.digest())).encode())
    for array in (data.classes, data.usages, data.votes):
        digest.update(b"none" if array is None else array.tobytes())
    if taught is not None:
        digest.update(taught.digest.encode())
    if weights:
        digest.update(weights.read_bytes())
    return digest.hexdigest()


def begin(out: Path, recipe: msgspec.Struct, fingerprint: str, *, resume: bool) -> int:
    """Make ``out`` ready and tell how many epochs are done."""
    tables = msgspec.to_builtins(recipe)
    text = f"# SHA-256 of all that was learnt from: {fingerprint}\n{tomli_w.dumps(tables)}"
    written = out / "recipe.toml"
    found = checkpoints(out)
    if resume and found:
        if not written.exists() or written.read_text(encoding="utf-8") != text:
            raise InputError(f"{out}: was begun with another recipe or other data; resume with the same options")
        return max(found)
    if resume:
        logger.warning("%s: no checkpoint to resume, so training starts from the beginning", out)
    with replacing(written) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return 0


def _model(
    recipe: Recipe, labels: tuple[str, ...], heads: int, weights: Path | None, checkpoint: Path | None
) -> keras.Model:
    if checkpoint:
        return load_checkpoint(checkpoint)
    # Where every stage has images of one size, a fixed size lets the compiler know it.
    sizes = {stage.size for stage in _stages(recipe)}
    size = sizes.pop() if len(sizes) == 1 else None
    transfer = isinstance(recipe.network, Transfer)
    auxiliary = len(labels) if heads > 1 else 0
    model = build(recipe.network, len(labels), size, auxiliary=auxiliary, weights=weights if transfer else None)
    if weights and not transfer:
        _begin_from(model, weights, labels)
    return model


def load_checkpoint(path: Path) -> keras.Model:
    """A model with its optimizer, as it was after an epoch.

    Raises:
        ModelError: the file is damaged.
    """
    try:
        return keras.models.load_model(path)
    except Exception as error:  # a damaged file can fail anywhere in Keras
        raise ModelError(
            f"{path}: Keras cannot load it ({first_line(error)}); delete the folder and start again"
        ) from error


def _begin_from(model: keras.Model, path: Path, labels: tuple[str, ...]) -> None:
    """Take over a trained model's weights; outputs of labels that it does not know stay as they are."""
    card = read_card(path, ClassifierCard)
    given = load_trained(path).get_weights()
    taker = first_head(model)
    own = taker.get_weights()
    # Of the last layer's, the number of outputs may differ.
    if [w.shape for w in given[:-2]] + [given[-2].shape[0]] != [w.shape for w in own[:-2]] + [own[-2].shape[0]]:
        raise ModelError(f"{path}: weights of another network than the recipe's; give a model that the recipe made")
    for i, label in enumerate(labels):
        if label in card.labels:
            for mine, theirs in zip(own[-2:], given[-2:], strict=True):
                mine[..., i] = theirs[..., card.labels.index(label)]
    taker.set_weights([*given[:-2], *own[-2:]])


def _compile(model: keras.Model, recipe: Recipe, steps: int, stage: _Stage, heads: list[str]) -> None:
    how, schedule = recipe.optimizer, recipe.schedule
    if isinstance(recipe.network, Transfer):
        model.get_layer(BACKBONE).trainable = not stage.frozen
    peak = how.learning_rate * _fine_tuning(recipe, stage)
    rate: Rate = peak
    if schedule.rate == "cosine":
        epochs = len(stage.phase)
        rate = cosine(peak, epochs * steps, round(min(schedule.warmup_epochs, epochs / 4) * steps))
    optimizer = make_optimizer(how, rate)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    if len(heads) == 1:
        model.compile(optimizer, loss, metrics=["accuracy"])
    else:
        weights = {HEAD: 1.0, AUXILIARY: recipe.target.auxiliary}
        model.compile(optimizer, dict.fromkeys(heads, loss), loss_weights=weights, metrics={HEAD: ["accuracy"]})


def _fine_tuning(recipe: Recipe, stage: _Stage) -> float:
    """What a stage multiplies the learning rate by."""
    if isinstance(recipe.network, Transfer) and not stage.frozen and stage.phase.start > 0:
        return recipe.network.fine_tuning
    return 1.0


def _stages(recipe: Recipe) -> list[_Stage]:
    """The stages that have an epoch."""
    epochs = recipe.schedule.epochs
    if isinstance(recipe.network, Transfer):
        # A run of one epoch that never fine-tuned would not be one of this recipe.
        frozen = min(recipe.network.frozen_epochs, epochs - 1)
        phases = [range(frozen), range(frozen, epochs)]
        return [_Stage(recipe.data.side, p.start, p.stop, p, i == 0) for i, p in enumerate(phases) if p]
    sizes = recipe.schedule.sizes or ((0.0, recipe.data.side),)
    return [_Stage(size, first, last, range(epochs), frozen=False) for size, first, last in stages(sizes, epochs)]


def stages(sizes: Sequence[tuple[float, int]], epochs: int) -> list[tuple[int, int, int]]:
    """The stages of a schedule that have an epoch.

    Args:
        sizes: share of the epochs at which each starts, and the size of its images.
        epochs: in all.

    Returns:
        Size, first epoch and last (exclusive) of each.
    """
    # The last size gets at least one epoch, however short the run: the model is used at it.
    starts = [min(round(start * epochs), epochs - 1) for start, _ in sizes] + [epochs]
    return [(size, starts[i], starts[i + 1]) for i, (_, size) in enumerate(sizes) if starts[i] < starts[i + 1]]
