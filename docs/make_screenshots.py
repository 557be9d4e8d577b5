"""Make the screenshots of the pages that the documentation shows: ``make screenshots``.

They show the embedded demo in Debian's Chromium.
"""

# ruff: noqa: S603 - a script that runs our own command

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import cv2
from PIL import Image
from playwright.sync_api import sync_playwright

from fer_edge import demo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

FOLDER: Final = Path(__file__).parent / "images"
DEMO_FACES: Final = Path(demo.__file__).parent / "data" / "demo_faces.png"
QUALITY: Final = 88  # of WebP
SIDE: Final = 48  # of a face of the demo


@contextmanager
def serving(*command: str, **environment: str) -> Iterator[str]:
    """Run a command of fer-edge, and yield the address of its page."""
    program = [sys.executable, "-m", "fer_edge.cli", *command]
    variables = {**os.environ, **environment}
    with subprocess.Popen(
        program, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            for line in server.stderr or ():
                if found := re.search(r"the page is at (\S+/)", line):
                    yield found[1]
                    break
        finally:
            server.terminate()


def open_page(browser: Browser, address: str) -> Page:
    """Open a page, as large as a small notebook shows it."""
    page = browser.new_page(viewport={"width": 1200, "height": 760}, color_scheme="light")
    page.goto(address)
    return page


def main() -> None:
    """Make all screenshots."""
    FOLDER.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for picture in ("full", "pixelated"):
            with serving(
                *("run", "--source", "demo", "--loop", "--node", "demo", "--web", "0"), FER_EDGE_WEB_PICTURE=picture
            ) as address:
                page = open_page(browser, address)
                page.wait_for_selector("#faces li:nth-child(3)")
                page.wait_for_selector("#picture:not([hidden])")
                page.wait_for_selector("#events li:nth-child(4)")
                save(page, f"live-page-{picture}")
                page.close()
        photo = FOLDER / "demo.png"
        cv2.imwrite(str(photo), demo.frame(60))
        with serving("web", "--no-open", "--listen", "0") as address:
            page = open_page(browser, address)
            page.wait_for_selector("#models input")
            page.check("text=edge-plus")
            page.set_input_files("#files", str(photo))
            page.wait_for_selector("#status:text-is('ready')")
            page.wait_for_selector(".columns .bar")
            save(page, "images-page", full=True)
            page.close()
        photo.unlink()
        with TemporaryDirectory() as folder:
            cut_faces(Path(folder, "faces"))
            with serving("review", f"{folder}/faces", "--reviewer", "ann", "--no-open", "--port", "0") as address:
                page = open_page(browser, address)
                page.wait_for_selector("#grid .tile:focus")
                for key in "aaa":
                    page.keyboard.press(key)
                page.wait_for_selector("#done:text-matches('^3 of ')")
                page.wait_for_load_state("networkidle")
                page.evaluate("document.getElementById('who').textContent = 'faces, by ann'")
                save(page, "review-page")
                page.close()
        browser.close()


def cut_faces(folder: Path) -> None:
    """Cut the faces of the demo out, each in eight ways, as if they had moved."""
    folder.mkdir()
    sheet = cv2.imread(str(DEMO_FACES), cv2.IMREAD_GRAYSCALE)
    if sheet is None:
        raise FileNotFoundError(DEMO_FACES)
    for number, left in enumerate(range(0, sheet.shape[1], SIDE)):
        face = sheet[:, left : left + SIDE]
        for step in range(8):
            turned = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 5 * step - 20, 1 + 0.06 * step)
            view = cv2.warpAffine(face, turned, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
            cv2.imwrite(str(folder / f"{number}-{step}.png"), cv2.flip(view, 1) if step % 2 else view)
            if step == 0:
                cv2.imwrite(str(folder / f"{number}-later.png"), cv2.convertScaleAbs(view, alpha=0.9))


def save(page: Page, name: str, *, full: bool = False) -> None:
    """Save a screenshot of a page as WebP."""
    with Image.open(io.BytesIO(page.screenshot(full_page=full))) as image:
        image.convert("RGB").save(FOLDER / f"{name}.webp", quality=QUALITY, method=6)


if __name__ == "__main__":
    main()
