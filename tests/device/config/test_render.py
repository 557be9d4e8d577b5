from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import msgspec

from fer_edge_device.config.load import load_config
from fer_edge_device.config.render import as_toml, example
from fer_edge_device.config.settings import Config

if TYPE_CHECKING:
    from pathlib import Path


def test_the_example_contains_the_defaults_as_comments(tmp_path: Path) -> None:
    text = example()
    sections = ("camera", "faces", "events", "mqtt", "outbox", "history", "web", "collect", "log")
    assert tomllib.loads(text) == {name: {} for name in sections}
    keys = [
        line.removeprefix("# ") if " = " in line and line.split()[1].isidentifier() and line.split()[2] == "=" else line
        for line in text.splitlines()
    ]
    path = tmp_path / "c.toml"
    path.write_text("\n".join(keys))
    assert load_config(path, {}) == Config()
    for field in msgspec.structs.fields(Config):
        assert f"{field.name} = " in text or f"[{field.name}]" in text
    assert "above 0 to 3600" in text


def test_a_rendered_configuration_can_be_loaded(tmp_path: Path) -> None:
    config = load_config(None, {"FER_EDGE_NODE": "hall", "FER_EDGE_CAMERA_SOURCE": 'rtsp://"é'})
    path = tmp_path / "c.toml"
    path.write_text(as_toml(config), encoding="utf-8")
    assert load_config(path, {}) == config


def test_the_example_sets_given_values() -> None:
    text = example({"node": "hall", "camera.source": "0"})
    changed = [line for line in text.splitlines() if line not in example().splitlines()]
    assert changed == ['node = "hall"', 'source = "0"']
