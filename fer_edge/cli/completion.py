"""Complete names of models and recipes; where no name fits, the shell completes files."""

from __future__ import annotations

from fer_edge.model_zoo import CLASSIFIERS, DETECTORS, TRAINABLE


def complete_classifier(incomplete: str) -> list[str]:
    """Return the shipped classifiers that fit."""
    return [name for name in CLASSIFIERS if name.startswith(incomplete)]


def complete_trainable(incomplete: str) -> list[str]:
    """Return the shipped classifiers that fit and whose float models the repository has."""
    return [name for name in TRAINABLE if name.startswith(incomplete)]


def complete_detector(incomplete: str) -> list[str]:
    """Return the shipped face detectors that fit."""
    return [name for name in DETECTORS if name.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Return the shipped models that fit."""
    return complete_classifier(incomplete) + complete_detector(incomplete)


def complete_recipe(incomplete: str) -> list[str]:
    """Return the shipped recipes that fit."""
    from fer_edge_train.recipe_files import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]


def complete_classifier_recipe(incomplete: str) -> list[str]:
    """Return the shipped recipes of classifiers that fit."""
    from fer_edge_train.recipe import Recipe
    from fer_edge_train.recipe_files import recipe_names

    return [name for name in recipe_names(Recipe) if name.startswith(incomplete)]
