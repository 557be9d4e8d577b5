from __future__ import annotations

import pytest

from fer_edge.errors import InputError
from fer_edge_train.recipe_files import load_detector_recipe, load_refiner_recipe


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("schedule.rate=plateau", "need a held-out loss"),
        ("schedule.stop_epochs=3", "need a held-out loss|choose one"),
        ("schedule.sizes=[]", "must have at least one size"),
        ("schedule.sizes=[[0.0, 100]]", "a multiple of 32 from 64 on"),
        ("schedule.sizes=[[0.1, 128]]", "must start at 0.0 and rise"),
        ("data.teacher_scales=[2]", "data.teacher_scales must have 1"),
    ],
)
def test_rejects_wrong_setting_of_detector(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_detector_recipe("faces", [setting])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("schedule.sizes=[[0.0, 64]]", "whose images have one size, network.side"),
        ("network.blocks=[1]", "a number for each of network.widths"),
        ("schedule.rate=plateau", "need a held-out loss"),
    ],
)
def test_rejects_wrong_setting_of_refiner(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_refiner_recipe("refiner", [setting])


def test_detector_and_refiner_share_schedule_with_classifiers() -> None:
    changes = ["schedule.rate=constant", "schedule.checkpoint_epochs=3", "schedule.average_epochs=2"]
    for schedule in (load_detector_recipe("faces", changes).schedule, load_refiner_recipe("refiner", changes).schedule):
        assert (schedule.rate, schedule.checkpoint_epochs, schedule.average_epochs) == ("constant", 3, 2)
