"""The notebook runs from top to bottom, and its results show themselves."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "fer_edge.ipynb"


def outputs(cell: Any) -> dict[str, Any]:  # noqa: ANN401 - of a package without types
    """Return what a cell gave, by its kind."""
    result: dict[str, Any] = {}
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream":  # text comes in several parts
            result[output["name"]] = result.get(output["name"], "") + output["text"]
        else:
            result |= output["data"]
    return result


def test_notebook_runs_and_shows_images() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "store it without outputs"
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    cell_outputs = [outputs(cell) for cell in code]
    assert not any("stderr" in output for output in cell_outputs)
    (png,) = [output["image/png"] for output in cell_outputs if "image/png" in output]
    assert base64.b64decode(png).startswith(b"\x89PNG")
    events = next(output["stdout"] for output in cell_outputs if "new" in output.get("stdout", ""))
    assert events.count(" end ") == 3
    assert cell_outputs[-1]["text/plain"].count("frame.png") == 3
