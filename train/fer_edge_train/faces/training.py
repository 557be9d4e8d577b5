"""Training a face detector: marked images and a recipe in, a Keras model with its card, history and report out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import keras
import msgspec

from fer_edge.detection.yunet import YuNetDetector
from fer_edge.errors import DataError, ModelError
from fer_edge.geometry import CropSpec
from fer_edge.modelcard.archive import write_card
from fer_edge.modelcard.schema import DetectorCard
from fer_edge.utils.atomic_file import replacing
from fer_edge_train.batch_workers import makers, makers_here
from fer_edge_train.callbacks import Average, Checkpoint, History, checkpoints
from fer_edge_train.faces.batches import PIXELS, SceneBatches, stock
from fer_edge_train.faces.losses import FacesLoss
from fer_edge_train.faces.network import as_used, begin_from, build
from fer_edge_train.faces.recipe import STRIDES
from fer_edge_train.faces.report import Judged, compare, write_report
from fer_edge_train.faces.teacher import check
from fer_edge_train.faces.validation import ALARMS, SIDE, Validation, find
from fer_edge_train.network import load_trained
from fer_edge_train.optimizer import cosine, make_optimizer
from fer_edge_train.torch_kernels import native_kernels
from fer_edge_train.training import begin, check_folder, load_checkpoint, stages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.detection.metrics import Matches
    from fer_edge_train.faces.recipe import Data, FacesRecipe
    from fer_edge_train.faces.scenes import Stock


# Of a detector that gives no false alarms at all, which a larger set of images would show.
LEAST_THRESHOLD: Final = 0.1
_SMALLEST: Final = 2  # times the smallest that are learnt from: of those, too few are found to shrink images for them
# Of boxes from brow to chin, as the labels have them: measured by benchmarks/crop_margin.py.
_CROP_SPEC: Final = CropSpec(scale=0.95, shift=-0.05, align_eyes=True)


@dataclass(frozen=True, slots=True)
class Result:
    """What a training run gave.

    Attributes:
        model: path of the finished ``model.keras``.
        matches: what it finds in the validation images, beside the faces in them.
    """

    model: Path
    matches: Matches


def train(
    data: FaceDataset,
    watched: FaceDataset,
    recipe: FacesRecipe,
    out: Path,
    *,
    pasted: npt.NDArray[np.uint8] | None = None,
    weights: Path | None = None,
    teacher: Path | None = None,
    resume: bool = False,
    made_by: tuple[str, ...] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Result:
    """Train a detector, saving a checkpoint after every epoch.

    Args:
        data: images with marked faces, to learn from.
        watched: more of them, to measure by.
        recipe: how to train.
        out: folder for ``model.keras``, ``history.csv``, ``recipe.toml`` and ``report/``.
        pasted: faces to paste into scenes, uint8 of shape (n, side, side).
        weights: a detector's ``.keras`` to begin from, of the same network or one of fewer blocks.
        teacher: YuNet's ONNX file, which is asked what it sees in every scene, and compared with in the report.
        resume: go on from the checkpoint in ``out``; without one, start.
        made_by: the commands that make the model and what it learns from, in order, for its card.
        callbacks: more Keras callbacks, such as a progress display.

    Raises:
        DataError: an image cannot be read, there are too few, or none to measure by.
        InputError: ``out`` holds another run, ``resume`` meets another recipe, or training diverged.
        ModelError: ``weights`` are those of another network, or ``teacher`` is no YuNet.
    """
    check_folder(out, resume=resume)
    data = wanted(data, recipe.data)
    if len(data) < recipe.optimizer.batch_size:
        raise DataError(
            f"{data.name}: {len(data)} images, but a batch takes {recipe.optimizer.batch_size}: give more, or"
            f" --set optimizer.batch_size={max(len(data), 1)}"
        )
    check_watched(watched)
    keras.utils.set_random_seed(recipe.seed)
    compared_with = YuNetDetector(teacher, threshold=0.3) if teacher else None
    source = stock(data, recipe.data, pasted, teacher)
    if source.teacher:
        check(source.teacher)
    done = begin(out, recipe, fingerprint(source, weights), resume=resume)
    grays = [watched.gray(i) for i in range(len(watched))]
    checkpoint = checkpoints(out).get(done)
    model = load_checkpoint(checkpoint) if checkpoint else build(recipe.network)
    network = as_used(model)
    if weights and not checkpoint:
        _begin_from(network, weights)
    steps = len(data) // recipe.optimizer.batch_size
    schedule = recipe.schedule
    rate = cosine(
        recipe.optimizer.learning_rate,
        schedule.epochs * steps,
        round(min(schedule.warmup_epochs, schedule.epochs / 4) * steps),
    )
    optimizer = model.optimizer if checkpoint else make_optimizer(recipe.optimizer, rate)
    history = History(out / "history.csv", done)
    average = Average(out, schedule.epochs, schedule.average_epochs, done, schedule.checkpoint_epochs)
    saving = Checkpoint(out, history, every=schedule.checkpoint_epochs, epochs=schedule.epochs)
    with native_kernels(), makers(source, makers_here()) as crew:
        for side, first, last in stages(schedule.sizes, schedule.epochs):
            if last <= done:
                continue
            model.compile(optimizer, FacesLoss(side, taught=teacher is not None, **msgspec.to_builtins(recipe.loss)))
            SceneBatches(crew, source.drawn, recipe, side, range(max(first, done), last)).teach(
                model,
                [
                    Validation(lambda: find(network, grays), watched.images, schedule.epochs, schedule.measure_epochs),
                    history,
                    average,
                    saving,
                    *callbacks,
                ],
            )
    if average.weights is not None:
        model.set_weights(average.weights)
    judged = Judged.of(watched, grays, find(network, grays))
    matches = judged.matches
    card = DetectorCard(
        name="faces",
        input=PIXELS,
        strides=STRIDES,
        threshold=max(round(matches.threshold_at(ALARMS), 3), LEAST_THRESHOLD),
        smallest_face=_SMALLEST * recipe.augmentation.smallest,
        crop_spec=_CROP_SPEC,
        scores={
            f"average precision on faces of {SIDE:.0f} pixels and more": round(matches.average_precision(SIDE), 4),
            f"recall of them at {ALARMS} false alarms an image": round(
                matches.recall(matches.threshold_at(ALARMS), SIDE), 4
            ),
        },
        made_by=made_by,
        data=f"{len(data)} images, {sum(len(one.boxes) for one in data.images)} faces; {len(watched)} more watched",
        note="It finds faces; it does not tell whose they are.",
    )
    result = Result(out / "model.keras", matches)
    with replacing(result.model) as temporary:
        network.save(temporary)
        write_card(temporary, card)
    compared = compare(judged, compared_with) if compared_with else []
    write_report(out, recipe.summary, judged, compared, history.rows)
    return result


def wanted(data: FaceDataset, how: Data) -> FaceDataset:
    """The images of the sources that a recipe does not leave out."""
    _check_labelled(data)
    return data.subset(
        i for i, one in enumerate(data.images) if not (how.leave_out and one.name.startswith(how.leave_out))
    )


def _check_labelled(data: FaceDataset) -> None:
    if not data.labelled:
        raise DataError(f"{data.name}: no labels.csv, which says where the faces are; give a folder that has it")


def check_watched(watched: FaceDataset) -> None:
    """Refuse images by which no detector can be measured."""
    _check_labelled(watched)
    if not any((one.boxes[:, 2:] >= SIDE).any() for one in watched.images):
        raise DataError(
            f"{watched.name}: no face of {SIDE:.0f} pixels or more is marked there; give some to measure by"
        )


def _begin_from(network: keras.Model, path: Path) -> None:
    """Take over a trained detector's weights."""
    if not begin_from(network, load_trained(path)):
        raise ModelError(f"{path}: weights of another network than the recipe's; give a detector that it made")


def fingerprint(source: Stock, model: Path | None) -> str:
    """SHA-256 of all that a run learns from, ``model`` among it."""
    digest = hashlib.sha256(source.pasted.tobytes() + source.drawn.tobytes())
    for gray, marked in source.images:
        for array in (gray, *marked):
            digest.update(repr(array.shape).encode() + array.tobytes())
    for file in (model, source.teacher.file if source.teacher else None):
        if file:
            digest.update(file.read_bytes())
    return digest.hexdigest()
