"""The live page: its routes, and the JSON of its API, which ``/api/openapi.json`` describes."""

from __future__ import annotations

import asyncio
import math
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from fer_edge.classification.colours import emotion_colour
from fer_edge.errors import FerEdgeError
from fer_edge_device.history.periods import read_periods
from fer_edge_device.web.framing import framing_hints
from fer_edge_device.web.metrics import CONTENT_TYPE, render_metrics
from fer_edge_device.web.picture import encode_picture
from fer_edge_device.web.site import Site, error_response, file_response, json_response, read_json, to_fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from fer_edge_device.config.settings import WebSettings
    from fer_edge_device.logging import LogTail
    from fer_edge_device.web.access import Access
    from fer_edge_device.web.controls import Controls
    from fer_edge_device.web.live_view import LiveView, ShownFrame
    from fer_edge_device.web.picture import Picture

_IMAGE_S: Final = 5.0  # for which a request waits for an image
_PING_S: Final = 15.0
_MAX_WAITING: Final = 50  # updates that a slow viewer has not taken
_MAX_HISTORY_H: Final = 24 * 31
_BROKER: Final = {None: None, True: "connected", False: "not connected"}


class LiveApp:
    """Answers requests, and tells viewers of everything that is new.

    Attributes:
        site: checks and answers the requests.
    """

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
        self._viewers: set[asyncio.Queue[bytes]] = set()
        self._changed, self._tick = asyncio.Event(), asyncio.Event()
        self._last_event = 0
        self._image: tuple[int, bytes] = (0, b"")
        self._encoding = asyncio.Lock()
        get = {
            "/": self._page,
            "/api/state": self._state,
            "/api/events": self._events,
            "/api/image": self._get_image,
            "/api/history": self._history,
            "/api/log": self._log,
            "/api/openapi.json": self._openapi,
            "/metrics": self._metrics,
            "/healthz": self._healthz,
        }
        post = {
            "/api/enabled": self._set_enabled,
            "/api/restart": self._restart,
            "/api/camera/restart": self._restart_camera,
        }
        self.site = Site(
            get,
            post,
            access,
            tls=bool(settings.cert_file),
            frame_ancestors=settings.frame_ancestors,
            background=self._broadcast,
        )

    async def _broadcast(self) -> None:
        """Tell viewers everything that is new, until this is cancelled."""
        self._view.on_change = _from_other_threads(self._changed.set)
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
            updates = [_update("event", {"number": each.number, **to_fields(each.event)}) for each in events]
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

    async def _page(self, request: Request) -> Response:  # noqa: ARG002 - the shape of a route
        return file_response("index.html")

    async def _openapi(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        return file_response("openapi.json")

    async def _state(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        return json_response(self._snapshot())

    def _snapshot(self) -> dict[str, Any]:
        latest = self._view.snapshot()
        info = latest["info"]
        labels = info.labels if info else ()
        return {
            "node": self._controls.node,
            "picture": self._picture,
            "broker": _BROKER[self._controls.is_connected()],
            "has_history": self._controls.history is not None,
            "has_camera": self._controls.restart_camera is not None,
            "has_login": self._access.needs_token,
            "colours": {label: emotion_colour(label).css for label in labels},
            **latest,
        }

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self._follow(request), media_type="text/event-stream")

    async def _follow(self, request: Request) -> AsyncIterator[bytes]:
        """Yield what is new to one viewer, after what there is, as long as the viewer's session lasts."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(_MAX_WAITING)
        self._viewers.add(queue)
        self._view.add_viewer(1)
        past = [] if self._view.is_off else self._view.events_after(0)
        last = self._last_event  # what is newer comes through the queue
        try:
            yield _update("state", self._snapshot())
            for each in past:
                if each.number <= last:
                    yield _update("event", {"number": each.number, **to_fields(each.event)})
            while True:
                try:
                    update = await asyncio.wait_for(queue.get(), _PING_S)
                except TimeoutError:
                    update = b": still here\n\n"
                if not self._access.is_allowed(request):
                    return
                yield update
        finally:
            self._viewers.discard(queue)
            self._view.add_viewer(-1)

    async def _get_image(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdigit() and len(after) <= 15):
            return error_response(400, "after: give the number of a frame")
        if self._picture == "off":
            return error_response(404, "web.picture is off")
        frame = await self._wait_for_frame(int(after))
        if frame is None:
            return error_response(404, "no image: the node is switched off, or its camera gives none")
        image = await self._encode(frame)
        if not self._view.enabled:  # switched off meanwhile
            return error_response(404, "no image: the node is switched off")
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
            return error_response(400, f"hours: give a number from 1 to {_MAX_HISTORY_H}")
        history, since = self._controls.history, time.time() - int(hours) * 3600
        if history is None:
            return error_response(404, "no history is kept; set history.enabled = true")
        try:
            periods = await run_in_threadpool(read_periods, history, since, math.inf, "hour")
        except FerEdgeError as error:
            return error_response(503, str(error))
        return json_response({"periods": periods})

    async def _log(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        return json_response({"lines": self._log_tail.lines()})

    async def _metrics(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        return Response(render_metrics(self._view.snapshot()), media_type=CONTENT_TYPE)

    async def _healthz(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        latest = self._view.snapshot()
        healthy = latest["availability"] == "online" and latest["camera"] in {"online", "disabled"}
        return json_response({"healthy": healthy}, 200 if healthy else 503)

    async def _set_enabled(self, request: Request) -> Response:
        body = await read_json(request)
        if not isinstance(body, dict) or not isinstance(wanted := body.get("enabled"), bool):
            return error_response(400, 'send {"enabled": true} or {"enabled": false} as application/json')
        saved = await run_in_threadpool(self._controls.switch, wanted)
        return json_response({"enabled": wanted, "saved": saved})

    async def _restart(self, request: Request) -> Response:
        if await read_json(request) is None:
            return error_response(400, "send {} as application/json")
        self._controls.restart()
        return json_response({"restarting": True}, 202)

    async def _restart_camera(self, request: Request) -> Response:
        if await read_json(request) is None:
            return error_response(400, "send {} as application/json")
        if self._controls.restart_camera is None:
            return error_response(409, "the source is no camera")
        self._controls.restart_camera()
        return json_response({"restarting": True}, 202)


def _from_other_threads(call: Callable[[], None]) -> Callable[[], None]:
    """Return a function with which any thread has this thread's loop make a call, if the loop still runs."""
    loop = asyncio.get_running_loop()

    def call_soon() -> None:
        with suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(call)

    return call_soon


def _describe(frame: ShownFrame) -> dict[str, Any]:
    rows, columns = frame.gray.shape
    return {
        "number": frame.number,
        "width": columns,
        "height": rows,
        "faces": frame.faces,
        "hints": framing_hints(frame.gray, frame.faces),
    }


def _update(kind: str, value: object) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(value) + b"\n\n"
