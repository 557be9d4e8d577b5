from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import InputError
from fer_edge_train.faces.detector_recipe import DetectorRecipe
from fer_edge_train.faces.refiner_recipe import RefinerRecipe
from fer_edge_train.recipe_files import (
    load_detector_recipe,
    load_recipe,
    load_refiner_recipe,
    recipe_names,
    recipe_summaries,
    recipe_text,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_loads_recipe_from_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(recipe_text("edge"))
    assert load_recipe(str(path)) == load_recipe("edge")
    path.write_text("summary = ")
    with pytest.raises(InputError, match=r"mine.toml: not valid TOML, line 1: invalid value; correct it there$"):
        load_recipe(str(path))
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe(str(tmp_path / "other.toml"))
    with pytest.raises(InputError, match=r"did you mean edge\? choose .*, .* or transfer, or give a .toml file$"):
        load_recipe("egde")
    assert tomllib.loads(recipe_text("edge"))["summary"]


def test_lists_recipes_of_every_kind() -> None:
    assert recipe_names(DetectorRecipe) == ["faces"]
    assert recipe_names(RefinerRecipe) == ["refiner"]
    summaries = recipe_summaries()
    assert sorted(name for name, _, _ in summaries) == recipe_names()
    assert ("edge", "train", load_recipe("edge").summary) in summaries
    assert ("faces", "train-faces", load_detector_recipe().summary) in summaries
    assert ("refiner", "train-refiner", load_refiner_recipe().summary) in summaries


def test_rejects_recipe_for_another_command() -> None:
    with pytest.raises(
        InputError, match="faces: it is for fer-edge train-faces; for fer-edge train choose adapt, cnn-bn-gap"
    ):
        load_recipe("faces")
    with pytest.raises(InputError, match="edge: it is for fer-edge train; for fer-edge train-faces choose faces"):
        load_detector_recipe("edge")
    with pytest.raises(InputError, match="no recipe 'refinr': did you mean refiner"):
        load_refiner_recipe("refinr")
