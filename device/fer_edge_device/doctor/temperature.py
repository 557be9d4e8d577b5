"""Check the temperature, and whether the firmware throttles the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_edge.utils.system import describe_throttling, temperature_c, throttled_flags
from fer_edge_device.doctor.base import Finding

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config

_THROTTLING_C: Final = 80.0  # degrees Celsius at which a Pi begins to throttle


def check_temperature(config: Config) -> Finding:
    """Check the temperature and the firmware's throttling flags."""
    del config
    return temperature_finding(temperature_c(), throttled_flags())


def temperature_finding(celsius: float | None, flags: int | None) -> Finding:
    """Return whether the processor is too hot or throttled.

    Args:
        celsius: the temperature of the processor in degrees Celsius; None if it is unknown.
        flags: as `fer_edge.utils.system.throttled_flags` returns them.
    """
    message = "the temperature is unknown" if celsius is None else f"{celsius:.0f} degrees C"
    reasons = describe_throttling(flags or 0)
    if any("voltage" in reason for reason in reasons):
        advice = "use the power supply and cable made for this Pi"
        return Finding("warning", f"{message}, {', '.join(reasons)}", advice)
    if reasons or (celsius is not None and celsius >= _THROTTLING_C):
        return Finding("warning", ", ".join((message, *reasons)), "give it a heat sink, a fan or shade")
    return Finding("ok", message if flags is None else f"{message}, not throttled")
