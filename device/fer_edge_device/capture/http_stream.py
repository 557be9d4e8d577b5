"""Streams over HTTP: Motion JPEG, read with bounded memory, and everything else through FFmpeg."""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from fer_edge.errors import DataError, SourceError, SourceLostError
from fer_edge.utils import image_io
from fer_edge.utils.tls import client_context, explain_certificate
from fer_edge_device.capture.multipart import MultipartReader, TooLargeError
from fer_edge_device.capture.opencv import NetworkStream
from fer_edge_device.capture.relay import PipeRelay
from fer_edge_device.capture.source_name import display_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fer_edge_device.config.settings import CameraSettings

_CHUNK: Final = 65_536
# What FFmpeg, which has no limit, would take for Motion JPEG, whatever the camera calls it.
_PART: Final = re.compile(rb"\s*--[^\r\n]*\r?\n(?:[\w-]+:[^\n]*\n)*?content-type:[ \t]*image/jpeg", re.IGNORECASE)
_JPEG: Final = b"\xff\xd8"
_PLAYLIST: Final = b"#EXTM3U"
_UNVERIFIED: Final = "set camera.verify_certificate to false"


class HttpStream:
    """A camera with an address that begins with ``http://`` or ``https://``."""

    def __init__(self, settings: CameraSettings) -> None:
        """Choose a stream, without opening it.

        Args:
            settings: its address, which may contain a user and a password; the seconds after which connecting, or
                waiting for a frame, fails; and which certificates to trust.
        """
        self._settings, self._address, self._name = settings, settings.source, display_name(settings.source)
        self._stall_timeout = settings.stall_timeout_s
        self._response: http.client.HTTPResponse | None = None
        self._reader: MultipartReader | None = None
        self._other: NetworkStream | None = None
        self._relay: PipeRelay | None = None
        self._image = b""

    def open(self) -> None:
        """Open the stream; see `CaptureDevice`."""
        self.close()
        try:
            self._response = _request(self._settings)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise SourceError(f"{self._name}: {_explain(error)}") from None
        if (start := self._peek()).startswith(_JPEG):
            self._reader = MultipartReader(bare=True)
        elif self._response.headers.get_content_maintype() == "multipart" or _PART.match(start):
            self._reader = MultipartReader()
        else:
            self._open_with_ffmpeg(self._response, start)

    def _open_with_ffmpeg(self, response: http.client.HTTPResponse, start: bytes) -> None:
        """Let FFmpeg read the stream: through a pipe, if a certificate was verified, which FFmpeg may not do."""
        address = self._address
        if response.url.startswith("https:") and self._settings.verify_certificate:
            if start.startswith(_PLAYLIST):
                self.close()
                raise SourceError(
                    f"{self._name}: is a playlist, whose streams may come from servers that are not verified; use the"
                    f" address of a stream, or {_UNVERIFIED}"
                )
            self._response, self._relay = None, PipeRelay(response)  # which closes the response
            address = self._relay.address
        else:
            self.close()
        self._other = NetworkStream(address, self._stall_timeout, name=self._name)
        self._other.open()

    def grab(self) -> bool:
        """Wait for the next frame; see `CaptureDevice`."""
        if self._other is not None:
            return self._other.grab()
        if self._reader is None or self._response is None:
            raise self._ended()
        deadline = time.monotonic() + self._stall_timeout
        try:
            while not (image := self._reader.next_image()):
                data = self._response.read1(_CHUNK)
                if (not data and not self._reader.end()) or time.monotonic() > deadline:
                    raise self._ended()
                self._reader.feed(data)
        except TooLargeError as error:
            raise SourceLostError(f"{self._name}: {error}") from None
        except (OSError, ValueError, http.client.HTTPException):
            raise self._ended() from None
        self._image = image
        return True

    def retrieve(self) -> npt.NDArray[np.uint8] | None:
        """Decode the frame; see `CaptureDevice`."""
        if self._other is not None:
            return self._other.retrieve()
        try:
            return image_io.decode(self._image, self._name).pixels
        except DataError:
            return None

    def close(self) -> None:
        """Release the connection."""
        self._image, self._reader = b"", None
        if self._response is not None:
            self._response.close()
            self._response = None
        if self._other is not None:
            self._other.close()
            self._other = None
        if self._relay is not None:
            self._relay.close()
            self._relay = None

    stop = close

    def _peek(self) -> bytes:
        """Return the beginning of the body, without taking it."""
        try:
            return self._response.peek(_CHUNK) if self._response else b""
        except (OSError, ValueError, http.client.HTTPException):
            return b""

    def _ended(self) -> SourceLostError:
        return SourceLostError(f"{self._name}: the stream ended, or gave no frame for {self._stall_timeout:g} s")


def tls_context(settings: CameraSettings) -> ssl.SSLContext:
    """Return how the certificates of cameras are verified.

    Raises:
        InputError: ``camera.ca_file`` cannot be used.
    """
    context = client_context(settings.ca_file, "camera.ca_file")
    # Certificates that cameras make for themselves lack what the strict rules of Python 3.13 demand.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not settings.verify_certificate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _explain(error: Exception) -> str:
    """Say why a stream cannot be opened, without repeating what may be secret."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"{explain_certificate(reason, 'camera.ca_file')}; or {_UNVERIFIED}"
    return "cannot be opened; are address and password right, and is the camera on the network?"


class _HttpsHandler(urllib.request.HTTPSHandler):
    """Loads the certificates to trust, a megabyte or more, only when an address or a redirection needs them."""

    def __init__(self, settings: CameraSettings) -> None:
        urllib.request.AbstractHTTPHandler.__init__(self)  # the one in between loads those of the system
        self._camera = settings

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Connect to a server and send a request."""
        return self.do_open(http.client.HTTPSConnection, request, context=tls_context(self._camera))


def _request(settings: CameraSettings) -> http.client.HTTPResponse:
    """Ask for a stream, with the login of its address if the camera wants one (Basic or Digest)."""
    parts = urlsplit(settings.source)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        passwords.add_password(None, bare, unquote(parts.username), unquote(parts.password or ""))
    opener = urllib.request.build_opener(
        _HttpsHandler(settings),
        _RefusalCloser(),
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
    )
    response: http.client.HTTPResponse = opener.open(bare, timeout=settings.stall_timeout_s)
    return response


class _RefusalCloser(urllib.request.BaseHandler):
    """Close the connection of a request without a login, which the handlers of logins leave open."""

    handler_order = 100  # before those handlers

    def http_error_401(
        self, _request: urllib.request.Request, response: http.client.HTTPResponse, *_details: object
    ) -> None:
        """Close the response; return nothing, so that the next handler answers it."""
        response.close()
