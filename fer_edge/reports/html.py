"""Render HTML pages that need no other file, with Jinja2; every value is escaped."""

from __future__ import annotations

import base64
import functools
import html
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jinja2 import Environment


def render(template: str, **values: object) -> str:
    """Render a page.

    Args:
        template: File name of a template in ``fer_edge/reports/templates``.
        values: The variables of the template.
    """
    return _environment().get_template(template).render(values)


def data_url(image: bytes, kind: Literal["png", "jpeg"] = "png") -> str:
    """Return an encoded image as the URL of an ``img`` element."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only those who write a page pay

    return Environment(
        loader=PackageLoader("fer_edge.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse } td, th { padding: .15em .8em; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left; word-break: break-all } img { max-width: 100% }
pre { background: #f6f6f6; padding: 1em; overflow: auto }
figure { display: inline-block; margin: .4em; text-align: center; font-size: 13px } figure img { width: 96px }
.blamed { background: #fde8e0 }
"""


def page(title: str, body: str, style: str = "") -> str:
    """A whole page with a title, of text, around a body, of HTML."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}{style}</style><body><h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )


def table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A table of texts; each cell is escaped."""
    first = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in head)
    others = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{first}</tr>{others}</table>"


def embedded(image: bytes, kind: Literal["png", "jpeg"] = "png") -> str:
    """The address of an image that is in the page itself."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
