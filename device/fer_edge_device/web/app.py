"""The page's application: routes, and the JSON of the API, which ``/api/openapi.json`` describes."""

from __future__ import annotations

import asyncio
import math
import re
import time
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, Router

from fer_edge.classification.colours import emotion_colour
from fer_edge.errors import FerEdgeError
from fer_edge_device.history.periods import read_periods
from fer_edge_device.web.access import COOKIE, SESSION_S
from fer_edge_device.web.framing import framing_hints
from fer_edge_device.web.metrics import CONTENT_TYPE, render_metrics
from fer_edge_device.web.picture import encode_picture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.types import Message, Receive, Scope, Send

    from fer_edge_device.config.settings import WebSettings
    from fer_edge_device.logging import LogTail
    from fer_edge_device.web.access import Access
    from fer_edge_device.web.controls import Controls
    from fer_edge_device.web.live_view import LiveView, ShownFrame
    from fer_edge_device.web.picture import Picture

_STATIC: Final = files("fer_edge_device.web") / "static"
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
}
_OPEN: Final = frozenset({"/login", "/healthz", "/static/page.css", "/static/icon.svg"})  # show nothing of the room
_MAX_BODY: Final = 4096
_BODY_S: Final = 10.0
_IMAGE_S: Final = 5.0  # for which a request waits for an image
_PING_S: Final = 15.0
_MAX_WAITING: Final = 50  # updates that a slow viewer has not taken
_MAX_HISTORY_H: Final = 24 * 31
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # without one, browsers do not say the origin of a form
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class WebApp:
    """Answers requests, and tells viewers of everything that is new."""

    def __init__(self, view: LiveView, controls: Controls, access: Access, log: LogTail, settings: WebSettings) -> None:
        """Make the application.

        Args:
            view: what to show.
            controls: what can be done.
            access: who gets in.
            log: the last lines of the log.
            settings: the section of the configuration.
        """
        self._view, self._controls, self._access, self._log_tail = view, controls, access, log
        self._picture: Picture = settings.picture
        self._tls = bool(settings.cert_file)
        self._viewers: set[asyncio.Queue[bytes]] = set()
        self._changed, self._tick = asyncio.Event(), asyncio.Event()
        self._last_event = 0
        self._image: tuple[int, bytes] = (0, b"")
        self._encoding = asyncio.Lock()
        get: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/": self._page,
            "/login": self._login_page,
            "/static/{name}": self._static,
            "/api/state": self._state,
            "/api/events": self._events,
            "/api/image": self._get_image,
            "/api/history": self._history,
            "/api/log": self._log,
            "/api/openapi.json": self._openapi,
            "/metrics": self._metrics,
            "/healthz": self._healthz,
        }
        post: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/login": self._log_in,
            "/logout": self._log_out,
            "/api/enabled": self._set_enabled,
            "/api/restart": self._restart,
        }
        routes = [Route(path, answer, methods=["GET"]) for path, answer in get.items()]
        routes += [Route(path, answer, methods=["POST"]) for path, answer in post.items()]
        self._router = Router(routes, redirect_slashes=False)

    def tell_change(self) -> None:
        """Tell viewers what is new, soon; called in the server's thread."""
        self._changed.set()

    async def broadcast(self) -> None:
        """Tell viewers everything that is new, for ever."""
        frame_number, last_state = 0, b""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._tick.set()
            self._tick = asyncio.Event()
            events, frame, is_off = self._new_events(), self._view.frame, self._view.is_off
            if frame is None:
                self._image = 0, b""
            if not self._viewers:
                continue
            updates = [_update("event", {"number": each.number, **_fields(each.event)}) for each in events]
            state = _update("state", self._snapshot())
            if state != last_state:
                last_state = state
                updates.append(state)
            if frame and frame.number != frame_number:
                frame_number = frame.number
                updates.append(_update("frame", _describe(frame)))
            for viewer in [*self._viewers]:
                # Who is slow misses some; and nothing that was seen before is sent after the node was switched off.
                if is_off or viewer.qsize() + len(updates) > _MAX_WAITING:
                    while not viewer.empty():
                        viewer.get_nowait()
                    viewer.put_nowait(state)
                for update in updates[1 - _MAX_WAITING :]:
                    viewer.put_nowait(update)

    def _new_events(self) -> list[Any]:
        events = self._view.events_after(self._last_event)
        if events:
            self._last_event = events[-1].number
        return events

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request before it is answered, and add the headers that every response has."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if scope["type"] == "http":
            await (self._refuse(Request(scope)) or self._router)(scope, receive, send_with_headers)

    def _refuse(self, request: Request) -> Response | None:
        access = self._access
        if not access.is_within_rate(request):
            return _error(429, "too many requests; wait a moment")
        if not access.knows_host(request):
            return _error(421, "this name is not one of this machine's; add it to web.hosts")
        if request.method == "POST" and not access.has_own_origin(request):
            return _error(403, "the request comes from another page")
        if request.url.path not in _OPEN and not access.is_allowed(request):
            if request.url.path == "/":
                return RedirectResponse("login", 303)
            return _error(401, "the token is missing or wrong; `fer-edge web token` shows it")
        return None

    async def _page(self, request: Request) -> Response:  # noqa: ARG002 - the shape of a route
        return _file("index.html")

    async def _login_page(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        return _file("login.html")

    async def _static(self, request: Request) -> Response:
        return _file(request.path_params["name"])

    async def _openapi(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        return _file("openapi.json")

    async def _state(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        return _json(self._snapshot())

    def _snapshot(self) -> dict[str, Any]:
        latest = self._view.snapshot()
        info = latest["info"]
        labels = info.labels if info else ()
        return {
            "node": self._controls.node,
            "picture": self._picture,
            "has_history": self._controls.history is not None,
            "colours": {label: emotion_colour(label).css for label in labels},
            **latest,
        }

    async def _events(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        queue: asyncio.Queue[bytes] = asyncio.Queue(_MAX_WAITING)
        return StreamingResponse(self._follow(queue), media_type="text/event-stream")

    async def _follow(self, queue: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
        """Yield what is new to one viewer, after what there is."""
        self._viewers.add(queue)
        self._view.add_viewer(1)
        try:
            yield _update("state", self._snapshot())
            for each in [] if self._view.is_off else self._view.events_after(0):
                yield _update("event", {"number": each.number, **_fields(each.event)})
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), _PING_S)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._viewers.discard(queue)
            self._view.add_viewer(-1)

    async def _get_image(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdigit() and len(after) <= 15):
            return _error(400, "after: give the number of a frame")
        if self._picture == "off":
            return _error(404, "web.picture is off")
        frame = await self._wait_for_frame(int(after))
        if frame is None:
            return _error(404, "no image: the node is switched off, or its camera gives none")
        image = await self._encode(frame)
        if not self._view.enabled:  # switched off meanwhile
            return _error(404, "no image: the node is switched off")
        return Response(image, media_type="image/jpeg", headers={"X-Frame": str(frame.number)})

    async def _wait_for_frame(self, after: int) -> ShownFrame | None:
        """Return a frame that is newer than another one; None if none comes in time, or the node is switched off."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_IMAGE_S):
                while not self._view.is_off:
                    tick = self._tick
                    self._view.ask_for_frame()
                    if (frame := self._view.frame) and frame.number > after:
                        return frame
                    await tick.wait()
        return None

    async def _encode(self, frame: ShownFrame) -> bytes:
        """Return the JPEG of a frame; it is made once for all viewers."""
        async with self._encoding:
            if self._image[0] != frame.number:
                image = await run_in_threadpool(encode_picture, frame.gray, frame.hidden, self._picture)
                self._image = frame.number, image or b""
            image = self._image[1]
            if not self._view.enabled:
                self._image = 0, b""
            return image

    async def _history(self, request: Request) -> Response:
        hours = request.query_params.get("hours", "48")
        if not (re.fullmatch(r"[0-9]{1,3}", hours) and 0 < int(hours) <= _MAX_HISTORY_H):
            return _error(400, f"hours: give a number from 1 to {_MAX_HISTORY_H}")
        history, since = self._controls.history, time.time() - int(hours) * 3600
        if history is None:
            return _error(404, "no history is kept; set history.enabled = true")
        try:
            periods = await run_in_threadpool(read_periods, history, since, math.inf, "hour")
        except FerEdgeError as error:
            return _error(503, str(error))
        return _json({"periods": periods})

    async def _log(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        return _json({"lines": self._log_tail.lines()})

    async def _metrics(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        return Response(render_metrics(self._view.snapshot()), media_type=CONTENT_TYPE)

    async def _healthz(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        latest = self._view.snapshot()
        healthy = latest["availability"] == "online" and latest["camera"] in {"online", "disabled"}
        return _json({"healthy": healthy}, 200 if healthy else 503)

    async def _set_enabled(self, request: Request) -> Response:
        body = await _read_json(request)
        if not isinstance(body, dict) or not isinstance(wanted := body.get("enabled"), bool):
            return _error(400, 'send {"enabled": true} or {"enabled": false} as application/json')
        saved = await run_in_threadpool(self._controls.switch, wanted)
        return _json({"enabled": wanted, "saved": saved})

    async def _restart(self, request: Request) -> Response:
        if await _read_json(request) is None:
            return _error(400, "send {} as application/json")
        self._controls.restart()
        return _json({"restarting": True}, 202)

    async def _log_in(self, request: Request) -> Response:
        try:
            fields = parse_qs((await _read_body(request)).decode("utf-8", "replace"), max_num_fields=4)
        except ValueError:  # more of them
            fields = {}
        cookie = self._access.log_in(request, fields.get("token", [""])[0].strip())
        if cookie is None:
            return RedirectResponse("login?wrong", 303)
        response = RedirectResponse(".", 303)
        response.set_cookie(
            COOKIE, cookie, max_age=SESSION_S, httponly=True, samesite="strict", secure=self._tls, path="/"
        )
        return response

    async def _log_out(self, request: Request) -> Response:
        self._access.log_out(request)
        response = RedirectResponse("login", 303)
        response.delete_cookie(COOKIE)
        return response


def _describe(frame: ShownFrame) -> dict[str, Any]:
    rows, columns = frame.gray.shape
    return {
        "number": frame.number,
        "width": columns,
        "height": rows,
        "faces": frame.faces,
        "hints": framing_hints(frame.gray, frame.faces),
    }


def _fields(value: object) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(value)
    return fields


def _update(kind: str, value: object) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(value) + b"\n\n"


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _error(status: int, message: str) -> Response:
    return _json({"error": message}, status)


def _file(name: str) -> Response:
    file = _STATIC / name
    suffix = name.rpartition(".")[2]
    if not re.fullmatch(r"[a-z]{1,20}\.[a-z]{2,4}", name) or suffix not in _TYPES or not file.is_file():
        return _error(404, "there is no such page")
    return Response(file.read_bytes(), media_type=_TYPES[suffix])


async def _read_json(request: Request) -> object:
    """Return the JSON of a request; None if it is none. A form of another page cannot send this type."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return None
    try:
        decoded: object = msgspec.json.decode(await _read_body(request))
    except msgspec.DecodeError:
        return None
    return decoded


async def _read_body(request: Request) -> bytes:
    """Return the body of a request; what is too long or too slow is left out."""
    body = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY:
                    return b""
    return body
