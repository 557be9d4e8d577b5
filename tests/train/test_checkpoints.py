from __future__ import annotations

import os
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

from fer_edge.errors import ModelError
from fer_edge_train.checkpoints import load_checkpoint
from fer_edge_train.network import load_trained

if TYPE_CHECKING:
    from pathlib import Path


def test_names_damaged_files_in_plain_words(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint-0001.keras"
    file.write_bytes(b"damaged")
    for load, remedy in ((load_checkpoint, "delete the folder and start again"), (load_trained, "train it again")):
        with pytest.raises(ModelError) as raised:
            load(file)
        message = str(raised.value)
        assert remedy in message
        assert message.endswith("(`fer-edge --debug train ...` shows why)")
        assert "Keras" not in message
