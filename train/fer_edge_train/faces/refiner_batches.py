"""Collecting proposals, and batches of them for Keras."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge_train.faces.detector_batches import PIXELS
from fer_edge_train.faces.refiner_proposals import Proposals, concatenate_proposals, mirror, propose
from fer_edge_train.prefetch import PrefetchedBatches

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import numpy.typing as npt

    from fer_edge_train.batch_workers import BatchWorkers
    from fer_edge_train.faces.refiner_recipe import RefinerRecipe

_SCENES: Final = 64  # that are made at a time


def collect_proposals(
    workers: BatchWorkers,
    drawn: npt.NDArray[np.int64],
    recipe: RefinerRecipe,
    on_progress: Callable[[int, int], None],
) -> Proposals:
    """Collect what the first stage proposes in all scenes of a recipe. It is the same each time.

    Args:
        workers: make proposals of a `fer_edge_train.faces.refiner_proposals.ProposalSource`.
        drawn: indices of images, as in `fer_edge_train.faces.scene_sources.SceneSources`.
        recipe: number and kind of the scenes.
        on_progress: called with the number of scenes that are done and the number of all.
    """
    scenes = recipe.proposals.scenes
    chosen = np.random.default_rng(recipe.seed).choice(drawn, scenes)
    parts: list[Proposals] = []
    pending: deque[Future[Proposals]] = deque()
    for start in range(0, scenes, _SCENES):
        some = chosen[start : start + _SCENES]
        pending.append(workers.submit(workers.run, propose, some, recipe, (recipe.seed, start)))
        last = start + _SCENES >= scenes
        while pending and (last or len(pending) > workers.prefetch):
            parts.append(pending.popleft().result())
            on_progress(min(len(parts) * _SCENES, scenes), scenes)
    return concatenate_proposals(parts)


class ProposalBatches(PrefetchedBatches):
    """Batches of proposals that depend on nothing but the recipe's seed, the epoch and the step."""

    def __init__(
        self, workers: BatchWorkers, proposals: Proposals, batch_size: int, recipe: RefinerRecipe, epochs: range
    ) -> None:
        """Make the batches of ``epochs``.

        Args:
            workers: make batches in their threads.
            proposals: all proposals.
            batch_size: number of proposals in a batch.
            recipe: probability of a flip, and seed.
            epochs: the epochs, counted from 0.
        """
        super().__init__(workers, len(proposals.squares) // batch_size, epochs)
        self._proposals, self._batch_size, self._recipe = proposals, batch_size, recipe
        self._order = lru_cache(2)(
            lambda epoch: np.random.default_rng((recipe.seed, epoch)).permutation(len(proposals.squares))
        )

    def make(self, epoch: int, step: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Make squares of shape (batch, side, side, 1) and their targets, of shape (batch, 17)."""
        chosen = self._order(epoch)[step * self._batch_size : (step + 1) * self._batch_size]
        some = Proposals(self._proposals.squares[chosen], self._proposals.targets[chosen])
        rng = np.random.default_rng((self._recipe.seed, epoch, step))
        flip = rng.random(len(chosen)) < self._recipe.augmentation.flip
        mirrored = mirror(some)
        squares = np.where(flip[:, None, None], mirrored.squares, some.squares)
        return PIXELS.normalize(squares), np.where(flip[:, None], mirrored.targets, some.targets)
