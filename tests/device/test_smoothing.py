from __future__ import annotations

import numpy as np
import pytest

from fer_edge_device.config import EventsSettings
from fer_edge_device.smoothing import Smoother

SETTINGS = EventsSettings()
HAPPY = np.array([0.9, 0.1], np.float32)
SAD = np.array([0.1, 0.9], np.float32)


def test_one_odd_frame_changes_nothing() -> None:
    smoother = Smoother(HAPPY, 0.0, SETTINGS)
    assert [smoother.update(SAD if n == 5 else HAPPY, n / 10) for n in range(1, 20)] == [False] * 19
    assert smoother.label == 0


def test_a_change_that_holds_is_reported_once_within_a_second() -> None:
    smoother = Smoother(HAPPY, 0.0, SETTINGS)
    changes = [n / 10 for n in range(1, 40) if smoother.update(SAD, n / 10)]
    assert len(changes) == 1
    assert 0.3 <= changes[0] <= 1.0
    assert smoother.label == 1


def test_a_lead_below_the_margin_is_no_change() -> None:
    smoother = Smoother(HAPPY, 0.0, EventsSettings(margin=0.2))
    barely = np.array([0.45, 0.55], np.float32)
    assert not any(smoother.update(barely, n / 10) for n in range(1, 100))


def test_the_frame_rate_does_not_matter() -> None:
    slow, fast = Smoother(HAPPY, 0.0, SETTINGS), Smoother(HAPPY, 0.0, SETTINGS)
    slow.update(SAD, 0.5)
    for n in range(1, 51):
        fast.update(SAD, n / 100)
    assert slow.scores == pytest.approx(fast.scores, abs=1e-5)
    assert slow.scores.sum() == pytest.approx(1)


def test_time_that_stands_still_is_no_error() -> None:
    smoother = Smoother(HAPPY, 1.0, SETTINGS)
    assert not smoother.update(SAD, 1.0)
    assert (smoother.scores == HAPPY).all()


def test_other_settings_hold_from_the_next_look_on() -> None:
    smoother = Smoother(HAPPY, 0.0, EventsSettings(hold_s=10.0))
    assert not any(smoother.update(SAD, n / 10) for n in range(1, 30))
    smoother.settings = SETTINGS
    assert smoother.update(SAD, 3.0)


def test_what_was_reported_before_the_first_look_stays_until_another_label_has_held() -> None:
    smoother = Smoother(HAPPY, 0.0, SETTINGS, label=1)
    changes = [n / 10 for n in range(1, 20) if smoother.update(HAPPY, n / 10)]
    assert changes == [pytest.approx(0.4)]
