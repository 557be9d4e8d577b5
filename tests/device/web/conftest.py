"""A real runner with its page, and a browser."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.device.servers import Http, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


@contextmanager
def _serving_page(folder: Path, source: str, text: str, listen: str) -> Iterator[str]:
    """Run `fer-edge run` with a page, and yield the page's address."""
    config = folder / "config.toml"
    outbox = f'[outbox]\npath = "{folder}/outbox.sqlite"\n'
    config.write_text(f'node = "test"\n[camera]\nsource = "{source}"\n{outbox}[web]\nlisten = "{listen}"\n{text}')
    command = [sys.executable, "-m", "fer_edge.cli", "run", "--config", str(config)]
    with (folder / "out").open("wb") as out:
        runner = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True)
        assert runner.stderr
        try:
            lines = []
            for line in runner.stderr:
                lines.append(line)
                if found := re.search(r"the page is at (\S+/)", line):
                    break
            else:
                pytest.fail(f"no page: {lines}")
            # A name would be looked up in the network.
            yield re.sub(r"//[^:\[]+:", "//127.0.0.1:", found[1])
        finally:
            runner.terminate()
            runner.stderr.close()
            runner.wait()


@pytest.fixture
def serve_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AbstractContextManager[str]]]:
    """Return a function that serves the page of a runner that watches a camera on the network playing the demo."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with serving(Http) as camera:

        def serve(text: str = "", listen: str = "127.0.0.1:0") -> AbstractContextManager[str]:
            return _serving_page(tmp_path, f"http://127.0.0.1:{camera.port}/video", text, listen)

        yield serve
