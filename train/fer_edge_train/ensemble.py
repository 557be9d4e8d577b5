"""Several classifiers as one network: their features side by side, under one output layer.

The logits of the whole are the weighted sum of the members' logits. So its scores are the weighted geometric mean of
theirs, with a softmax at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import keras
import msgspec
import numpy as np
from keras import layers, ops
from scipy.optimize import minimize
from scipy.special import log_softmax

from fer_edge.classification.metrics import measure
from fer_edge.errors import DataError, ModelError
from fer_edge.modelcard.archive import write_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge.utils.atomic_file import replacing
from fer_edge_train.adaptation import check_start_model, load_start_model
from fer_edge_train.architectures.base import HEAD
from fer_edge_train.architectures.resize import mirror as mirror_images
from fer_edge_train.calibration import Calibration
from fer_edge_train.finish import predict
from fer_edge_train.network import copy_model, with_probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.classification.metrics import Metrics
    from fer_edge.datasets.dataset import Dataset
    from fer_edge_train.split import Split

_BATCH: Final = 64
_HELD_OUT: Final = "float accuracy on held-out training faces"  # the score of every card of a trained classifier
_LEARNT: Final = 0.05  # a member that is better by so much on held-out faces than its card says has learnt some of them


class EnsembleResult(NamedTuple):
    """Result of joining classifiers.

    Attributes:
        weights: share of each member.
        learnt: the members that have learnt held-out faces, with the share that they get right.
        validation: scores on the held-out faces.
        test: scores on the test faces of the dataset; None without such faces.
    """

    weights: tuple[float, ...]
    learnt: dict[Path, float]
    validation: Metrics
    test: Metrics | None


def check_members(paths: Sequence[Path]) -> ClassifierCard:
    """Return the card of the first of some models that can be joined.

    Raises:
        ModelError: a file cannot be read, or its images or labels are others than the first one's.
    """
    first = check_start_model(paths[0])
    for path in paths[1:]:
        card = check_start_model(path)
        if card.labels != first.labels:
            raise ModelError(
                f"{path}: labels {', '.join(card.labels)}, but {paths[0]} has {', '.join(first.labels)}; join models of"
                " the same labels"
            )
        if card.input != first.input:
            raise ModelError(
                f"{path}: takes {card.input.width}x{card.input.height} of {card.input.formula}, but {paths[0]} takes"
                f" {first.input.width}x{first.input.height} of {first.input.formula}; join models of the same input"
            )
    return first


def build_ensemble(members: Sequence[keras.Model], *, mirror: bool) -> keras.Model:
    """Join classifiers to one, whose output layer adds their logits with a weight of 1.

    Args:
        members: from images to a dictionary with logits, as `load_start_model` loads them.
        mirror: whether each member also sees the mirror image; the features of both are averaged.

    Returns:
        A model of the same form.
    """
    images = keras.Input(members[0].input.shape[1:], name="face")
    # The batch is doubled, and not the network: so each weight is stored and packed once.
    seen = layers.Concatenate(axis=0, name="both")([images, mirror_images(images)]) if mirror else images
    features, kernels, biases = [], [], []
    for number, member in enumerate(members, 1):
        head = member.get_layer(HEAD)
        inner = copy_model(keras.Model(member.input, head.input), "float32")
        features.append(keras.Model(inner.input, inner.output, name=f"member_{number}")(seen))
        kernel, bias = head.get_weights()
        kernels.append(kernel)
        biases.append(bias)
    x = layers.Concatenate(name="features")(features) if len(features) > 1 else features[0]
    if mirror:
        x = ops.mean(ops.reshape(x, (2, -1, x.shape[-1])), axis=0)
    head = layers.Dense(len(biases[0]), name=HEAD)
    logits = head(x)
    head.set_weights([np.concatenate(kernels), np.sum(biases, axis=0)])
    return keras.Model(images, {HEAD: logits})


def fit_weights(logits: Sequence[npt.NDArray[np.float32]], classes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Fit the weights of members' logits by maximum likelihood.

    Args:
        logits: for each member, of shape (n, classes).
        classes: true class of each face, of shape (n,).

    Returns:
        A positive weight for each member.
    """
    stacked = np.stack(logits).astype(np.float64)

    def loss(parameters: npt.NDArray[np.float64]) -> float:
        scores = log_softmax(np.tensordot(np.exp(parameters), stacked, 1), axis=1)
        return float(-scores[np.arange(len(classes)), classes].mean())

    start = np.full(len(logits), -np.log(len(logits)))
    return np.asarray(np.exp(minimize(loss, start, method="L-BFGS-B", bounds=[(-6.0, 2.0)] * len(logits)).x))


