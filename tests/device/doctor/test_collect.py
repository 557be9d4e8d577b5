from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from fer_edge_device.collect.encryption import make_identity
from fer_edge_device.config.settings import CollectSettings, Config
from tests.device.doctor.helpers import finding

if TYPE_CHECKING:
    from pathlib import Path


def test_says_whether_crops_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "collected"
    off = Config(collect=CollectSettings(path=str(folder)))
    settings = {"enabled": True, "public_key": make_identity(tmp_path / "identity"), "max_faces": 2}
    on = Config(collect=msgspec.structs.replace(off.collect, **settings))

    def check(config: Config) -> tuple[str, str]:
        found = finding("collected faces", config)
        return found.level, found.message

    assert check(off) == ("ok", "no crops of faces are kept")
    assert check(on) == ("ok", f"crops of faces are kept, encrypted, in {folder}: 0 of 2")
    folder.mkdir()
    for number in range(2):
        (folder / f"{int((time.time() - 86_400) * 1000)}-0000000{number}.age").touch()
    assert check(on) == (
        "warning",
        f"crops of faces are kept, encrypted, in {folder}: 2 of 2, the oldest of 1.0 days ago; no more are added",
    )
    level, message = check(off)
    assert level == "warning"
    assert "2 crops are left" in message
    damaged = msgspec.structs.replace(on.collect, public_key=on.collect.public_key[:-4] + "qqqq")
    level, message = check(Config(collect=damaged))
    assert level == "failure"
    assert "mistyped" in message
