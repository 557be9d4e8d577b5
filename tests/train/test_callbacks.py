"""Test the rules for the learning rate, for stopping early and for checkpoints."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import TYPE_CHECKING

from fer_edge_train.callbacks import has_stopped, plateau_factor
from fer_edge_train.checkpoints import is_checkpoint_epoch
from fer_edge_train.history import History, select_scores
from fer_edge_train.recipe_sections import Schedule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PLATEAU = Schedule(epochs=50, plateau_epochs=2, plateau_factor=0.5, stop_epochs=3)
LOSSES = [3, 2, 2, 2, 2.5, 2, 1.9, 2]


def make_history(folder: Path, losses: Sequence[float]) -> History:
    history = History(folder / "history.csv", epochs_done=0)
    history.rows = [{"val_loss": loss} for loss in losses]
    return history


def test_plateau_halves_the_rate_after_two_epochs_without_a_lower_loss() -> None:
    # Then the count starts again.
    assert [plateau_factor(LOSSES[:n], PLATEAU) for n in range(9)] == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert plateau_factor([3, 2, 1], PLATEAU) == 1


def test_early_stopping_depends_only_on_losses_of_its_stage(tmp_path: Path) -> None:
    stops = [has_stopped(make_history(tmp_path, LOSSES[:n]), PLATEAU, 0) for n in range(6)]
    assert stops == [False] * 5 + [True]
    later = [has_stopped(make_history(tmp_path, [1, 1, 1, 5, 6, 6, 6][:n]), PLATEAU, 3) for n in range(8)]
    assert later == [False] * 7 + [True], "an earlier stage does not count"
    assert not has_stopped(make_history(tmp_path, [1] * 40), Schedule(epochs=50), 0)


def test_checkpoint_follows_every_fourth_epoch_and_the_last() -> None:
    fourth = Schedule(epochs=10, checkpoint_epochs=4)
    assert [epoch + 1 for epoch in range(10) if is_checkpoint_epoch(epoch, fourth)] == [4, 8, 10]
    assert all(is_checkpoint_epoch(epoch, Schedule(epochs=10)) for epoch in range(10))


def test_selects_scores_of_the_first_head() -> None:
    logs = {"loss": 3, "logits_loss": 1, "val_logits_accuracy": 0.5, "auxiliary_loss": 2}
    assert select_scores(logs) == {"loss": 1, "val_accuracy": 0.5}
    alone = {"loss": 3, "accuracy": 0.1, "val_loss": 2}
    assert select_scores(alone) == alone
    assert select_scores(None) == {}
