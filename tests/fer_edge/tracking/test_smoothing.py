from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.tracking.smoothing import Smoother
from fer_edge_device.config.settings import EventsSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

SETTINGS = EventsSettings()
HAPPY = np.array([0.9, 0.1], np.float32)
SAD = np.array([0.1, 0.9], np.float32)


def changes(smoother: Smoother, scores: npt.NDArray[np.float32], times: Iterable[float]) -> list[float]:
    """Return the times at which the reported label changes."""
    change_times = []
    for time in times:
        before = smoother.label
        smoother.update(scores, time)
        if smoother.label != before:
            change_times.append(time)
    return change_times


def test_single_frame_does_not_change_the_label() -> None:
    smoother = Smoother(HAPPY, 0.0, SETTINGS)
    for n in range(1, 20):
        smoother.update(SAD if n == 5 else HAPPY, n / 10)
        assert smoother.label == 0


def test_reports_a_lasting_change_once_within_a_second() -> None:
    smoother = Smoother(HAPPY, 0.0, SETTINGS)
    [change] = changes(smoother, SAD, (n / 10 for n in range(1, 40)))
    assert 0.3 <= change <= 1.0
    assert smoother.label == 1


def test_ignores_a_lead_below_the_margin() -> None:
    smoother = Smoother(HAPPY, 0.0, EventsSettings(margin=0.2))
    barely = np.array([0.45, 0.55], np.float32)
    assert not changes(smoother, barely, (n / 10 for n in range(1, 100)))


def test_result_does_not_depend_on_frame_rate() -> None:
    slow, fast = Smoother(HAPPY, 0.0, SETTINGS), Smoother(HAPPY, 0.0, SETTINGS)
    slow.update(SAD, 0.5)
    for n in range(1, 51):
        fast.update(SAD, n / 100)
    assert slow.scores == pytest.approx(fast.scores, abs=1e-5)
    assert slow.scores.sum() == pytest.approx(1)


def test_accepts_equal_times() -> None:
    smoother = Smoother(HAPPY, 1.0, SETTINGS)
    assert not changes(smoother, SAD, [1.0])
    assert (smoother.scores == HAPPY).all()


def test_new_settings_apply_from_the_next_update() -> None:
    smoother = Smoother(HAPPY, 0.0, EventsSettings(hold_s=10.0))
    assert not changes(smoother, SAD, (n / 10 for n in range(1, 30)))
    smoother.settings = SETTINGS
    assert changes(smoother, SAD, [3.0])


def test_given_label_stays_until_another_has_held() -> None:
    smoother = Smoother(HAPPY, 0.0, SETTINGS, label=1)
    assert changes(smoother, HAPPY, (n / 10 for n in range(1, 20))) == [pytest.approx(0.4)]
