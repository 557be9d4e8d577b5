"""A real runner with its page, and a browser."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.device.servers import Http, serving
from tests.device.web.browser import CHROMIUM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from playwright.sync_api import Browser, Playwright


@contextmanager
def _serving(folder: Path, *command: str) -> Iterator[str]:
    """Run a command that serves a page, and yield the page's address."""
    with (folder / "out").open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "fer_edge.cli", *command], stdout=out, stderr=subprocess.PIPE, text=True, cwd=folder
        )
        assert server.stderr
        try:
            lines = []
            for line in server.stderr:
                lines.append(line)
                if found := re.search(r"the page is at (\S+/)", line):
                    break
            else:
                pytest.fail(f"no page: {lines}")
            # A name would be looked up in the network.
            yield re.sub(r"//[^:\[]+:", "//127.0.0.1:", found[1])
        finally:
            server.terminate()
            said = server.communicate()[1]
        assert "Traceback" not in said, said
        assert "ASGI" not in said, said


@pytest.fixture
def serve_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[str]]:
    """Return a function that serves the page for images, with the options that it is given."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def serve(*options: str) -> AbstractContextManager[str]:
        return _serving(tmp_path, "web", "--no-open", "--listen", "127.0.0.1:0", *options)

    return serve


@pytest.fixture
def serve_review(tmp_path: Path) -> Callable[..., AbstractContextManager[str]]:
    """Return a function that serves the page for reviewing a folder, with the options that it is given."""

    def serve(folder: Path, *options: str) -> AbstractContextManager[str]:
        return _serving(tmp_path, "review", str(folder), "--no-open", "--port", "0", *options)

    return serve


@pytest.fixture
def serve_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AbstractContextManager[str]]]:
    """Return a function that serves the page of a runner that watches a camera on the network playing the demo."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with serving(Http) as camera:

        def serve(text: str = "", listen: str = "127.0.0.1:0") -> AbstractContextManager[str]:
            config = tmp_path / "config.toml"
            source = f"http://127.0.0.1:{camera.port}/video"
            outbox = f'[outbox]\npath = "{tmp_path}/outbox.sqlite"\n'
            config.write_text(
                f'node = "test"\n[camera]\nsource = "{source}"\n{outbox}[web]\nlisten = "{listen}"\n{text}'
            )
            return _serving(tmp_path, "run", "--config", str(config))

        yield serve


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    yield browser
    browser.close()
