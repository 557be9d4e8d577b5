"""`fer-edge recipes`: list or print recipes."""

from __future__ import annotations

from typing import Annotated

import typer

from fer_edge.cli.completion import complete_recipe

app = typer.Typer()


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Print this recipe, to change it.", autocompletion=complete_recipe)
    ] = None,
) -> None:
    """List the recipes of `fer-edge train`, or print one.

    \b
    Example: fer-edge recipes edge > mine.toml
    """
    from fer_edge_train.recipe import load_recipe, recipe_names, recipe_text

    if name:
        print(recipe_text(name), end="")
        return
    names = recipe_names()
    for one in names:
        print(f"{one:<{max(map(len, names)) + 2}}{load_recipe(one).summary}")
