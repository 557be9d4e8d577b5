"""The page for reviewing faces: a grid, one key for each emotion, and how far reviewers agree."""

from __future__ import annotations

import asyncio
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_args

import cv2
import msgspec
import numpy as np
from starlette.responses import Response

from fer_edge.classification.colours import emotion_colour
from fer_edge.errors import DataError, FerEdgeError, InputError, printable
from fer_edge.review.choices import NO_EMOTION, assign_keys
from fer_edge.review.face_folder import read_image
from fer_edge.review.session import Order, Show, View
from fer_edge.utils.image_io import decode_gray
from fer_edge_device.web.site import Site, error_response, file_response, json_response, read_json, to_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from fer_edge.review.face_folder import FaceImage
    from fer_edge.review.session import ReviewSession
    from fer_edge_device.web.access import Access

_T = TypeVar("_T")
_MAX_CARDS: Final = 100  # in one answer
_MAX_SIDE: Final = 320  # of an image on the page
_IMAGE_THREADS: Final = 2
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class _Cards(msgspec.Struct, frozen=True):
    """A request for cards; see `ReviewSession.page` and `View`."""

    start: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] = 0
    count: Annotated[int, msgspec.Meta(ge=1, le=_MAX_CARDS)] = 60
    order: Order = "emotion"
    show: Show = "open"
    emotion: str = ""
    grouped: bool = True
    before: bool = False


class _Label(msgspec.Struct, frozen=True):
    """A request to label a face; see `ReviewSession.decide`."""

    face: str
    label: str | None
    grouped: bool


class _Undo(msgspec.Struct, frozen=True):
    """A request to take the last decision back, in a view."""

    order: Order
    grouped: bool


class ReviewApp:
    """Answers requests with faces, and records what a reviewer says of them.

    Attributes:
        site: checks and answers the requests.
    """

    def __init__(self, session: ReviewSession, access: Access) -> None:
        """Make the application.

        Args:
            session: the review.
            access: who gets in.
        """
        self._session = session
        self._thread = ThreadPoolExecutor(1, "review")  # a session is for one thread at a time
        self._images = ThreadPoolExecutor(_IMAGE_THREADS, "images")
        get = {
            "/": self._page,
            "/api/review": self._describe,
            "/api/cards": self._list_cards,
            "/api/agreement": self._agreement,
            "/api/images/{sha256}": self._image,
            "/healthz": self._healthz,
        }
        self.site = Site(get, {"/api/label": self._label, "/api/undo": self._undo}, access, tls=False)

    def close(self) -> None:
        """Wait until what was asked for is recorded, and end the threads."""
        self._thread.shutdown()
        self._images.shutdown(cancel_futures=True)

    async def _page(self, request: Request) -> Response:  # noqa: ARG002 - the shape of a route
        return file_response("review.html")

    async def _healthz(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        return json_response({"healthy": True})

    async def _describe(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        """Answer with what the page is about, and how far the review is."""
        session = self._session
        keys = assign_keys(session.folder.emotions)
        choices = [
            {
                "label": choice,
                "key": keys[choice],
                "colour": "" if choice in NO_EMOTION else emotion_colour(choice).css,
            }
            for choice in session.choices
        ]
        folder = printable(str(session.folder.path))
        return json_response(
            {
                "version": version("fer-edge"),
                "folder": folder,
                "export": f"fer-edge review {shlex.quote(folder)} --export DATASET",
                "reviewer": session.reviewer,
                "choices": choices,
                "progress": await self._in_session(lambda: session.progress(grouped=True)),
            }
        )

    async def _list_cards(self, request: Request) -> Response:
        """Answer with the next cards of a view, or the previous ones."""
        wanted = _convert(dict(request.query_params), _Cards, strict=False)
        if wanted is None:
            return error_response(
                400,
                f"order: one of {', '.join(get_args(Order))}; show: one of {', '.join(get_args(Show))};"
                f" start: from 0; count: 1 to {_MAX_CARDS}; grouped and before: true or false",
            )
        view = View(wanted.order, wanted.show, wanted.emotion, grouped=wanted.grouped)
        found = await self._in_session(
            lambda: {
                **to_fields(self._session.page(view, wanted.start, wanted.count, backwards=wanted.before)),
                "progress": self._session.progress(grouped=view.grouped),
            }
        )
        return json_response(found)

    async def _agreement(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        return json_response(await self._in_session(lambda: to_fields(self._session.agreement())))

    async def _image(self, request: Request) -> Response:
        """Answer with the image of a face in grey, as PNG, whatever its file is."""
        sha256 = request.path_params["sha256"]
        face = self._session.face(sha256) if _SHA256.fullmatch(sha256) else None
        if face is None:
            return error_response(404, "there is no such face")
        try:
            image = await asyncio.get_running_loop().run_in_executor(self._images, self._encode, face)
        except DataError as error:
            return error_response(404, str(error))
        return Response(image, media_type="image/png")

    async def _label(self, request: Request) -> Response:
        """Record an answer; it is on disk before the response."""
        wanted = _convert(await read_json(request), _Label)
        if wanted is None:
            return error_response(400, 'send {"face": hash, "label": an answer or null, "grouped": true or false}')

        def decide() -> dict[str, Any]:
            faces = self._session.decide(wanted.face, wanted.label, grouped=wanted.grouped)
            return {"faces": faces, "progress": self._session.progress(grouped=wanted.grouped)}

        return await self._answer(decide)

    async def _undo(self, request: Request) -> Response:
        """Take the last answer back; the response says where its face is."""
        wanted = _convert(await read_json(request), _Undo)
        if wanted is None:
            return error_response(400, 'send {"order": an order, "grouped": true or false}')

        def undo() -> dict[str, Any]:
            found = self._session.undo()
            place = None
            if found:
                place = {
                    "face": found[0],
                    "label": found[1],
                    "position": self._session.position(found[0], wanted.order, grouped=wanted.grouped),
                }
            return {"undone": place, "progress": self._session.progress(grouped=wanted.grouped)}

        return await self._answer(undo)

    async def _answer(self, call: Callable[[], dict[str, Any]]) -> Response:
        try:
            return json_response(await self._in_session(call))
        except InputError as error:
            return error_response(400, str(error))
        except FerEdgeError as error:  # a full disk
            return error_response(507, str(error))

    async def _in_session(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _encode(self, face: FaceImage) -> bytes:
        gray = decode_gray(read_image(self._session.folder.path, face), face.name)
        longer = max(gray.shape)
        if longer > _MAX_SIDE:
            size = [max(1, round(side * _MAX_SIDE / longer)) for side in gray.shape[::-1]]
            gray = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)
        return cv2.imencode(".png", gray)[1].tobytes()


def _convert(value: object, kind: type[_T], *, strict: bool = True) -> _T | None:
    with suppress(msgspec.ValidationError):
        return msgspec.convert(value, kind, strict=strict)
    return None
