"""Test starting, resuming and refusing a run's folder."""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

from fer_edge.errors import InputError
from fer_edge_train.recipe_files import load_recipe
from fer_edge_train.run_folder import RunFolder, fingerprint

if TYPE_CHECKING:
    from pathlib import Path


def test_new_run_writes_its_recipe(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.check_can_start(resume=False)
    assert folder.begin(load_recipe("edge"), "0123", resume=False) == 0
    text = (tmp_path / "run" / "recipe.toml").read_text()
    assert text.startswith("# SHA-256 of the training data: 0123\n")
    assert tomllib.loads(text)["network"]["kind"] == "residual"
    assert load_recipe(str(tmp_path / "run" / "recipe.toml")) == load_recipe("edge")


def test_resumes_last_checkpoint_of_same_run_only(tmp_path: Path) -> None:
    folder, recipe = RunFolder(tmp_path), load_recipe("edge")
    folder.begin(recipe, "0123", resume=False)
    for epoch in (2, 10):
        (tmp_path / f"checkpoint-{epoch:04d}.keras").touch()
    with pytest.raises(InputError, match="holds a training run; add --resume"):
        folder.check_can_start(resume=False)
    folder.check_can_start(resume=True)
    assert folder.begin(recipe, "0123", resume=True) == 10
    for other, data in ((load_recipe("edge", ["seed=2"]), "0123"), (recipe, "4567")):
        with pytest.raises(InputError, match="another recipe or other data"):
            folder.begin(other, data, resume=True)


def test_starts_from_beginning_without_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert RunFolder(tmp_path).begin(load_recipe("edge"), "0123", resume=True) == 0
    assert "no checkpoint to resume from" in caplog.text


def test_fingerprint_depends_on_all_parts() -> None:
    assert fingerprint([b"a", b"b"]) == fingerprint([b"a", b"b"]) != fingerprint([b"a", b"c"])
