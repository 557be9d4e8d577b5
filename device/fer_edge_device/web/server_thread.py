"""Run a server in a thread of its own."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from fer_edge.errors import first_line

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from fer_edge_device.web.server import WebServer

logger = logging.getLogger(__name__)

_CLOSE_S: Final = 2.0


class ServerThread:
    """Makes a server and runs it, until it is closed.

    The thread also imports the server's libraries, for which the runner's first message does not wait. Browsers that
    connect meanwhile wait in the socket's queue.
    """

    def __init__(self, make_server: Callable[[], WebServer], listener: socket.socket) -> None:
        """Start the thread.

        Args:
            make_server: makes the server, in the thread.
            listener: the socket to listen on; it stays open.
        """
        self._make_server, self._listener = make_server, listener
        self._server: WebServer | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server."""
        self._closed = True
        if self._server:
            self._server.stop()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        try:
            self._server = self._make_server()
            if not self._closed:  # otherwise `close` may have come before there was a server
                self._server.run(self._listener)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the page, the runner goes on
            logger.error(  # noqa: TRY400 - in one line
                "the page cannot be served: %s: %s", type(error).__name__, first_line(error)
            )
