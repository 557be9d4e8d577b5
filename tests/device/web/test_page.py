"""The page in a real browser."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Serve = Callable[..., AbstractContextManager[str]]

    from playwright.sync_api import Browser, Page

SHOTS = Path(__file__).parents[3] / ".screenshots"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: sudo apt install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def watch(page: Page, address: str) -> tuple[list[str], list[str]]:
    """Open the page; return lists that fill with problems, and with what is fetched from elsewhere."""
    problems: list[str] = []
    foreign: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(address) else foreign.append(request.url))
    page.goto(address)
    return problems, foreign


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (768, "dark"), (1280, "light")])
def test_page_shows_faces_on_every_width(
    serve_page: Serve,
    browser: Browser,
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    with serve_page() as address:
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        problems, foreign = watch(page, address)
        page.wait_for_selector("#faces li")
        page.wait_for_selector("#picture:not([hidden])")
        page.wait_for_selector("#events li")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        serious = [
            each for each in axe.Axe().run(page).response["violations"] if each["impact"] in {"serious", "critical"}
        ]
        assert not serious
        SHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SHOTS / f"page-{width}.png", full_page=True)
        page.close()
    assert problems == []
    assert foreign == []


def test_switch_on_the_page_closes_the_camera(serve_page: Serve, browser: Browser) -> None:
    with serve_page() as address:
        page = browser.new_page()
        problems, _ = watch(page, address)
        page.wait_for_selector("#picture:not([hidden])")
        page.click("#switch")
        page.wait_for_selector("#curtain:has-text('Switched off')")
        assert page.get_attribute("#picture", "src") is None
        assert page.locator("#boxes rect").count() == page.locator("#faces li").count() == 0
        page.keyboard.press("Enter")  # the switch has the focus
        page.wait_for_selector("#picture:not([hidden])")
        page.close()
    assert [each for each in problems if not re.search("404", each)] == []


def test_token_is_asked_for(serve_page: Serve, browser: Browser, tmp_path: Path) -> None:
    with serve_page(listen="0.0.0.0:0") as address:
        page = browser.new_page()
        page.goto(address)
        page.fill("#token", "wrong token, wrong token")
        page.press("#token", "Enter")
        page.wait_for_url("**/login?wrong")
        page.fill("#token", (tmp_path / "state/fer-edge/test-web-token").read_text().strip())
        page.press("#token", "Enter")
        page.wait_for_selector("#faces li")
        page.close()
