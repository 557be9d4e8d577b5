"""Render HTML pages that need no other file, with Jinja2; every value is escaped."""

from __future__ import annotations

import base64
import functools
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    from jinja2 import Environment


def render(template: str, **values: object) -> str:
    """Render a page.

    Args:
        template: file name of a template in ``fer_edge/reports/templates``.
        values: the variables of the template.
    """
    return _environment().get_template(template).render(values)


def face_figure(image: npt.NDArray[np.uint8], description: str, caption: Sequence[str] = ()) -> dict[str, object]:
    """Return a face for the macro ``faces``.

    Args:
        image: of shape (height, width) or (height, width, 3), blue first.
        description: what the image shows, for those who cannot see it.
        caption: the lines below the image.
    """
    import cv2  # noqa: PLC0415 - only pages with faces need it

    return {"url": data_url(cv2.imencode(".png", image)[1].tobytes()), "description": description, "caption": caption}


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
