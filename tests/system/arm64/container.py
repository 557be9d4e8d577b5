"""The same steps in a container of this machine, with a network camera: a rehearsal of some minutes."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.arm64.image import JOB
from tests.system.containers import Container, debian_tree, require_containers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def boot(job: Path, module: str, folder: Path, suite: str | None = None) -> Iterator[dict[str, Any]]:
    """Boot a container and yield what its steps report, once all have ended.

    Args:
        job: a folder with a module and its files.
        module: the module that prints a line of JSON for each step.
        folder: where the container's files lie while it runs.
        suite: the release of Debian; by default the one that has the Python that runs this.

    Raises:
        SystemExit: no container can be booted here; says why.
    """
    try:
        require_containers()
        tree = debian_tree(suite)
    except pytest.skip.Exception as error:
        raise SystemExit(str(error)) from None
    with Container(tree, folder, {JOB: job}) as booted:
        done = booted.run("python3", "-uB", "-m", module, "--stream", PYTHONPATH=JOB)
    sys.stderr.write(done.stderr)
    yield from map(json.loads, done.stdout.splitlines())
