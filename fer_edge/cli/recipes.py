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
    """List all recipes with the commands that train with them, or print one.

    \b
    Example: fer-edge recipes edge > mine.toml
    """
    import shutil
    import sys
    import textwrap

    from fer_edge_train.recipe_files import recipe_summaries, recipe_text

    if name:
        print(recipe_text(name), end="")
        return
    rows = recipe_summaries()
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(2)]
    room = max(20, shutil.get_terminal_size().columns - sum(widths)) if sys.stdout.isatty() else 1000
    for recipe, command, summary in rows:
        first, *more = textwrap.wrap(summary, room)
        print(f"{recipe:<{widths[0]}}{command:<{widths[1]}}{first}")
        for line in more:
            print(" " * sum(widths) + line)