def join(
    paths: Sequence[Path],
    data: Dataset,
    split: Split,
    out: Path,
    *,
    mirror: bool = False,
    shares: Sequence[float] = (),
    made_by: tuple[str, ...] = (),
) -> EnsembleResult:
    """Join trained classifiers to one, weight and calibrate it by held-out faces, and save it with its card.

    If a member has learnt held-out faces, they say nothing of what it knows of others. Then all weights are equal, and
    the members' own calibrations are kept.

    Args:
        paths: the ``.keras`` files of the members, which `check_members` has checked.
        data: faces with the members' labels.
        split: which of them are held out, and which are for testing.
        out: the ``.keras`` file to write.
        mirror: whether each member also sees the mirror image.
        shares: weight of each member; none fits the weights, if it can.
        made_by: for the card, the commands that made the model, in order.

    Raises:
        DataError: there are no held-out faces.
        ModelError: a member is none of `fer-edge train`.
    """
    if not len(split.validation):
        raise DataError(f"{data.name}: no held-out faces to weight and calibrate by; give the data of the training")
    cards = [read_card(path, ClassifierCard) for path in paths]
    members = [load_start_model(path) for path in paths]
    spec, classes = cards[0].input, data.classes[split.validation]
    model = build_ensemble(members, mirror=mirror)
    head = model.get_layer(HEAD)
    features = predict(keras.Model(model.input, head.input), data.faces, spec, split.validation, batch_size=_BATCH)
    kernels, biases = zip(*(member.get_layer(HEAD).get_weights() for member in members), strict=True)
    parts = np.split(features, np.cumsum([len(kernel) for kernel in kernels])[:-1], axis=1)
    logits = [part @ kernel + bias for part, kernel, bias in zip(parts, kernels, biases, strict=True)]
    learnt = _find_learnt(paths, cards, logits, classes)
    if shares or learnt:
        weights = np.asarray(shares or [1.0] * len(paths), np.float64)
        weights /= weights.sum()
    else:
        weights = fit_weights(logits, classes)
    head.set_weights(
        [
            np.concatenate([weight * kernel for weight, kernel in zip(weights, kernels, strict=True)]),
            sum(weight * bias for weight, bias in zip(weights, biases, strict=True)),
        ]
    )
    joined = np.asarray(sum(weight * one for weight, one in zip(weights, logits, strict=True)), np.float32)
    card = msgspec.structs.replace(
        cards[0],
        name=out.stem,
        made_by=made_by,
        data="; ".join(dict.fromkeys(f"{card.name}: {card.data}" for card in cards)),
    )
    calibration = (
        Calibration(1.0, np.zeros(len(data.labels), np.float32)) if learnt else Calibration.fit(joined, classes)
    )
    scores = save_calibrated(model, calibration, data, split, out=out, card=card)
    return EnsembleResult(tuple((weights / weights.sum()).tolist()), learnt, *scores)


def _find_learnt(
    paths: Sequence[Path],
    cards: Sequence[ClassifierCard],
    logits: Sequence[npt.NDArray[np.float32]],
    classes: npt.NDArray[np.int64],
) -> dict[Path, float]:
    """Find the members that have learnt held-out faces, and the share that they get right.

    Models held out other faces before `data.validation_seed` decided which; their cards say how they did on those.
    """
    right = [float((one.argmax(axis=1) == classes).mean()) for one in logits]
    return {
        path: share
        for path, card, share in zip(paths, cards, right, strict=True)
        if share > card.scores.get(_HELD_OUT, 1.0) + _LEARNT
    }


def save_calibrated(
    model: keras.Model, calibration: Calibration, data: Dataset, split: Split, *, out: Path, card: ClassifierCard
) -> tuple[Metrics, Metrics | None]:
    """Calibrate a classifier, measure it, and save it with its card.

    Args:
        model: with the output layer `HEAD`, whose weights are changed.
        calibration: of its logits.
        data: faces.
        split: which of them are held out, and which are for testing.
        out: the ``.keras`` file to write.
        card: its card, but for the scores.

    Returns:
        Scores on the held-out faces, and on the test faces if there are any.
    """
    finished = with_probabilities(model, calibration)

    def evaluate(rows: npt.NDArray[np.int64]) -> Metrics:
        answers = predict(finished, data.faces, card.input, rows, batch_size=_BATCH)
        return measure(answers, data.classes[rows], data.labels)

    validation = evaluate(split.validation)
    test = evaluate(split.test) if len(split.test) else None
    scores = {_HELD_OUT: round(validation.accuracy, 4)}
    if test:
        usages = " and ".join(sorted(set(data.usages[split.test].tolist())))
        scores[f"float accuracy on {usages}"] = round(test.accuracy, 4)
    with replacing(out) as temporary:
        finished.save(temporary)
        write_card(temporary, msgspec.structs.replace(card, scores=scores))
    return validation, test
