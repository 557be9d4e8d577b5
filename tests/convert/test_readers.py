from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from fer_edge.errors import ModelError
from fer_edge_convert import readers

KERAS = Path(__file__).parents[1] / "data" / "keras2" / "sequential-2.keras"


def test_unpacks_no_bomb_in_a_keras_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_by_keras", lambda *_, **__: b"model")
    path = tmp_path / "m.keras"
    shutil.copy(KERAS, path)
    kind, _ = readers.read_keras_archive(path, None, unsafe=False)
    assert kind.startswith("Keras")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("weights.h5", bytes(100 << 20))
    with pytest.raises(ModelError, match=r"m\.keras: damaged, or not a \.keras file"):
        readers.read_keras_archive(path, None, unsafe=False)
