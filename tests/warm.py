"""Run the command line in a fork of a process that has already imported slow modules."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PRELOADED = [
    "fer_edge_train.progress",
    "fer_edge_train.report",
    "fer_edge_train.training",
    "fer_edge_convert.conversion",
    "tensorflow",
    "tf_keras",
]


def run(args: list[str], out: Path, err: Path, folder: Path, *, eager: bool) -> None:
    """Run ``fer-edge`` with its output in two files. If eager, TensorFlow builds no graphs."""
    import tensorflow as tf  # noqa: PLC0415 - after the fork

    from fer_edge.cli import main  # noqa: PLC0415 - likewise

    os.chdir(folder)
    os.environ["COLUMNS"] = "200"
    for path, descriptor in ((out, 1), (err, 2)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    sys.argv = ["fer-edge", *args]
    tf.config.run_functions_eagerly(eager)
    main()
