from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import InputError
from fer_edge_train.recipe import Plain, Residual, Transfer, load_recipe, recipe_names, recipe_text

if TYPE_CHECKING:
    from pathlib import Path


def test_there_is_a_recipe_for_each_system_that_this_grew_from_and_ours() -> None:
    names = ["cnn-bn-gap", "cnn-deep-dropout", "cnn3", "edge", "edge-plus", "fusion9", "teacher", "transfer"]
    assert recipe_names() == names
    kinds = {type(load_recipe(name).network) for name in names}
    assert kinds == {Plain, Residual, Transfer}


def test_settings_change_a_recipe() -> None:
    changes = ["optimizer.learning_rate=0.01", "schedule.epochs = 7", "schedule.sizes=[]", "summary=just words"]
    recipe = load_recipe("edge", changes)
    assert recipe.optimizer.learning_rate == pytest.approx(0.01)
    assert (recipe.schedule.epochs, recipe.schedule.sizes, recipe.summary) == (7, (), "just words")
    assert load_recipe("edge", ["optimizer.lr=0.01"]).optimizer.learning_rate == pytest.approx(0.01)
    assert load_recipe("cnn3", ["target.label_smoothing=0.1"]).target.label_smoothing == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        (
            "optimizer.learning_rat=1",
            r"^--set .*: there is no key optimizer.learning_rat; did you mean optimizer.learning_rate\?",
        ),
        ("batch_size=64", r"^--set batch_size=64: there is no key batch_size; did you mean optimizer.batch_size\?"),
        ("optimizer.learning_rate", "give KEY=VALUE"),
        ("=1", "give KEY=VALUE"),
        ("seed.x=1", "seed is a value, not a table"),
        ("optimizer.learning_rate=fast", r"^--set .*: optimizer.learning_rate must be a number, not text$"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate must be above 0$"),
        ("network.kind=huge", "network.kind cannot be 'huge'; choose residual, plain or transfer"),
        ("network.pairs=[1]", "network.pairs must have the same length"),
        ("schedule.sizes=[[0.5, 48]]", "must start at 0.0"),
        ("schedule.sizes=[[0.0, 32]]", "end with data.side, which is 48"),
        ("schedule.stop_epochs=3", "choose one"),
        ('data.labels=["sad", "sad"]', "at least two, and all different"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(setting: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        load_recipe("edge", [setting])
    assert "\n" not in str(caught.value)


def test_a_network_that_takes_one_size_only_is_not_trained_at_several() -> None:
    with pytest.raises(InputError, match="needs a network that takes any size"):
        load_recipe("cnn3", ["schedule.sizes=[[0.0, 32], [0.5, 48]]"])
    load_recipe("cnn-bn-gap", ["schedule.sizes=[[0.0, 32], [0.5, 48]]"])
    with pytest.raises(InputError, match="6 poolings leave nothing of 48 pixels"):
        load_recipe("cnn3", ["network.widths=[8, 8, 8, 8, 8, 8]"])
    with pytest.raises(InputError, match="5 poolings leave nothing of 16 pixels"):
        load_recipe("cnn-bn-gap", ["network.widths=[8, 8, 8, 8, 8]", "schedule.sizes=[[0.0, 16], [0.5, 48]]"])


def test_statistics_are_not_measured_anew_where_there_are_none() -> None:
    for recipe, changes in (("cnn3", []), ("transfer", ["network.backbone=VGG16"])):
        with pytest.raises(InputError, match="for batch normalisation, and this network has none"):
            load_recipe(recipe, [*changes, "schedule.statistics_faces=100"])
    load_recipe("transfer", ["schedule.statistics_faces=100"])


def test_a_printed_recipe_is_a_recipe_of_ones_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(recipe_text("edge"))
    assert load_recipe(str(mine)) == load_recipe("edge")
    mine.write_text("summary = ")
    with pytest.raises(InputError, match=r"mine.toml: Invalid value"):
        load_recipe(str(mine))
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe(str(tmp_path / "other.toml"))
    with pytest.raises(InputError, match="did you mean edge"):
        load_recipe("egde")
    assert tomllib.loads(recipe_text("edge"))["summary"]
