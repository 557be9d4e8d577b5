from __future__ import annotations

import msgspec
import pytest

from fer_edge.errors import InputError
from fer_edge.utils.toml import to_struct
from fer_edge_device.config.settings import Config


def test_the_node_is_named_after_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "my pi/ü")
    assert Config().node_name() == "my-pi--"
    assert Config(node="hall").node_name() == "hall"


@pytest.mark.parametrize(
    "prefix", [".", "a/./b", "-", "$SYS", "a/", "/a", "a//b", "a+", "#", "a\n", "a\tb", "\x1b[2Ja", ""]
)
def test_rejects_topics_that_a_broker_or_a_reader_cannot_use(prefix: str) -> None:
    for key in ("topic_prefix", "ha_discovery_prefix"):
        with pytest.raises(InputError, match=rf"^x: mqtt.{key} must be a topic such as fer-edge or home/cameras"):
            to_struct({"mqtt": {key: prefix}}, Config, "x")


@pytest.mark.parametrize("prefix", ["fer-edge", "home/Küche", "a.b/c_d", "7", "a $b"])
def test_accepts_topics(prefix: str) -> None:
    assert to_struct({"mqtt": {"topic_prefix": prefix}}, Config, "x").mqtt.topic_prefix == prefix


def test_rejects_an_outbox_without_its_suffix() -> None:
    for path in ("/x/outbox.db", "/x/.sqlite", "/x/o.sqlite\n", "o"):
        with pytest.raises(InputError, match=r"outbox.path must be a path that ends in .sqlite"):
            to_struct({"outbox": {"path": path}}, Config, "x")


def test_every_pattern_has_words() -> None:
    def metas(struct: type[msgspec.Struct]) -> list[msgspec.Meta]:
        found: list[msgspec.Meta] = []
        for field in msgspec.structs.fields(struct):
            found += (meta for meta in getattr(field.type, "__metadata__", ()) if isinstance(meta, msgspec.Meta))
            if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
                found += metas(field.type)
        return found

    patterns = [meta for meta in metas(Config) if meta.pattern]
    assert len(patterns) >= 3
    assert all((meta.extra or {}).get("form") for meta in patterns)
