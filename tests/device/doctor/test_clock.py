from __future__ import annotations

import datetime as dt

from fer_edge_device.config.settings import Config
from fer_edge_device.doctor.clock import check_clock, clock_finding


def test_judges_the_clock() -> None:
    now = dt.datetime(2027, 5, 1, tzinfo=dt.UTC)
    assert clock_finding(now, synchronized=True).level == "ok"
    assert clock_finding(now, synchronized=None).level == "ok"
    assert clock_finding(now, synchronized=False).level == "warning"
    assert clock_finding(now.replace(year=1970), synchronized=False).level == "failure"
    assert check_clock(Config()).level in {"ok", "warning"}
