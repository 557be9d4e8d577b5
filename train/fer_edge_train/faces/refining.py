"""Training the second stage of a face detector: a first stage and a recipe in, a Keras model with its card out."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np
from keras import ops

from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.postprocess import RawDetections, nms
from fer_edge.detection.refiner import decode_squares
from fer_edge.detection.resampling import crop_squares
from fer_edge.detection.yunet import YuNetDetector
from fer_edge.errors import DataError
from fer_edge.geometry import CropSpec
from fer_edge.modelcard.archive import write_card
from fer_edge.modelcard.schema import RefinerCard
from fer_edge.utils.atomic_file import replacing
from fer_edge_train.batch_workers import Makers, makers, makers_here
from fer_edge_train.batches import BatchesAhead
from fer_edge_train.callbacks import Average, Checkpoint, History, checkpoints
from fer_edge_train.faces.batches import PIXELS, stock
from fer_edge_train.faces.proposals import (
    PLACE,
    PLACE_WEIGHT,
    POINTS,
    POINTS_WEIGHT,
    SCORE,
    Proposed,
    Scenes,
    mirrored,
    propose,
    together,
)
from fer_edge_train.faces.refiner_network import as_used, build
from fer_edge_train.faces.report import Judged, compare, write_report
from fer_edge_train.faces.teacher import check
from fer_edge_train.faces.training import LEAST_THRESHOLD, Result, check_watched, fingerprint, wanted
from fer_edge_train.faces.validation import ALARMS, SIDE, Validation, within
from fer_edge_train.optimizer import cosine, make_optimizer
from fer_edge_train.torch_kernels import native_kernels
from fer_edge_train.training import begin, check_folder, load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.detection.metrics import ImageDetections
    from fer_edge_train.faces.recipe import RefinerRecipe

Tensor = Any  # of whichever backend

# Of boxes as YuNet sees them from near, whose centres are those of faces: measured by benchmarks/crop_margin.py.
_CROP_SPEC: Final = CropSpec(scale=0.95, shift=0.0, align_eyes=True)
_ALARMS: Final = 0.005  # false alarms an image at its threshold: a camera looks at empty rooms for months
_SCENES: Final = 64  # that are made at a time
_SMOOTH: Final = 0.05  # of the square's side: where places' losses go from square to linear
_BATCH: Final = 512  # of squares that are looked at


def train_refiner(
    data: FaceDataset,
    watched: FaceDataset,
    detector: Path,
    recipe: RefinerRecipe,
    out: Path,
    *,
    pasted: npt.NDArray[np.uint8] | None = None,
    teacher: Path | None = None,
    resume: bool = False,
    made_by: tuple[str, ...] = (),
    looked: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Result:
    """Train the second stage of a detector, saving a checkpoint after every epoch.

    Args:
        data: images with marked faces, to make scenes of.
        watched: more of them, to measure by.
        detector: the first stage, a ``.tflite`` with its card; a second stage in it is not asked.
        recipe: how to train.
        out: folder for ``model.keras``, ``history.csv``, ``recipe.toml`` and ``report/``.
        pasted: faces to paste into scenes, uint8 of shape (n, side, side).
        teacher: YuNet's ONNX file, which is asked what it sees in every scene, and compared with in the report.
        resume: go on from the checkpoint in ``out``; without one, start.
        made_by: the commands that make the model and what it learns from, in order, for its card.
        looked: is told how many scenes of how many have been looked at.
        callbacks: more Keras callbacks, such as a progress display.

    Raises:
        DataError: an image cannot be read, there are too few, or none to measure by.
        InputError: ``out`` holds another run, ``resume`` meets another recipe, or training diverged.
        ModelError: ``detector`` is no detector, or ``teacher`` no YuNet.
    """
    check_folder(out, resume=resume)
    first = NetworkDetector(detector, min_face=1)
    data = wanted(data, recipe.data)
    if not len(data):
        raise DataError(f"{data.name}: no images but those that data.leave_out leaves out; give others")
    check_watched(watched)
    keras.utils.set_random_seed(recipe.seed)
    compared_with = YuNetDetector(teacher, threshold=0.3) if teacher else None
    scenes = Scenes(stock(data, recipe.data, pasted, teacher), detector)
    if scenes.stock.teacher:
        check(scenes.stock.teacher)
    done = begin(out, recipe, fingerprint(scenes.stock, detector), resume=resume)
    view = View.of(first, watched, recipe)
    checkpoint = checkpoints(out).get(done)
    model = load_checkpoint(checkpoint) if checkpoint else build(recipe.network)
    network = as_used(model)
    schedule = recipe.schedule
    history = History(out / "history.csv", done)
    average = Average(out, schedule.epochs, schedule.average_epochs, done)
    watching = Validation(lambda: view.found(network), watched.images, schedule.epochs, schedule.measure_epochs)
    with native_kernels():
        if done < schedule.epochs:  # a run that is done may be measured anew
            every = [watching, history, average, Checkpoint(out, history), *callbacks]
            _learn(model, scenes, recipe, range(done, schedule.epochs), looked=looked, callbacks=every)
        if average.weights is not None:
            model.set_weights(average.weights)
        judged = Judged.of(watched, view.grays, view.found(network))
    matches = judged.matches
    threshold = matches.threshold_at(ALARMS)
    card = RefinerCard(
        name="faces-refiner",
        input=PIXELS,
        side=recipe.network.side,
        extent=recipe.network.extent,
        min_score=recipe.least,
        threshold=max(round(matches.threshold_at(_ALARMS), 3), LEAST_THRESHOLD),
        crop_spec=_CROP_SPEC,
        scores={
            f"average precision on faces of {SIDE:.0f} pixels and more": round(matches.average_precision(SIDE), 4),
            f"recall of them at {ALARMS} false alarms an image": round(matches.recall(threshold, SIDE), 4),
        },
        made_by=made_by,
        data=f"{len(data)} images, {sum(len(one.boxes) for one in data.images)} faces; {len(watched)} more watched",
        note=f"It looks again at what {first.card.name} takes for faces.",
    )
    result = Result(out / "model.keras", matches)
    with replacing(result.model) as temporary:
        network.save(temporary)
        write_card(temporary, card)
    compared = compare(judged, compared_with) if compared_with else []
    write_report(out, recipe.summary, judged, compared, history.rows)
    return result


def _learn(
    model: keras.Model,
    scenes: Scenes,
    recipe: RefinerRecipe,
    epochs: range,
    *,
    looked: Callable[[int, int], None],
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Have a model learn from proposals; one that was compiled before goes on with its own optimizer."""
    with makers(scenes, makers_here()) as crew:
        proposed = gathered(crew, scenes.stock.drawn, recipe, looked)
        if not len(proposed.squares):
            raise DataError(
                f"{scenes.detector}: it takes nothing for a face in {recipe.proposals.scenes} scenes, so that there is"
                " nothing to learn from; give another detector, or --set proposals.scenes=100000"
            )
        how = recipe.optimizer
        batch = min(how.batch_size, len(proposed.squares))
        steps = len(proposed.squares) // batch
        warmup = round(min(recipe.schedule.warmup_epochs, recipe.schedule.epochs / 4) * steps)
        rate = cosine(how.learning_rate, recipe.schedule.epochs * steps, warmup)
        optimizer = model.optimizer if epochs.start else make_optimizer(how, rate)
        model.compile(optimizer, RefinerLoss(recipe.loss.box, recipe.loss.landmarks))
        ProposalBatches(crew, proposed, batch, recipe, epochs).teach(model, callbacks)


