"""Serve the page from a thread of its own. All that comes from outside has a limit."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fer_edge.errors import InputError, printable

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from fer_edge_device.web.app import WebApp
    from fer_edge_device.web.live_view import LiveView

_HEADER_BYTES: Final = 16_384
_REQUEST_S: Final = 10.0  # for the headers of a request
_ANSWER_S: Final = 60.0  # for any answer but a stream of updates
_STREAM: Final = "/api/events"
_CLOSE_S: Final = 2.0


class _BoundedProtocol(H11Protocol):
    """HTTP with a limit on the time that a request may take."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection."""
        super().connection_made(transport)
        self._expect_request()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._expect_request()

    def _expect_request(self) -> None:
        self.loop.call_later(_REQUEST_S, self._check_request, self.cycle)

    def _check_request(self, previous: object) -> None:
        """Close the connection if no whole request has come since the previous one; limit the time of its answer."""
        if self.transport.is_closing():
            return
        if self.cycle is previous:
            self.transport.abort()
        elif not self.cycle.response_complete:
            self.loop.call_later(_ANSWER_S, self._end_slow_answer, self.cycle)

    def _end_slow_answer(self, cycle: object) -> None:
        """Close the connection if a request is still being answered, unless the answer is the stream of updates."""
        if self.cycle is cycle and not self.cycle.response_complete and self.cycle.scope["path"] != _STREAM:
            self.transport.abort()


class WebServer:
    """Serves the page until it is closed."""

    def __init__(
        self, app: WebApp, view: LiveView, listener: socket.socket, certificate: Path | None, key: Path | None
    ) -> None:
        """Start the thread.

        Args:
            app: answers the requests.
            view: tells when something is new.
            listener: the socket to listen on.
            certificate: the certificate for TLS, with its chain; None: without TLS.
            key: its private key; None: it is in the file of the certificate.

        Raises:
            InputError: the certificate or its key cannot be used.
        """
        if certificate:
            _check_certificate(certificate, key)
        # What clients do wrong is not worth a line; what the program does wrong is.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app.asgi,
                http=_BoundedProtocol,
                interface="asgi3",
                loop="asyncio",
                backlog=16,  # how many connections asyncio accepts at a time
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=_HEADER_BYTES,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=1,
                ssl_certfile=certificate,
                ssl_keyfile=key,
            )
        )
        self._app, self._view, self._listener = app, view, listener
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server; the listener stays open."""
        self._view.on_change = lambda: None
        self._server.should_exit = True
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._app.tell_change)

        self._view.on_change = tell
        broadcast = asyncio.create_task(self._app.broadcast())
        try:
            await self._server.serve([self._listener])
        finally:
            broadcast.cancel()


def _check_certificate(certificate: Path, key: Path | None) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, _refuse_pass_phrase)
    except (OSError, ValueError) as error:
        name = printable(str(key or certificate))
        reason = (error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", "")) or error
        raise InputError(f"web.cert_file, web.key_file: {name} cannot be used ({reason})") from error


def _refuse_pass_phrase() -> str:
    raise ValueError("it has a pass phrase")
