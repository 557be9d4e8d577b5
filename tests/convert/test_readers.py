from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from fer_edge.errors import ModelError
from fer_edge_convert.formats import keras_files
from fer_edge_convert.formats.request import ReadOptions

KERAS = Path(__file__).parents[1] / "data" / "keras2" / "sequential-2.keras"


def test_unpacks_no_bomb_in_a_keras_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_files, "_convert", lambda *_, **__: b"model")
    path = tmp_path / "m.keras"
    shutil.copy(KERAS, path)
    kind, _ = keras_files.read_keras_archive(path, ReadOptions())
    assert kind.startswith("Keras")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("weights.h5", bytes(100 << 20))
    with pytest.raises(ModelError, match=r"m\.keras: damaged, or not a \.keras file"):
        keras_files.read_keras_archive(path, ReadOptions())
