"""Finding and loading recipes: those that come with the package, and your own TOML files."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from fer_edge.errors import InputError
from fer_edge.utils.bounded_file import read_text
from fer_edge.utils.toml import Section, override, parse_toml, parse_value, to_struct
from fer_edge.utils.words import listed
from fer_edge_train.faces.detector_recipe import DetectorRecipe
from fer_edge_train.faces.refiner_recipe import RefinerRecipe
from fer_edge_train.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.resources.abc import Traversable

AnyRecipe = TypeVar("AnyRecipe", Recipe, DetectorRecipe, RefinerRecipe)

# For each type of recipe its folder in the package and the command that trains with it.
_KINDS: Final[dict[type[Section], tuple[str, str]]] = {
    Recipe: ("classifier", "train"),
    DetectorRecipe: ("detector", "train-faces"),
    RefinerRecipe: ("refiner", "train-refiner"),
}


def recipe_names(kind: type[Section] | None = None) -> list[str]:
    """Return the names of the recipes in the package, sorted; of one type of recipe or of all."""
    return sorted(name for name, (other, _) in _list_recipe_files().items() if kind in {None, other})


def recipe_text(name: str) -> str:
    """Return the TOML text of a recipe.

    Args:
        name: name of a recipe in the package, or path of a ``.toml`` file.

    Raises:
        InputError: there is no such recipe.
    """
    if name.endswith(".toml"):
        return _read(name)
    return _find(name, recipe_names())[1].read_text(encoding="utf-8")


def recipe_summaries() -> list[tuple[str, str, str]]:
    """Return name, command and one-line description of every recipe in the package, those of one command together."""
    summaries = []
    for kind, (_, command) in _KINDS.items():
        for name in recipe_names(kind):
            tables = parse_toml(recipe_text(name), f"recipe {name}")
            summaries.append((name, command, str(tables["summary"])))
    return summaries


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Load the recipe of a classifier.

    Args:
        name: name of a recipe in the package, or path of a ``.toml`` file.
        settings: changes such as ``optimizer.learning_rate=0.01``. A value that is not TOML is a string.

    Raises:
        InputError: there is no such recipe, or something in it or in the changes is wrong.
    """
    return _load(name, settings, Recipe)


def load_detector_recipe(name: str = "faces", settings: Sequence[str] = ()) -> DetectorRecipe:
    """Load the recipe of a face detector; arguments and errors are those of `load_recipe`."""
    return _load(name, settings, DetectorRecipe)


def load_refiner_recipe(name: str = "refiner", settings: Sequence[str] = ()) -> RefinerRecipe:
    """Load the recipe of a detector's second stage; arguments and errors are those of `load_recipe`."""
    return _load(name, settings, RefinerRecipe)


def _load(name: str, settings: Sequence[str], kind: type[AnyRecipe]) -> AnyRecipe:
    if not name.endswith(".toml"):
        found, _ = _find(name, recipe_names(kind))
        if found is not kind:
            raise InputError(
                f"recipe {name}: it is for fer-edge {_KINDS[found][1]}; for fer-edge {_KINDS[kind][1]}"
                f" choose {listed(recipe_names(kind), 'or')}, or give a .toml file"
            )
    tables = parse_toml(recipe_text(name), f"recipe {name}")
    given = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        *path, last = key.strip().split(".")
        last = {"lr": "learning_rate"}.get(last, last)
        if not equals or not last or not all(path):
            raise InputError(f"--set {setting}: give KEY=VALUE, such as optimizer.learning_rate=0.01")
        given[f"--set {setting}"] = (".".join([*path, last]), parse_value(value))
    override(tables, given, kind)
    return to_struct(tables, kind, f"recipe {name}")


def _find(name: str, choices: Sequence[str]) -> tuple[type[Section], Traversable]:
    """Return type and file of a recipe in the package; an error suggests one of ``choices``."""
    files = _list_recipe_files()
    if name not in files:
        near = difflib.get_close_matches(name, choices, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"no recipe {name!r}: {hint}choose {listed(choices, 'or')}, or give a .toml file")
    return files[name]


def _list_recipe_files() -> dict[str, tuple[type[Section], Traversable]]:
    folder = resources.files("fer_edge_train") / "recipes"
    return {
        file.name.removesuffix(".toml"): (kind, file)
        for kind, (subfolder, _) in _KINDS.items()
        for file in (folder / subfolder).iterdir()
        if file.name.endswith(".toml")
    }


def _read(path: str) -> str:
    return read_text(Path(path))
