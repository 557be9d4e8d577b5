from __future__ import annotations

import pytest

from fer_edge.errors import InputError
from fer_edge_train.architectures.plain import Plain
from fer_edge_train.architectures.pretrained import Pretrained
from fer_edge_train.architectures.residual import Residual
from fer_edge_train.architectures.transfer import Transfer
from fer_edge_train.recipe import Recipe
from fer_edge_train.recipe_files import load_recipe, recipe_names


def test_recipes_of_package_cover_all_architectures() -> None:
    names = ["adapt", "cnn-bn-gap", "cnn-deep-dropout", "cnn3", "edge", "edge-plus", "fusion9", "teacher", "transfer"]
    assert recipe_names(Recipe) == names
    assert recipe_names() == sorted([*names, "faces", "refiner"])
    kinds = {type(load_recipe(name).network) for name in names}
    assert kinds == {Plain, Pretrained, Residual, Transfer}


def test_settings_change_recipe() -> None:
    changes = ["optimizer.learning_rate=0.01", "schedule.epochs = 7", "schedule.sizes=[]", "summary=just words"]
    recipe = load_recipe("edge", changes)
    assert recipe.optimizer.learning_rate == pytest.approx(0.01)
    assert (recipe.schedule.epochs, recipe.schedule.sizes, recipe.summary) == (7, (), "just words")
    assert load_recipe("edge", ["optimizer.lr=0.01"]).optimizer.learning_rate == pytest.approx(0.01)
    assert load_recipe("cnn3", ["target.label_smoothing=0.1"]).target.label_smoothing == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("setting", "message"),
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
        ("network.kind=huge", "network.kind cannot be 'huge'; choose residual, plain, transfer or pretrained"),
        ("network.blocks=[1]", "network.blocks must have the same length"),
        ("schedule.sizes=[[0.5, 48]]", "must start at 0.0"),
        ("schedule.sizes=[[0.0, 32]]", "end with data.side, which is 48"),
        ("schedule.stop_epochs=3", "choose one"),
        ('data.labels=["sad", "sad"]', "at least two, and all different"),
    ],
)
def test_wrong_setting_gives_one_clear_line(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_recipe("edge", [setting])
    assert "\n" not in str(error.value)


def test_rejects_sizes_that_network_cannot_take() -> None:
    with pytest.raises(InputError, match="needs a network that takes any size"):
        load_recipe("cnn3", ["schedule.sizes=[[0.0, 32], [0.5, 48]]"])
    load_recipe("cnn-bn-gap", ["schedule.sizes=[[0.0, 32], [0.5, 48]]"])
    with pytest.raises(InputError, match="6 poolings leave nothing of 48 pixels"):
        load_recipe("cnn3", ["network.widths=[8, 8, 8, 8, 8, 8]"])
    with pytest.raises(InputError, match="5 poolings leave nothing of 16 pixels"):
        load_recipe("cnn-bn-gap", ["network.widths=[8, 8, 8, 8, 8]", "schedule.sizes=[[0.0, 16], [0.5, 48]]"])


def test_batchnorm_faces_needs_batch_normalization() -> None:
    for recipe, changes in (("cnn3", []), ("transfer", ["network.backbone=VGG16"])):
        with pytest.raises(InputError, match="needs a network with batch normalization"):
            load_recipe(recipe, [*changes, "schedule.batchnorm_faces=100"])
    load_recipe("transfer", ["schedule.batchnorm_faces=100"])
