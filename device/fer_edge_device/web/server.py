"""Serve a site over HTTP. All that comes from outside has a limit."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fer_edge.utils.limits import PAGE_HEADER_BYTES

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from fer_edge_device.web.site import Site

_REQUEST_S: Final = 10.0  # for the headers of a request
_ANSWER_S: Final = 60.0  # for any answer but a stream of updates
_STREAMS: Final = frozenset({"/api/events", "/api/recognize"})  # which may take long


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

    def shutdown(self) -> None:
        """End with the server, and a stream of updates at once."""
        if self.cycle and not self.cycle.response_complete and self.cycle.scope["path"] in _STREAMS:
            self.transport.abort()
        super().shutdown()

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
        """Close the connection if a request is still being answered, unless that may take long."""
        if self.cycle is cycle and not self.cycle.response_complete and self.cycle.scope["path"] not in _STREAMS:
            self.transport.abort()


class WebServer:
    """Serves a site until it is told to stop."""

    def __init__(self, site: Site, certificate: Path | None, key: Path | None) -> None:
        """Prepare to serve.

        Args:
            site: answers the requests.
            certificate: the certificate for TLS, with its chain; None: without TLS.
            key: its private key; None: it is in the file of the certificate.
        """
        # What clients do wrong is not worth a line; what the program does wrong is.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._site = site
        self._server = uvicorn.Server(
            uvicorn.Config(
                site.asgi,
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
                h11_max_incomplete_event_size=PAGE_HEADER_BYTES,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=1,
                ssl_certfile=certificate,
                ssl_keyfile=key,
            )
        )

    def run(self, listener: socket.socket) -> None:
        """Serve on a socket, which stays open, until `stop` is called."""
        with suppress(asyncio.CancelledError):
            asyncio.run(self._serve(listener))

    def stop(self) -> None:
        """Let `run` end. May be called from any thread."""
        # Answers that are cut off now are nobody's fault.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server.should_exit = True

    async def _serve(self, listener: socket.socket) -> None:
        background = asyncio.create_task(self._site.background()) if self._site.background else None
        try:
            await self._server.serve([listener])
        finally:
            if background:
                background.cancel()
