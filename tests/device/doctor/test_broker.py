from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING

from fer_edge.errors import FerEdgeError
from fer_edge_device.config.settings import Config, MqttSettings
from fer_edge_device.doctor.base import Finding, run_check
from fer_edge_device.doctor.broker import check_broker

if TYPE_CHECKING:
    import pytest


def test_contacts_a_broker_only_if_one_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    def log_in(settings: MqttSettings, node: str, timeout: float) -> str:
        assert timeout > 0
        if settings.url.endswith("wrong"):
            raise FerEdgeError("wrong: the broker refused the password; look into password_file")
        return f"{settings.url} takes {node}"

    monkeypatch.setitem(sys.modules, "fer_edge_device.mqtt.maintenance", types.SimpleNamespace(check_login=log_in))
    assert check_broker(Config()).message.startswith("none is configured")
    config = Config(node="hall", mqtt=MqttSettings(url="mqtt://broker"))
    assert check_broker(config) == Finding("ok", "mqtt://broker takes hall")
    refused = run_check(check_broker, Config(mqtt=MqttSettings(url="mqtt://wrong")))
    assert (refused.level, refused.message) == (
        "failure",
        "wrong: the broker refused the password; look into password_file",
    )
