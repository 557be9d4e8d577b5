"""Give FFmpeg a stream that another part of the program receives."""

from __future__ import annotations

import http.client
import os
import threading
from contextlib import suppress
from typing import Final

_CHUNK: Final = 65_536


class PipeRelay:
    """Passes the body of a response through a pipe, because FFmpeg may not verify the certificate of its server.

    Attributes:
        address: the address of the pipe for FFmpeg, which leaves it open.
    """

    def __init__(self, response: http.client.HTTPResponse) -> None:
        """Start to pass on what arrives.

        Args:
            response: an open response, whose reads have a time-out; the relay closes it.
        """
        self._read_end, write_end = os.pipe()
        self.address = f"pipe:{self._read_end}"
        self._thread = threading.Thread(target=_pass_on, args=(response, write_end), name="relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the pipe, when nobody reads it any more, and wait for the response to be closed."""
        os.close(self._read_end)
        self._thread.join()


def _pass_on(response: http.client.HTTPResponse, write_end: int) -> None:
    """Write the body to the pipe until it ends or the pipe is closed; the end of the pipe tells FFmpeg."""
    with response, suppress(OSError, ValueError, http.client.HTTPException), open(write_end, "wb", 0) as pipe:
        while data := response.read1(_CHUNK):
            rest = memoryview(data)
            while rest:
                rest = rest[pipe.write(rest) :]
