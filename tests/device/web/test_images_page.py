"""The page for images in a real browser."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import pytest

from fer_edge import demo
from tests.device.web.browser import CHROMIUM, SHOTS, needs_chromium, new_page, serious_findings, watch
from tests.videos import make_video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from playwright.sync_api import Browser, Page, Playwright

    Serve = Callable[..., AbstractContextManager[str]]

pytestmark = [needs_chromium, pytest.mark.xdist_group("browser")]
FACES = Path(demo.__file__).parent / "data" / "demo_faces.png"


def choose(page: Page, *files: Path) -> None:
    page.set_input_files("#files", [str(file) for file in files])
    page.wait_for_selector("#status:text-is('ready')")


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (768, "light"), (1280, "light")])
def test_images_are_shown_with_faces_and_scores(
    serve_images: Serve, browser: Browser, tmp_path: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    cv2.imwrite(str(tmp_path / "nobody.png"), np.full((100, 150, 3), 90, np.uint8))
    with serve_images() as address:
        page = new_page(browser, viewport={"width": width, "height": 800}, color_scheme=scheme)
        problems, foreign = watch(page, address)
        page.wait_for_selector("#models input")
        choose(page, FACES, tmp_path / "nobody.png")
        page.check("text=edge-plus")
        page.wait_for_selector("#status:text-is('ready')")
        first = page.locator("#items section").first
        assert first.locator(".boxes rect").count() == first.locator(".face").count() > 3
        assert page.locator("#items section").nth(1).locator("text=no face found").count() == 2
        assert "The models agree on" in page.inner_text("#total")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_findings(page) == []
        SHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SHOTS / f"images-{width}.png", full_page=True)
        page.close()
    assert problems == []
    assert foreign == []


def test_table_and_image_are_downloaded(serve_images: Serve, browser: Browser, tmp_path: Path) -> None:
    with serve_images() as address:
        page = new_page(browser)
        problems, _ = watch(page, address)
        page.wait_for_selector("#models input")
        choose(page, FACES)
        with page.expect_download() as table:
            page.click("text=Download the table of edge")
        table.value.save_as(tmp_path / "faces.csv")
        with page.expect_download() as image:
            page.click("text=Download with faces drawn")
        image.value.save_as(tmp_path / "faces.jpg")
        page.click("text=Remove")
        assert page.is_hidden("#summary")
        page.close()
    with (tmp_path / "faces.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == {"demo_faces.png"}
    assert all(0 < float(row["score"]) <= 1 for row in rows)
    assert table.value.suggested_filename == "faces-edge.csv"
    assert image.value.suggested_filename == "demo_faces-faces.jpg"
    assert cv2.imread(str(tmp_path / "faces.jpg")).shape == cv2.imread(str(FACES)).shape
    assert problems == []


def test_video_has_a_line_for_each_person(serve_images: Serve, browser: Browser, tmp_path: Path) -> None:
    make_video(tmp_path / "film.webm", range(0, 4000, 100), codec="libvpx")
    with serve_images() as address:
        page = new_page(browser)
        problems, _ = watch(page, address)
        page.wait_for_selector("#models input")
        choose(page, tmp_path / "film.webm")
        assert page.locator(".timeline").count() == page.locator(".person").count() > 0
        page.locator("#items video").evaluate("video => { video.currentTime = 1 }")
        page.wait_for_selector(".boxes rect")
        page.close()
    assert problems == []


def test_what_a_browser_cannot_show_is_shown_decoded(serve_images: Serve, browser: Browser, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.tiff"), cv2.imread(str(FACES)))
    (tmp_path / "text.png").write_text("not an image")
    with serve_images() as address:
        page = new_page(browser)
        watch(page, address)
        page.wait_for_selector("#models input")
        choose(page, tmp_path / "photo.tiff", tmp_path / "text.png")
        page.wait_for_selector("#items img[src^='blob:']")
        for _ in range(100):
            if page.evaluate("() => document.querySelector('#items img').naturalWidth"):
                break
            page.wait_for_timeout(100)
        else:
            pytest.fail("the image is not shown")
        assert page.inner_text("#items .error")
        page.close()


@pytest.fixture
def browser_with_camera(playwright: Playwright, tmp_path: Path) -> Iterator[Browser]:
    """Yield a browser whose camera plays the demo."""
    make_video(tmp_path / "camera.mjpeg", range(0, 3000, 100), codec="mjpeg", container="mjpeg")
    arguments = [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={tmp_path}/camera.mjpeg",
    ]
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
    yield browser
    browser.close()


def test_camera_of_the_computer_is_watched(serve_images: Serve, browser_with_camera: Browser) -> None:
    with serve_images() as address:
        page = new_page(browser_with_camera, viewport={"width": 1280, "height": 800})
        problems, foreign = watch(page, address)
        page.wait_for_selector("#models input")
        page.click("#camera")
        page.wait_for_selector("#camera-stage rect")
        page.wait_for_selector("#camera-faces .bar")
        page.click("#keep")
        page.wait_for_selector("#items .face")
        page.screenshot(path=SHOTS / "camera.png", full_page=True)
        page.click("#stop")
        assert page.is_hidden("#camera-view")
        assert page.locator("video").count() == 0
        page.close()
    assert problems == []
    assert foreign == []
