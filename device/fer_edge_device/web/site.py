"""What the pages share: who gets in, files, JSON, and bodies of requests within bounds."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router

from fer_edge.utils.limits import PAGE_BODY_BYTES
from fer_edge_device.web.access import SESSION_S, session_cookie

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from starlette.types import Message, Receive, Scope, Send

    from fer_edge_device.web.access import Access

    Answer = Callable[[Request], Awaitable[Response]]

_STATIC: Final = files("fer_edge_device.web") / "static"
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
}
_OPEN: Final = frozenset({"/login", "/healthz", "/static/page.css", "/static/icon.svg"})  # show nothing of the room
_BODY_S: Final = 10.0
_PROBLEMS: Final = {"wrong": "This token is wrong.", "wait": "There were too many wrong tokens: wait 30 seconds."}


class Site:
    """Answers the requests of a page and its API, after it has checked them.

    Attributes:
        background: what else to do while the site is served, until it is cancelled; None: nothing.
    """

    def __init__(
        self,
        get: Mapping[str, Answer],
        post: Mapping[str, Answer],
        access: Access,
        *,
        tls: bool,
        frame_ancestors: str = "",
        media: str = "",
        background: Callable[[], Coroutine[None, None, None]] | None = None,
    ) -> None:
        """Make the site.

        Args:
            get: what answers GET, by path; files and the log-in are added.
            post: what answers POST, by path.
            access: who gets in.
            tls: whether the site is served by https.
            frame_ancestors: origins whose pages may show this one in a frame, with spaces between them.
            media: further sources of images and videos, such as ``blob:``, as in a content security policy.
            background: see the attribute.
        """
        get = {"/login": _login_page, "/static/{name}": _static, **get}
        post = {"/login": self._log_in, "/logout": self._log_out, **post}
        routes = [Route(path, answer, methods=["GET"]) for path, answer in get.items()]
        routes += [Route(path, answer, methods=["POST"]) for path, answer in post.items()]
        self._router = Router(routes, redirect_slashes=False, default=_not_found)
        self._access, self._tls, self.background = access, tls, background
        sources, ancestors = f"'self' {media}".strip(), f"'self' {frame_ancestors}".strip()
        self._headers = {
            "Content-Security-Policy": (
                f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {sources}; media-src {sources};"
                " connect-src 'self'; form-action 'self'; base-uri 'none';"
                f" frame-ancestors {ancestors}"
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",  # without one, browsers do not say the origin of a form
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request before it is answered, and add the headers that every response has."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        if scope["type"] == "http":
            with suppress(ClientDisconnect):  # in the middle of an upload: nobody is left to be answered
                await (self._refuse(Request(scope)) or self._router)(scope, receive, send_with_headers)

    def _refuse(self, request: Request) -> Response | None:  # noqa: PLR0911 - one for each reason
        access = self._access
        if not access.is_within_rate(request):
            return error_response(429, "too many requests; wait a moment")
        if not access.knows_host(request):
            return error_response(421, "this name is not one of this machine's; add it to web.hosts")
        if request.method == "POST" and not access.has_own_origin(request):
            return error_response(403, "the request comes from another page")
        if request.url.path in _OPEN or access.is_allowed(request):
            return None
        if request.url.path == "/":
            return RedirectResponse("login", 303)
        if access.must_wait(request):
            return error_response(429, "too many wrong tokens; wait 30 seconds")
        return error_response(401, "the token is missing or wrong; `fer-edge web token` shows it")

    async def _log_in(self, request: Request) -> Response:
        try:
            fields = parse_qs((await read_body(request)).decode("utf-8", "replace"), max_num_fields=4)
        except ValueError:  # more of them
            fields = {}
        if self._access.must_wait(request):
            return RedirectResponse("login?wait", 303)
        cookie = self._access.log_in(request, fields.get("token", [""])[0].strip())
        if cookie is None:
            return RedirectResponse("login?wrong", 303)
        response = RedirectResponse(".", 303)
        secure = self._tls or self._access.is_https(request)
        response.set_cookie(
            session_cookie(request),
            cookie,
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=secure,
            path="/",
        )
        return response

    async def _log_out(self, request: Request) -> Response:
        self._access.log_out(request)
        response = RedirectResponse("login", 303)
        response.delete_cookie(session_cookie(request))
        return response


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    await error_response(404, "there is no such page")(scope, receive, send)


async def _login_page(request: Request) -> Response:
    page = file_response("login.html")
    problem = next((_PROBLEMS[each] for each in _PROBLEMS if each in request.query_params), "")
    return Response(bytes(page.body).replace(b"<!-- problem -->", problem.encode()), media_type=page.media_type)


async def _static(request: Request) -> Response:
    return file_response(request.path_params["name"])


def file_response(name: str) -> Response:
    """Return a file of the folder ``static``; 404 if there is none of this name."""
    file = _STATIC / name
    suffix = name.rpartition(".")[2]
    if not re.fullmatch(r"[a-z]{1,20}\.[a-z]{2,4}", name) or suffix not in _TYPES or not file.is_file():
        return error_response(404, "there is no such page")
    return Response(file.read_bytes(), media_type=_TYPES[suffix])


def json_response(value: object, status: int = 200) -> Response:
    """Return a value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def error_response(status: int, message: str) -> Response:
    """Return an error as JSON."""
    return json_response({"error": message}, status)


def to_fields(value: object) -> dict[str, Any]:
    """Return the fields of a struct as they are in JSON."""
    fields: dict[str, Any] = msgspec.to_builtins(value)
    return fields


async def read_json(request: Request) -> object:
    """Return the JSON of a request; None if it is none. A form of another page cannot send this type."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return None
    try:
        decoded: object = msgspec.json.decode(await read_body(request))
    except (msgspec.DecodeError, RecursionError):
        return None
    return decoded


async def read_body(request: Request) -> bytes:
    """Return the body of a request; what is too long or too slow is left out."""
    body = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > PAGE_BODY_BYTES:
                    return b""
    return body
