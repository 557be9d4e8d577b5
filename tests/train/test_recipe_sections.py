from __future__ import annotations

from fer_edge_train.recipe_sections import Schedule, SizeStage


def test_stages_cover_all_epochs() -> None:
    schedule = Schedule(epochs=10, sizes=((0.0, 32), (0.5, 48)))
    assert schedule.stages(64) == [SizeStage(32, range(5)), SizeStage(48, range(5, 10))]
    assert Schedule(epochs=3).stages(64) == [SizeStage(64, range(3))]


def test_last_size_gets_an_epoch_in_short_run() -> None:
    schedule = Schedule(epochs=1, sizes=((0.0, 32), (0.9, 48)))
    assert schedule.stages(48) == [SizeStage(48, range(1))]


def test_warmup_is_at_most_a_quarter() -> None:
    assert Schedule(epochs=100, warmup_epochs=2).warmup(100) == 2
    assert Schedule(epochs=4, warmup_epochs=2).warmup(4) == 1
