"""Measure the page of `fer-edge review` with many faces, in Debian's Chromium.

    python benchmarks/review_page.py [--faces 10000] [--loads 5] [--answers 200]

The faces are those of the demo, turned, enlarged and with noise, so that most are no near-duplicates. The script prints
how long the command takes until the page can be opened, and its memory. Then come the median and the longest time from
opening the page until all images in view are there, that of an answer until it is on disk, as the browser sees it, and
that of turning a page. ``--faces-csv`` adds a faces.csv, so that no model predicts.
"""

# ruff: noqa: S603 - a script that runs our own command

from __future__ import annotations

import argparse
import csv
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

from fer_edge import demo
from fer_edge.classification.labels import FER2013

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

SIDE: Final = 48
# From opening the page until every image in view is decoded, in milliseconds; polled at each frame that is drawn.
LOADED: Final = """() => new Promise((done) => {
  const look = () => {
    const images = [...document.querySelectorAll(".tile img")];
    const shown = images.filter((one) => one.getBoundingClientRect().top < innerHeight);
    if (shown.length && shown.every((one) => one.complete && one.naturalWidth)) done(performance.now());
    else requestAnimationFrame(look);
  };
  look();
})"""


def make_faces(folder: Path, count: int, *, table: bool) -> None:
    """Write faces, and a table that says what was predicted."""
    rng = np.random.default_rng(0)
    sheet = cv2.imread(str(Path(demo.__file__).parent / "data" / "demo_faces.png"), cv2.IMREAD_GRAYSCALE)
    if sheet is None:
        raise FileNotFoundError
    faces = [sheet[:, left : left + SIDE] for left in range(0, sheet.shape[1], SIDE)]
    rows = []
    for number in range(count):
        centre = rng.uniform(18, 30, 2)
        turned = cv2.getRotationMatrix2D((centre[0], centre[1]), rng.uniform(-30, 30), rng.uniform(0.9, 1.8))
        face = cv2.warpAffine(faces[number % len(faces)], turned, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
        noisy = face * rng.uniform(0.6, 1) + rng.normal(0, 6, face.shape)
        cv2.imwrite(str(folder / f"{number:05d}.png"), np.clip(noisy, 0, 255).astype(np.uint8))
        scores = rng.dirichlet(np.ones(len(FER2013)))
        rows.append([f"{number:05d}.png", FER2013[scores.argmax()], *scores])
    if table:
        with (folder / "faces.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["file", "emotion", *(f"score_{label}" for label in FER2013)], *rows])


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve the page of a folder; yield its address and the process."""
    command = [
        sys.executable,
        "-m",
        "fer_edge.cli",
        "review",
        str(folder),
        "--reviewer",
        "ann",
        "--no-open",
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            for line in server.stderr or ():
                if found := re.search(r"the page is at (\S+/)", line):
                    yield found[1], server
                    break
        finally:
            server.terminate()


def memory_mb(process: int) -> float:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def time_answers(page: Page, count: int) -> list[float]:
    """Return the milliseconds until each of some answers, by the keyboard, is on disk."""
    took = []
    for number in range(count):
        page.wait_for_selector(".tile:focus:not(.answered)")
        with page.expect_response("**/api/label") as response:
            page.keyboard.press("ahsn"[number % 4])
        response.value.finished()
        took.append(response.value.request.timing["responseEnd"])
    return took


def time_turns(page: Page, count: int) -> list[float]:
    """Return the milliseconds until each of some pages is there with its images."""
    took = []
    for _ in range(count):
        page.wait_for_selector(".tile:focus")
        place = page.inner_text("#place")
        began = time.perf_counter()
        page.keyboard.press("PageDown")
        page.wait_for_selector(f"#place:not(:text-is('{place}'))")
        page.evaluate(LOADED)
        took.append(1000 * (time.perf_counter() - began))
    return took


def describe(name: str, took: list[float]) -> str:
    """Return a line with the median and the maximum of some times in milliseconds."""
    return f"{name}: median {statistics.median(took):.0f} ms, longest {max(took):.0f} ms, of {len(took)}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faces", type=int, default=10_000)
    parser.add_argument("--loads", type=int, default=5, help="how often to open the page and to turn it")
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--faces-csv", action="store_true", help="write a faces.csv, so that no model predicts")
    options = parser.parse_args()
    with TemporaryDirectory() as name, sync_playwright() as playwright:
        make_faces(Path(name), options.faces, table=options.faces_csv)
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        began = time.perf_counter()
        with serving(Path(name)) as (address, server):
            print(f"{options.faces} faces: the page is served after {time.perf_counter() - began:.1f} s")
            loads = []
            for _ in range(options.loads):
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.goto(address, wait_until="commit")
                loads.append(page.evaluate(LOADED))
                cards = page.inner_text("#done")
                page.close()
            print(describe(f"first page ({cards})", loads))
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(address)
            print(describe("answer on disk", time_answers(page, options.answers)))
            print(describe("page turned", time_turns(page, options.loads)))
            print(f"memory: {memory_mb(server.pid):.0f} MB")
        browser.close()


if __name__ == "__main__":
    main()
