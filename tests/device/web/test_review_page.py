"""The page for reviewing faces in a real browser, by the keyboard alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import pytest

from fer_edge.review.decisions import read_log
from tests.device.web.browser import SHOTS, needs_chromium, new_page, serious_findings, watch
from tests.fer_edge.review.folders import review, write_faces

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.conftest import Sample

    Serve = Callable[..., AbstractContextManager[str]]

pytestmark = [needs_chromium, pytest.mark.xdist_group("browser")]
MARKUP = "<img src=x onerror=alert(1)>.png"


@pytest.fixture
def faces(tmp_path: Path, sample: Sample) -> Path:
    """Return a folder with 140 faces, of which two are near-duplicates, and one has markup for a name."""
    write_faces(tmp_path / "faces", sample, range(0, 700, 5))
    cv2.imwrite(str(tmp_path / "faces/again.png"), (sample.faces[0] * 0.8 + 7).astype(np.uint8))
    (tmp_path / "faces/0005.png").rename(tmp_path / "faces" / MARKUP)
    return tmp_path / "faces"


def open_page(browser: Browser, address: str, **options: int) -> tuple[Page, list[str], list[str]]:
    page = new_page(browser, viewport={"width": options.get("width", 1280), "height": 900})
    problems, foreign = watch(page, address)
    ready(page)
    return page, problems, foreign


def ready(page: Page) -> None:
    page.wait_for_selector("#grid [aria-selected=true]")


def selected(page: Page) -> str:
    text = page.locator("#grid [aria-selected=true]").get_attribute("aria-label")
    assert text
    return text


def wait_until_saved(page: Page, done: int) -> None:
    page.wait_for_selector(f"#done:text-matches('^{done} of ')")


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (768, "light"), (1280, "light")])
def test_page_is_whole_on_every_screen(
    serve_review: Serve, browser: Browser, faces: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    with serve_review(faces, "--reviewer", "ann") as address:
        page = new_page(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
        problems, foreign = watch(page, address)
        ready(page)
        for key in "hsa":
            page.keyboard.press(key)
        wait_until_saved(page, 3)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_findings(page) == []
        SHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SHOTS / f"review-{width}.png")
        page.close()
    assert problems == []
    assert foreign == []


def test_first_page_asks_for_a_bounded_number_of_images(serve_review: Serve, browser: Browser, faces: Path) -> None:
    with serve_review(faces, "--reviewer", "ann") as address:
        page = new_page(browser, viewport={"width": 1280, "height": 900})
        images: list[str] = []
        page.on("request", lambda request: images.append(request.url) if "/api/images/" in request.url else None)
        page.goto(address)
        ready(page)
        page.wait_for_load_state("networkidle")
        assert len(set(images)) <= 60 + 8  # those of the page, and of the near-duplicates of one
        assert page.locator(".tile").count() == 60
        page.close()


def test_a_folder_is_labelled_by_the_keyboard_alone(serve_review: Serve, browser: Browser, faces: Path) -> None:
    with serve_review(faces, "--reviewer", "ann") as address:
        page, problems, _ = open_page(browser, address)
        cards = int(page.inner_text("#done").split()[2])
        page.keyboard.press("ArrowRight")  # the first is skipped, and comes again at the end
        skipped = page.locator("#grid .tile").first.locator("img").get_attribute("src")
        for done in range(1, cards):
            page.wait_for_selector(".tile:focus:not(.answered)")
            page.keyboard.press("hsnatx"[done % 6])
        wait_until_saved(page, cards - 1)
        page.wait_for_selector("#grid .tile:only-child:not(.answered)")
        assert page.locator("#grid img").get_attribute("src") == skipped
        page.wait_for_selector(".tile:focus")
        page.keyboard.press("d")
        page.wait_for_selector("#empty:text-is('Nothing is left to do here.')")
        wait_until_saved(page, cards)
        page.wait_for_selector("#empty:focus")
        page.keyboard.press("z")
        page.wait_for_selector("#grid .tile:focus:not(.answered)")
        page.keyboard.press("d")
        wait_until_saved(page, cards)
        page.close()
    answers = read_log(faces / "reviews/ann.jsonl").answers
    assert len(answers) == 141
    assert {answer.label for answer in answers.values()} == {
        *("happy", "sad", "neutral", "angry", "disgust", "cannot tell", "not a face")
    }
    assert problems == []


def test_undo_leads_back_to_the_face(serve_review: Serve, browser: Browser, faces: Path) -> None:
    with serve_review(faces, "--reviewer", "ann") as address:
        page, problems, _ = open_page(browser, address)
        first = selected(page)
        page.keyboard.press("h")
        page.keyboard.press("s")
        wait_until_saved(page, 2)
        page.keyboard.press("z")
        wait_until_saved(page, 1)
        page.keyboard.press("Control+z")
        wait_until_saved(page, 0)
        page.wait_for_selector("#card-0:focus")
        assert selected(page) == first
        page.keyboard.press("h")
        wait_until_saved(page, 1)
        page.keyboard.press("PageDown")  # an answer on the page before is undone, too
        page.wait_for_selector("#place:text-matches('^60 to ')")
        page.wait_for_selector(".tile:focus")
        page.keyboard.press("z")
        wait_until_saved(page, 0)
        page.wait_for_selector("#place:text-matches('^1 to ')")
        assert selected(page) == first
        page.close()
    assert problems == []


def test_view_is_chosen_and_keys_work_in_the_grid_alone(serve_review: Serve, browser: Browser, faces: Path) -> None:
    with serve_review(faces, "--reviewer", "ann") as address:
        page, problems, _ = open_page(browser, address)
        assert "predicted" in selected(page)
        page.focus("#show")
        page.keyboard.press("d")  # chooses "done" in the list, and labels nothing
        page.wait_for_selector("#empty:text-is('There are no such faces.')")
        page.wait_for_selector("#show:focus")
        page.select_option("#show", "open")
        ready(page)
        page.select_option("#order", "random")
        page.wait_for_selector("#only", state="hidden")
        page.wait_for_selector("[aria-selected=true]:not([aria-label*=predicted])")
        assert page.inner_text("#predicted") == ""
        page.select_option("#order", "emotion")
        page.wait_for_selector("#only", state="visible")
        page.select_option("#emotion", "happy")
        page.wait_for_selector("#grid:not(:has(.tile:not([aria-label*='predicted happy'])))")
        page.select_option("#emotion", "")
        page.uncheck("#grouped")
        page.wait_for_selector("#done:text-is('0 of 141 done')")
        assert read_log(faces / "reviews/ann.jsonl").answers == {}
        page.close()
    assert problems == []


def test_name_with_markup_is_text(serve_review: Serve, browser: Browser, faces: Path) -> None:
    with serve_review(faces, "--reviewer", "ann") as address:
        page, problems, _ = open_page(browser, address)
        while MARKUP not in (page.get_attribute("#large", "alt") or ""):
            before = selected(page)
            page.keyboard.press("ArrowRight")
            page.wait_for_selector(f".tile:focus:not([aria-label='{before}'])")
        assert MARKUP in (page.get_attribute("#large", "alt") or "")
        page.close()
    assert problems == []


def test_reviewers_and_disputes_are_shown(serve_review: Serve, browser: Browser, faces: Path) -> None:
    (faces / "again.png").unlink()
    with serve_review(faces, "--reviewer", "ann") as address:
        page, problems, _ = open_page(browser, address)
        for _ in range(4):
            page.keyboard.press("h")
        wait_until_saved(page, 4)
        answers = read_log(faces / "reviews/ann.jsonl").answers
        review(faces, "bob", {face: "happy" if row else "sad" for row, face in enumerate(answers)})
        page.select_option("#show", "disputed")
        page.wait_for_selector("#agreement:has-text('Krippendorff')")
        assert re.search(r"ann and bob\s+4\s+75 %", page.inner_text("#agreement"))
        page.wait_for_selector("#group:text-is('bob: sad')")
        assert "bob says sad" in selected(page)
        page.screenshot(path=SHOTS / "review-disputed.png", full_page=True)
        page.close()
    assert problems == []


def test_answer_that_is_not_saved_is_shown_as_none(serve_review: Serve, browser: Browser, faces: Path) -> None:
    with serve_review(faces, "--reviewer", "ann") as address:
        page, _, _ = open_page(browser, address)
        page.route("**/api/label", lambda route: route.fulfill(status=507, json={"error": "the disk is full"}))
        page.keyboard.press("h")
        page.wait_for_selector("#status:text-is('not saved: the disk is full')")
        assert page.locator(".tile.answered").count() == 0
        page.unroute("**/api/label")
        page.keyboard.press("Home")
        page.keyboard.press("h")
        wait_until_saved(page, 1)
        page.close()
