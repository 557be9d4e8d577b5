"""The end of a classifier's training: calibrate, evaluate, report and save the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.modelcard.pixel_statistics import PixelStatistics
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_train.batch_norm import recompute_batchnorm
from fer_edge_train.batches import FaceSource, PlainBatches
from fer_edge_train.calibration import Calibration
from fer_edge_train.network import to_inference_classifier, with_probabilities
from fer_edge_train.report import Evaluation, write_classifier_report

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

    from fer_edge.classification.metrics import Metrics
    from fer_edge.datasets.dataset import Dataset
    from fer_edge.modelcard.schema import InputSpec
    from fer_edge_train.recipe import Recipe
    from fer_edge_train.run_folder import RunFolder
    from fer_edge_train.split import Split


@dataclass(frozen=True, slots=True)
class CalibrationFaces:
    """Faces by which the scores are calibrated.

    Attributes:
        faces: uint8 of shape (n, side, side).
        targets: probability of each class, times the weight of the face, float32 of shape (n, classes).
        temperature_spread: see `Calibration.fit_targets`.
    """

    faces: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.float32]
    temperature_spread: float = math.inf

    @classmethod
    def of(cls, data: Dataset, rows: npt.NDArray[np.int64]) -> CalibrationFaces:
        """Take faces of a dataset with their labels."""
        return cls(data.faces[rows], np.eye(len(data.labels), dtype=np.float32)[data.classes[rows]])


@dataclass(frozen=True, slots=True)
class ClassifierResult:
    """Result of training a classifier.

    Attributes:
        model: path of the finished ``model.keras``.
        validation: scores on the held-out part of the training faces.
        test: scores on the test rows of the dataset; None without such rows.
    """

    model: Path
    validation: Metrics
    test: Metrics | None


def finish(
    model: keras.Model,
    data: Dataset,
    recipe: Recipe,
    split: Split,
    calibration_faces: CalibrationFaces,
    *,
    name: str,
    folder: RunFolder,
    spec: InputSpec,
    made_by: tuple[str, ...],
    rehearsed: str = "",
) -> ClassifierResult:
    """Calibrate, evaluate and save a trained model, and write its report.

    Args:
        model: the model after the last epoch, or of the best one if that is kept.
        data: faces.
        recipe: how the model was trained.
        split: which faces were for training, validation and test.
        calibration_faces: faces by which the scores are calibrated.
        name: name of the model on its card.
        folder: folder of the run.
        spec: input of the model.
        made_by: for the card, the commands that made the model and what it learnt from, in order.
        rehearsed: for the card, what else it learnt from.
    """
    batch_size = recipe.optimizer.batch_size
    inference = to_inference_classifier(model, recipe.data.side)
    if recipe.schedule.batchnorm_faces:
        rows = np.random.default_rng(recipe.seed).permutation(split.train)[: recipe.schedule.batchnorm_faces]
        batches = PlainBatches(FaceSource(data.faces, {}, rows, spec), batch_size)
        recompute_batchnorm(inference, (batches[step][0] for step in range(len(batches))))

    def evaluate(rows: npt.NDArray[np.int64]) -> Evaluation:
        return Evaluation.of(predict(finished, data.faces, spec, rows, batch_size=batch_size), rows, data)

    logits = predict(inference, calibration_faces.faces, spec, batch_size=batch_size)
    calibration = Calibration.fit_targets(logits, calibration_faces.targets, calibration_faces.temperature_spread)
    finished = with_probabilities(inference, calibration)
    evaluations = {"held out": evaluate(split.validation)}
    if len(split.test):
        evaluations["tested on"] = evaluate(split.test)
    validation = evaluations["held out"].metrics
    test = evaluations["tested on"].metrics if len(split.test) else None
    card = _make_card(data, recipe, split, validation, test, name=name, spec=spec, made_by=made_by, rehearsed=rehearsed)
    result = ClassifierResult(folder.save_model(finished, card), validation, test)
    write_classifier_report(folder.path, data, recipe, split, evaluations, calibration=calibration)
    return result


def predict(
    model: keras.Model,
    faces: npt.NDArray[np.uint8],
    spec: InputSpec,
    rows: npt.NDArray[np.int64] | None = None,
    *,
    batch_size: int,
) -> npt.NDArray[np.float32]:
    """Compute the output of a model for faces.

    Args:
        model: the model.
        faces: uint8 of shape (n, side, side).
        spec: input of the model.
        rows: which of them; None for all.
        batch_size: number of faces in a batch.
    """
    source = FaceSource(faces, {}, np.arange(len(faces)) if rows is None else rows, spec)
    return np.asarray(model.predict(PlainBatches(source, batch_size), verbose=0), np.float32)


def _make_card(
    data: Dataset,
    recipe: Recipe,
    split: Split,
    validation: Metrics,
    test: Metrics | None,
    *,
    name: str,
    spec: InputSpec,
    made_by: tuple[str, ...],
    rehearsed: str,
) -> ClassifierCard:
    scores = {"float accuracy on held-out training faces": validation.accuracy}
    if test:
        usages = " and ".join(sorted(set(data.usages[split.test].tolist())))
        scores[f"float accuracy on {usages}"] = test.accuracy
    uses_votes = data.votes is not None and (recipe.target.votes or recipe.target.auxiliary)
    labels_note = ", majority labels of FER+" if recipe.target.protocol == "ferplus" else ""
    labels_note += ", annotators' votes in the targets" if uses_votes else ""
    files = " + ".join(Path(one).name for one in data.name.split(" + "))
    return ClassifierCard(
        name=name,
        labels=data.labels,
        input=spec,
        pixels=PixelStatistics.from_faces(data.faces[split.train[:: len(split.train) // 2000 + 1]]),
        scores={key: round(score, 4) for key, score in scores.items()},
        made_by=made_by,
        data=(
            f"{len(split.train)} training faces of {files}{labels_note};"
            f" {len(split.validation)} more held out{rehearsed}"
        ),
        note="An expression is not a feeling: the scores say how a face looks, not what a person feels.",
    )
