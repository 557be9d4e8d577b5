"""Training a face detector: from annotated images and a recipe to a Keras model with its card, history and report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import keras
import msgspec

from fer_edge.detection.yunet import YuNetDetector
from fer_edge.errors import DataError
from fer_edge.geometry import CropSpec
from fer_edge.modelcard.schema import DetectorCard
from fer_edge_train.batch_workers import batch_workers, worker_count
from fer_edge_train.faces.detector_batches import PIXELS, SceneBatches
from fer_edge_train.faces.detector_evaluation import DetectorEvaluation, compare_detectors
from fer_edge_train.faces.detector_loss import DetectorLoss
from fer_edge_train.faces.detector_network import build_detector, copy_detector_weights, to_inference_detector
from fer_edge_train.faces.detector_recipe import STRIDES
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
from fer_edge_train.faces.detector_validation import FALSE_ALARMS, DetectorValidation, detect_faces
from fer_edge_train.faces.scene_sources import load_sources
from fer_edge_train.optimizer import make_optimizer, make_rate
from fer_edge_train.run_folder import RunFolder, fingerprint
from fer_edge_train.torch_kernels import native_kernels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge_train.faces.detector_recipe import DetectorRecipe

# Smallest face of the card, divided by that of training: too few smaller ones are found to shrink images for them.
_CARD_MIN_FACE: Final = 2
# For boxes from brow to chin, as in the annotations. Measured by benchmarks/crop_margin.py.
_CROP_SPEC: Final = CropSpec(scale=0.95, shift=-0.05, align_eyes=True)


def train_detector(
    data: FaceDataset,
    validation: FaceDataset,
    recipe: DetectorRecipe,
    out: Path,
    *,
    pasted: npt.NDArray[np.uint8] | None = None,
    weights: Path | None = None,
    teacher: Path | None = None,
    resume: bool = False,
    made_by: tuple[str, ...] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> DetectorResult:
    """Train a detector and save checkpoints.

    Args:
        data: images with annotated faces, to learn from.
        validation: more of them, to measure with.
        recipe: how to train.
        out: folder for ``model.keras``, ``history.csv``, ``recipe.toml`` and ``report/``.
        pasted: faces to paste into scenes, uint8 of shape (n, side, side).
        weights: a detector's ``.keras`` to start from, of the same network or one with fewer blocks.
        teacher: YuNet's ONNX file. It gives targets for every scene, and the report compares with it.
        resume: whether to continue from the checkpoint in ``out``, if there is one.
        made_by: for the card, the commands that made the model and what it learns from, in order.
        callbacks: more Keras callbacks, such as a progress display.

    Raises:
        DataError: an image cannot be read, there are too few, or none to measure with.
        InputError: ``out`` holds another run, a resumed run had another recipe, or training diverged.
        ModelError: ``weights`` are those of another network, or ``teacher`` is not a YuNet.
    """
    folder = RunFolder(out)
    folder.check_can_start(resume=resume)
    data = select_images(data, recipe.data)
    if len(data) < recipe.optimizer.batch_size:
        images = "1 image" if len(data) == 1 else f"{len(data)} images"
        raise DataError(
            f"{data.name}: {images}, but a batch takes {recipe.optimizer.batch_size}: give more, or"
            f" --set optimizer.batch_size={max(len(data), 1)}"
        )
    check_validation(validation)
    keras.utils.set_random_seed(recipe.seed)
    yunet = YuNetDetector(teacher, min_score=0.3) if teacher else None
    sources = load_sources(data, recipe.data, pasted, teacher)
    epochs_done = folder.begin(recipe, fingerprint(training_data(sources, weights)), resume=resume)
    grays = [validation.gray(i) for i in range(len(validation))]
    schedule, checkpoint = recipe.schedule, folder.load_checkpoint(epochs_done)
    model = checkpoint or build_detector(recipe.network)
    network = to_inference_detector(model)
    if weights and not checkpoint:
        copy_detector_weights(network, weights)
    steps = len(data) // recipe.optimizer.batch_size
    rate = make_rate(schedule, recipe.optimizer.learning_rate, schedule.epochs, steps)
    optimizer = checkpoint.optimizer if checkpoint else make_optimizer(recipe.optimizer, rate)
    record = folder.record(schedule, epochs_done)
    measure = DetectorValidation(
        lambda: detect_faces(network, grays), validation.images, schedule.epochs, schedule.measure_epochs
    )
    with native_kernels(), batch_workers(sources, worker_count()) as workers:
        for side, epochs in schedule.stages(0):
            if epochs.stop <= epochs_done:
                continue
            loss = DetectorLoss(side, with_teacher=teacher is not None, **msgspec.to_builtins(recipe.loss))
            model.compile(optimizer, loss)
            remaining = range(max(epochs.start, epochs_done), epochs.stop)
            batches = SceneBatches(workers, sources.drawn, recipe, side, remaining)
            batches.fit(model, [measure, *record.callbacks, *callbacks])
    folder.final_model(model, record)
    evaluation = DetectorEvaluation.of(validation, grays, detect_faces(network, grays))
    matches = evaluation.matches
    card = DetectorCard(
        name="faces",
        input=PIXELS,
        strides=STRIDES,
        threshold=card_threshold(matches, FALSE_ALARMS),
        smallest_face=_CARD_MIN_FACE * recipe.augmentation.min_face,
        crop_spec=_CROP_SPEC,
        scores=card_scores(matches),
        made_by=made_by,
        data=card_data(data, validation),
        note="It finds faces; it does not tell whose they are.",
    )
    result = DetectorResult(folder.save_model(network, card), matches)
    write_detector_report(
        out, recipe.summary, evaluation, compare_detectors(evaluation, yunet) if yunet else [], record.history.rows
    )
    return result