def gathered(
    crew: Makers, drawn: npt.NDArray[np.int64], recipe: RefinerRecipe, looked: Callable[[int, int], None]
) -> Proposed:
    """What the first stage proposes in all of a recipe's scenes, the same each time.

    Args:
        crew: what makes them.
        drawn: as `fer_edge_train.faces.scenes.Stock` has it.
        recipe: how many scenes there are, and of which kind.
        looked: is told how many of how many have been looked at.
    """
    scenes = recipe.proposals.scenes
    chosen = np.random.default_rng(recipe.seed).choice(drawn, scenes)
    parts: list[Proposed] = []
    coming: deque[Future[Proposed]] = deque()
    for begin_at in range(0, scenes, _SCENES):
        some = chosen[begin_at : begin_at + _SCENES]
        coming.append(crew.soon(crew.make, propose, some, recipe, (recipe.seed, begin_at)))
        last = begin_at + _SCENES >= scenes
        while coming and (last or len(coming) > crew.ahead):
            parts.append(coming.popleft().result())
            looked(min(len(parts) * _SCENES, scenes), scenes)
    return together(parts)


class ProposalBatches(BatchesAhead):
    """Batches of proposals that depend on nothing but the recipe's seed, the epoch and the step."""

    def __init__(self, crew: Makers, proposed: Proposed, batch: int, recipe: RefinerRecipe, epochs: range) -> None:
        """Give the batches of ``epochs``.

        Args:
            crew: whose threads make them.
            proposed: all proposals.
            batch: how many are in one.
            recipe: chance of a mirror, and seed.
            epochs: which, from 0.
        """
        super().__init__(crew, len(proposed.squares) // batch, epochs)
        self._proposed, self._batch, self._recipe = proposed, batch, recipe
        self._order = lru_cache(2)(
            lambda epoch: np.random.default_rng((recipe.seed, epoch)).permutation(len(proposed.squares))
        )

    def make(self, epoch: int, step: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Squares of shape (batch, side, side, 1), and what there is to learn of each, of shape (batch, 17)."""
        chosen = self._order(epoch)[step * self._batch : (step + 1) * self._batch]
        some = Proposed(self._proposed.squares[chosen], self._proposed.goals[chosen])
        rng = np.random.default_rng((self._recipe.seed, epoch, step))
        turned = rng.random(len(chosen)) < self._recipe.augmentation.flip
        other = mirrored(some)
        squares = np.where(turned[:, None, None], other.squares, some.squares)
        return PIXELS.normalise(squares), np.where(turned[:, None], other.goals, some.goals)


@keras.saving.register_keras_serializable("fer_edge")
class RefinerLoss(keras.losses.Loss):
    """Scores, boxes and landmarks of squares.

    Scores learn by cross-entropy what the teacher says, as in Hinton et al. 2015 (arXiv:1503.02531); boxes and
    landmarks, where there is a face, by a smooth L1 loss (Girshick 2015, arXiv:1504.08083).
    """

    def __init__(self, box: float = 3.0, landmarks: float = 2.0, **kwargs: Any) -> None:  # noqa: ANN401 - Keras's own
        """Take the weights of boxes and landmarks beside that of scores."""
        super().__init__(**kwargs)
        self._box, self._landmarks = box, landmarks

    def get_config(self) -> dict[str, Any]:
        """What makes it anew."""
        return {**super().get_config(), "box": self._box, "landmarks": self._landmarks}

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """One number for each square.

        Args:
            y_true: as `fer_edge_train.faces.proposals.Proposed.goals`.
            y_pred: as the training model gives it.
        """
        logit, goal = y_pred[:, SCORE], y_true[:, SCORE]
        score = ops.maximum(logit, 0) - logit * goal + ops.log1p(ops.exp(-ops.abs(logit)))
        box = ops.sum(_smooth(y_pred[:, PLACE] - y_true[:, PLACE]), axis=1) * y_true[:, PLACE_WEIGHT]
        points = ops.mean(_smooth(y_pred[:, POINTS] - y_true[:, POINTS]), axis=1) * y_true[:, POINTS_WEIGHT]
        return score + self._box * box + self._landmarks * points


def _smooth(apart: Tensor) -> Tensor:
    apart = ops.abs(apart)
    return ops.where(apart < _SMOOTH, ops.square(apart) / (2 * _SMOOTH), apart - _SMOOTH / 2)


class View:
    """What the first stage proposes in the validation images.

    Attributes:
        grays: the images, uint8.
    """

    def __init__(
        self,
        grays: Sequence[npt.NDArray[np.uint8]],
        counts: Sequence[int],
        where: npt.NDArray[np.float32],
        squares: npt.NDArray[np.uint8],
        scores: npt.NDArray[np.float32],
    ) -> None:
        """Take images, how many squares each has, where and of what, and the first stage's score of each."""
        self.grays = grays
        self._counts, self._where, self._squares, self._scores = counts, where, squares, scores

    @classmethod
    def of(cls, first: NetworkDetector, watched: FaceDataset, recipe: RefinerRecipe) -> View:
        """Let the first stage look at images as large as they are."""
        grays = [watched.gray(i) for i in range(len(watched))]
        proposed = [first.propose(gray, (gray.shape[0], gray.shape[1]), recipe.least) for gray in grays]
        parts = [
            crop_squares(gray, some.boxes, recipe.network.extent, recipe.network.side)
            for gray, some in zip(grays, proposed, strict=True)
        ]
        return cls(
            grays,
            [len(where) for where, _ in parts],
            np.concatenate([where for where, _ in parts]),
            np.concatenate([squares for _, squares in parts]),
            np.concatenate([some.scores for some in proposed]),
        )

    def found(self, network: keras.Model) -> list[ImageDetections]:
        """What a network of `fer_edge_train.faces.refiner_network.as_used` says of them, one box of each face."""
        given = np.empty((len(self._squares), 15), np.float32)
        for begin_at in range(0, len(given), _BATCH):
            # One shape for all, so that a backend that compiles does so once.
            some = np.zeros((_BATCH, *self._squares.shape[1:]), np.uint8)
            part = self._squares[begin_at : begin_at + _BATCH]
            some[: len(part)] = part
            outputs = [np.asarray(one) for one in network.predict_on_batch(PIXELS.normalise(some))]
            given[begin_at : begin_at + _BATCH] = np.concatenate(outputs, axis=1)[: len(part)]
        faces = decode_squares(self._where, given, self._scores)
        ends = np.cumsum(self._counts)
        found = []
        for end, count, gray in zip(ends.tolist(), self._counts, self.grays, strict=True):
            own = nms(RawDetections(*(values[end - count : end] for values in faces)))
            found.append(within(own, gray.shape))
        return found
