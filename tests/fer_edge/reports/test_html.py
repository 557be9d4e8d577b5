"""Test that pages are valid, self-contained and escaped, and that Jinja2 is imported late."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from importlib import resources
from typing import Final

import pytest
from jinja2 import UndefinedError

from fer_edge.bench.page import as_html
from fer_edge.bench.pareto import pareto_page
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.reports.html import data_url, render
from fer_edge.tflite.inspect import as_html as inspection_page
from fer_edge.tflite.inspect import inspect_model
from tests.reports import make_report

HOSTILE: Final = "<script>alert('&\"')</script>"
VOID: Final = frozenset({"meta", "img", "br"})
DETECTOR_PARITY: Final = {
    "title": HOSTILE,
    "summary": HOSTILE,
    "scheme": HOSTILE,
    "recalls": [(HOSTILE, HOSTILE, HOSTILE)],
    "outputs": [(HOSTILE, HOSTILE)],
    "layers": [(HOSTILE, HOSTILE)],
    "attempts": [(HOSTILE, HOSTILE, HOSTILE)],
}


class Balance(HTMLParser):
    """A parser that checks that elements are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("page", ["bench", "pareto", "inspect", "detector_parity"])
def test_elements_are_closed_in_order(page: str) -> None:
    text = {
        "bench": lambda: as_html(make_report()),
        "pareto": lambda: pareto_page(make_report(), svg=False),
        "inspect": lambda: inspection_page(inspect_model(DEFAULT_MODEL)),
        "detector_parity": lambda: render("detector_parity.html", **DETECTOR_PARITY),
    }[page]()
    assert text.startswith("<!doctype html>\n")
    balance = Balance()
    balance.feed(text)
    assert balance.open == []


def test_every_value_is_escaped() -> None:
    page = render("detector_parity.html", **DETECTOR_PARITY)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 14


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("pareto.html", title="x", facts="y")


def test_an_image_is_a_data_url() -> None:
    assert data_url(b"\xff\xd8", "jpeg") == "data:image/jpeg;base64,/9g="


def test_only_plots_skip_escaping() -> None:
    templates = resources.files("fer_edge.reports") / "templates"
    unescaped = [file.name for file in templates.iterdir() if "safe" in file.read_text(encoding="utf-8")]
    assert unescaped == ["macros.html"]


def test_jinja_is_not_imported_before_a_page_is_written() -> None:
    modules = "fer_edge.reports.html, fer_edge.tflite.inspect, fer_edge.bench.page"
    code = f"import sys, {modules}; assert 'jinja2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
