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
    """The times at which the reported label changes."""
    found = []
    for time in times:
        before = smoother.label
        smoother.update(scores, time)
        if smoother.label != before:
            found.append(time)
    return found


def test_one_odd_frame_changes_nothing() -> None:
    smoother = Smoother(HAPPY, 0.0, SETTINGS)
    for n in range(1, 20):
        smoother.update(SAD if n == 5 else HAPPY, n / 10)
        assert smoother.label == 0


def test_a_change_that_holds_is_reported_once_within_a_second() -> None:
    smoother = Smoother(HAPPY, 0.0, SETTINGS)
    [change] = changes(smoother, SAD, (n / 10 for n in range(1, 40)))
    assert 0.3 <= change <= 1.0
    assert smoother.label == 1


def test_a_lead_below_the_margin_is_no_change() -> None:
    smoother = Smoother(HAPPY, 0.0, EventsSettings(margin=0.2))
    barely = np.array([0.45, 0.55], np.float32)
    assert not changes(smoother, barely, (n / 10 for n in range(1, 100)))


def test_the_frame_rate_does_not_matter() -> None:
    slow, fast = Smoother(HAPPY, 0.0, SETTINGS), Smoother(HAPPY, 0.0, SETTINGS)
    slow.update(SAD, 0.5)
    for n in range(1, 51):
        fast.update(SAD, n / 100)
    assert slow.scores == pytest.approx(fast.scores, abs=1e-5)
    assert slow.scores.sum() == pytest.approx(1)


def test_time_that_stands_still_is_no_error() -> None:
    smoother = Smoother(HAPPY, 1.0, SETTINGS)
    assert not changes(smoother, SAD, [1.0])
    assert (smoother.scores == HAPPY).all()


def test_other_settings_hold_from_the_next_look_on() -> None:
    smoother = Smoother(HAPPY, 0.0, EventsSettings(hold_s=10.0))
    assert not changes(smoother, SAD, (n / 10 for n in range(1, 30)))
    smoother.settings = SETTINGS
    assert changes(smoother, SAD, [3.0])


def test_what_was_reported_before_the_first_look_stays_until_another_label_has_held() -> None:
    smoother = Smoother(HAPPY, 0.0, SETTINGS, label=1)
    assert changes(smoother, HAPPY, (n / 10 for n in range(1, 20))) == [pytest.approx(0.4)]
