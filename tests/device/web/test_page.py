"""The page in a real browser."""

from __future__ import annotations

import re
import socketserver
from functools import partial
from http.server import SimpleHTTPRequestHandler
from threading import Thread
from typing import TYPE_CHECKING, Literal

import pytest

from fer_edge_device.collect.encryption import make_identity
from fer_edge_device.history.report import make_history_page
from fer_edge_device.history.rows import Period
from tests.device.web.browser import SHOTS, needs_chromium, new_page, serious_findings, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    Serve = Callable[..., AbstractContextManager[str]]

    from playwright.sync_api import Browser

pytestmark = [needs_chromium, pytest.mark.xdist_group("browser")]


# The sum of a page's layout shifts, as browsers count them; from 0.1 on, they are a nuisance.
COUNT_SHIFTS = """
    shifts = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((each) => { shifts += each.value; }))
        .observe({ type: "layout-shift", buffered: true });
"""


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (768, "dark"), (1280, "light")])
def test_page_shows_faces_on_every_width(
    serve_page: Serve,
    browser: Browser,
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    with serve_page() as address:
        page = new_page(browser, viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.add_init_script(COUNT_SHIFTS)
        problems, foreign = watch(page, address)
        page.wait_for_selector("#faces li")
        page.wait_for_selector("#picture:not([hidden])")
        page.wait_for_selector("#events li")
        assert page.evaluate("shifts") < 0.05, "what is new moves nothing else"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_findings(page) == []
        SHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SHOTS / f"page-{width}.png", full_page=True)
        page.close()
    assert problems == []
    assert foreign == []


def test_report_of_a_history_fits_a_phone(browser: Browser, tmp_path: Path) -> None:
    labels = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    minutes = [
        Period(1_764_000_000 + 60 * minute, 60.0, 20.3, 1, 1, dict.fromkeys(labels, 20.3 / 7)) for minute in range(9)
    ]
    report = tmp_path / "report.html"
    report.write_text(make_history_page(minutes, "hall"))
    page = new_page(browser, viewport={"width": 360, "height": 800})
    problems, foreign = watch(page, report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert serious_findings(page) == []
    assert page.locator("svg text:text-is('100')").count() == 1
    assert page.locator("svg text:text-is('120')").count() == 0, "the shares add up to 100 %"
    page.close()
    assert problems == foreign == []


def test_switch_on_the_page_closes_the_camera(serve_page: Serve, browser: Browser) -> None:
    with serve_page() as address:
        page = new_page(browser)
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


def test_page_shows_nothing_of_a_runner_that_has_ended(serve_page: Serve, browser: Browser) -> None:
    page = new_page(browser)
    with serve_page() as address:
        watch(page, address)
        page.wait_for_selector("#picture:not([hidden])")
    page.wait_for_selector("#curtain:has-text('No connection to the runner')")
    assert page.locator("#boxes rect").count() == page.locator("#faces li").count() == 0
    assert page.locator("button:enabled:visible").count() == 0
    page.close()


def test_another_page_shows_it_in_a_frame_only_where_allowed(
    serve_page: Serve, browser: Browser, tmp_path: Path
) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), partial(_Embedding, directory=str(tmp_path))) as dashboard:
        Thread(target=dashboard.serve_forever, daemon=True).start()
        other = f"http://127.0.0.1:{dashboard.server_address[1]}"
        for allowed in (True, False):
            with serve_page(f'frame_ancestors = "{other}"' if allowed else "") as address:
                (tmp_path / "index.html").write_text(f'<iframe src="{address}"></iframe>')
                page = new_page(browser)
                page.goto(other)
                inside = page.frame_locator("iframe").locator("#faces li")
                if allowed:
                    inside.first.wait_for()
                else:
                    page.wait_for_timeout(1000)
                    assert inside.count() == 0
                page.close()
        dashboard.shutdown()


class _Embedding(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_log_out_button_is_there_only_with_a_token(serve_page: Serve, browser: Browser, tmp_path: Path) -> None:
    with serve_page() as address:
        page = new_page(browser)
        watch(page, address)
        page.wait_for_selector("#faces li")
        assert page.is_hidden("#logout")
        page.close()
    with serve_page(listen="0.0.0.0:0") as address:
        page = new_page(browser)
        page.goto(address)
        page.fill("#token", (tmp_path / "state/fer-edge/test-web-token").read_text().strip())
        page.press("#token", "Enter")
        page.click("#logout button")
        page.wait_for_url("**/login")
        page.goto(address)
        page.wait_for_url("**/login")
        page.close()


def test_token_is_asked_for(serve_page: Serve, browser: Browser, tmp_path: Path) -> None:
    with serve_page(listen="0.0.0.0:0") as address:
        page = new_page(browser)
        page.goto(address)
        page.fill("#token", "wrong token, wrong token")
        page.press("#token", "Enter")
        page.wait_for_url("**/login?wrong")
        page.fill("#token", (tmp_path / "state/fer-edge/test-web-token").read_text().strip())
        page.press("#token", "Enter")
        page.wait_for_selector("#faces li")
        page.close()


def test_page_says_that_faces_are_collected(serve_page: Serve, browser: Browser, tmp_path: Path) -> None:
    public_key = make_identity(tmp_path / "identity")
    for enabled in (True, False):
        with serve_page(f'[collect]\nenabled = {str(enabled).lower()}\npublic_key = "{public_key}"\n') as address:
            page = new_page(browser)
            problems, _ = watch(page, address)
            page.wait_for_selector("#system:has-text('edge')")
            assert page.locator("#collecting").is_visible() is enabled
            assert serious_findings(page) == []
            assert public_key not in page.content()
            page.close()
        assert problems == []
