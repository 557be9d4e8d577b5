"""What the user says about a model that is to be read."""

from __future__ import annotations

import shlex

import msgspec


class ReadOptions(msgspec.Struct, frozen=True):
    """What the user says about a model that is to be read.

    Attributes:
        size: side of the images in pixels, for a model that takes any size.
        output: name of the output that gives the expression, for a model with several.
        classes: how many labels the user gave; 0 if none.
        architecture: JSON file that describes the layers, for a file that holds only weights.
        custom: Python file that defines the model's own layers; its code is run.
        unsafe: whether code that is stored in the model, such as a Lambda layer's, may be run.
        command: the user's command, for a message that asks for another option; empty where there is none.
        every_output: whether to keep all outputs, as those of a face detector.
    """

    size: int | None = None
    output: str | None = None
    classes: int = 0
    architecture: str | None = None
    custom: str | None = None
    unsafe: bool = False
    command: str = ""
    every_output: bool = False

    def ask_for(self, option: str, value: str) -> str:
        """Return an option with its value for a message: within the whole command, where that is known."""
        asked = f"{option} {shlex.quote(value)}"
        return f"as in: {self.command} {asked}" if self.command else f"such as {asked}"
