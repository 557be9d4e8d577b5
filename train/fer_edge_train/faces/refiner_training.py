"""Training the second stage of a face detector: from a first stage and a recipe to a Keras model with its card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import keras

from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.yunet import YuNetDetector
from fer_edge.errors import DataError
from fer_edge.geometry import CropSpec
from fer_edge.modelcard.schema import RefinerCard
from fer_edge_train.batch_workers import batch_workers, worker_count
from fer_edge_train.faces.detector_batches import PIXELS
from fer_edge_train.faces.detector_evaluation import DetectorEvaluation, compare_detectors
from fer_edge_train.faces.detector_network import copy_detector_weights
from fer_edge_train.faces.detector_report import write_detector_report
from fer_edge_train.faces.detector_run import (
    DetectorResult,
    card_data,
    card_scores,
    card_threshold,
    check_validation,
    select_images,
    training_data,
)
from fer_edge_train.faces.detector_validation import DetectorValidation
from fer_edge_train.faces.refiner_batches import ProposalBatches, collect_proposals
from fer_edge_train.faces.refiner_loss import RefinerLoss
from fer_edge_train.faces.refiner_network import build_refiner, to_inference_refiner
from fer_edge_train.faces.refiner_proposals import ProposalSource
from fer_edge_train.faces.refiner_validation import ValidationProposals
from fer_edge_train.faces.scene_sources import load_sources
from fer_edge_train.optimizer import make_optimizer, make_rate
from fer_edge_train.run_folder import RunFolder, fingerprint
from fer_edge_train.torch_kernels import native_kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge_train.faces.refiner_recipe import RefinerRecipe

# For boxes as YuNet finds them in close-ups, whose centres are those of the faces. Measured by
# benchmarks/crop_margin.py.
_CROP_SPEC: Final = CropSpec(scale=0.95, shift=0.0, align_eyes=True)
_FALSE_ALARMS: Final = 0.005  # per image, at the card's threshold: a camera sees empty rooms for months


def train_refiner(
    data: FaceDataset,
    validation: FaceDataset,
    detector: Path,
    recipe: RefinerRecipe,
    out: Path,
    *,
    pasted: npt.NDArray[np.uint8] | None = None,
    teacher: Path | None = None,
    weights: Path | None = None,
    resume: bool = False,
    made_by: tuple[str, ...] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> DetectorResult:
    """Train the second stage of a detector and save checkpoints.

    Args:
        data: images with annotated faces, to make scenes from.
        validation: more of them, to measure with.
        detector: the first stage, a ``.tflite`` with its card. A second stage in it is not used.
        recipe: how to train.
        out: folder for ``model.keras``, ``history.csv``, ``recipe.toml`` and ``report/``.
        pasted: faces to paste into scenes, uint8 of shape (n, side, side).
        teacher: YuNet's ONNX file. It gives targets for every scene, and the report compares with it.
        weights: a second stage's ``.keras`` to start from, of the recipe's network.
        resume: whether to continue from the checkpoint in ``out``, if there is one.
        made_by: for the card, the commands that made the model and what it learns from, in order.
        on_progress: called with the number of scenes that the first stage has processed and the number of all.
        callbacks: more Keras callbacks, such as a progress display.

    Raises:
        DataError: an image cannot be read, there are too few, or none to measure with.
        InputError: ``out`` holds another run, a resumed run had another recipe, or training diverged.
        ModelError: ``detector`` is not a detector, ``teacher`` is not a YuNet, or ``weights`` are those of another
            network.
    """
    folder = RunFolder(out)
    folder.check_can_start(resume=resume)
    first_stage = NetworkDetector(detector, min_face=1)
    data = select_images(data, recipe.data)
    if not len(data):
        raise DataError(f"{data.name}: data.exclude leaves no images; give others, or change data.exclude")
    check_validation(validation)
    keras.utils.set_random_seed(recipe.seed)
    yunet = YuNetDetector(teacher, min_score=0.3) if teacher else None
    source = ProposalSource(load_sources(data, recipe.data, pasted, teacher), detector)
    epochs_done = folder.begin(recipe, fingerprint(training_data(source.scenes, detector, weights)), resume=resume)
    proposals = ValidationProposals.of(first_stage, validation, recipe)
    checkpoint = folder.load_checkpoint(epochs_done)
    model = checkpoint or build_refiner(recipe.network)
    network = to_inference_refiner(model)
    if weights and not checkpoint:
        copy_detector_weights(network, weights)
    schedule = recipe.schedule
    record = folder.record(schedule, epochs_done)
    measure = DetectorValidation(
        lambda: proposals.refine(network), validation.images, schedule.epochs, schedule.measure_epochs
    )
    with native_kernels():
        if epochs_done < schedule.epochs:  # a finished run is only measured again
            all_callbacks = [measure, *record.callbacks, *callbacks]
            epochs = range(epochs_done, schedule.epochs)
            _fit(model, source, recipe, epochs, on_progress=on_progress, callbacks=all_callbacks)
        folder.final_model(model, record)
        evaluation = DetectorEvaluation.of(validation, proposals.grays, proposals.refine(network))
    matches = evaluation.matches
    card = RefinerCard(
        name="faces-refiner",
        input=PIXELS,
        side=recipe.network.side,
        extent=recipe.network.extent,
        min_score=recipe.min_score,
        threshold=card_threshold(matches, _FALSE_ALARMS),
        crop_spec=_CROP_SPEC,
        scores=card_scores(matches),
        made_by=made_by,
        data=card_data(data, validation),
        note=f"It checks the faces that {first_stage.card.name} finds.",
    )
    result = DetectorResult(folder.save_model(network, card), matches)
    write_detector_report(
        out, recipe.summary, evaluation, compare_detectors(evaluation, yunet) if yunet else [], record.history.rows
    )
    return result


def _fit(
    model: keras.Model,
    source: ProposalSource,
    recipe: RefinerRecipe,
    epochs: range,
    *,
    on_progress: Callable[[int, int], None],
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train a model on proposals. A model from a checkpoint keeps its optimizer."""
    with batch_workers(source, worker_count()) as workers:
        proposals = collect_proposals(workers, source.scenes.drawn, recipe, on_progress)
        if not len(proposals.squares):
            raise DataError(
                f"{source.detector}: it finds no face in {recipe.proposals.scenes} scenes, so there is nothing to"
                " learn from; give another detector, or --set proposals.scenes=100000"
            )
        batch_size = min(recipe.optimizer.batch_size, len(proposals.squares))
        steps = len(proposals.squares) // batch_size
        rate = make_rate(recipe.schedule, recipe.optimizer.learning_rate, recipe.schedule.epochs, steps)
        optimizer = model.optimizer if epochs.start else make_optimizer(recipe.optimizer, rate)
        model.compile(optimizer, RefinerLoss(recipe.loss.box, recipe.loss.landmarks))
        ProposalBatches(workers, proposals, batch_size, recipe, epochs).fit(model, callbacks)
