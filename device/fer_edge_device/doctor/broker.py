"""Check the MQTT broker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import FerEdgeError
from fer_edge_device.doctor.base import Finding
from fer_edge_device.doctor.host import service_units
from fer_edge_device.install.paths import PASSWORD

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config

BROKER_TIMEOUT: Final = 10.0  # seconds
_SERVICE_PASSWORD: Final = Path("/", PASSWORD)


def check_broker(config: Config) -> Finding:
    """Check that the broker can be reached and accepts the login."""
    if not config.mqtt.url:
        return Finding("ok", "none is configured; messages go to standard output")
    settings, advice = config.mqtt, ""
    if not settings.password_file and "CREDENTIALS_DIRECTORY" not in os.environ:
        if os.access(_SERVICE_PASSWORD, os.R_OK):
            settings = msgspec.structs.replace(settings, password_file=str(_SERVICE_PASSWORD))
        elif os.geteuid() and service_units():
            advice = "run this with sudo, which uses the service's password"
    from fer_edge_device.mqtt.maintenance import check_login  # noqa: PLC0415 - heavy

    try:
        return Finding("ok", check_login(settings, config.node_name(), BROKER_TIMEOUT))
    except FerEdgeError as error:
        return Finding("failure", str(error), advice)
