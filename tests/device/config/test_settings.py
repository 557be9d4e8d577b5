from __future__ import annotations

from typing import TYPE_CHECKING

from fer_edge_device.config.settings import Config

if TYPE_CHECKING:
    import pytest


def test_the_node_is_named_after_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "my pi/ü")
    assert Config().node_name() == "my-pi--"
    assert Config(node="hall").node_name() == "hall"
