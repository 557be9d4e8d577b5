"""A real browser for tests of the pages."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SHOTS: Final = Path(__file__).parents[3] / ".screenshots"
CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: sudo apt install chromium")


def new_page(browser: Browser, **options: Any) -> Page:  # noqa: ANN401 - as playwright's
    """Return a page that waits long for everything, because a loaded machine is slow."""
    page = browser.new_page(**options)
    page.set_default_timeout(120_000)
    return page


def watch(page: Page, address: str) -> tuple[list[str], list[str]]:
    """Open a page; return lists that fill with problems, and with what is fetched from elsewhere."""
    problems: list[str] = []
    foreign: list[str] = []
    own = (address, f"blob:{address}")
    page.on("console", lambda message: problems.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(own) else foreign.append(request.url))
    page.goto(address)
    return problems, foreign


def serious_findings(page: Page) -> list[object]:
    """Return what axe-core finds wrong for people who cannot see or use a mouse."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    return [each for each in axe.Axe().run(page).response["violations"] if each["impact"] in {"serious", "critical"}]
