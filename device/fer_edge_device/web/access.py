"""Who gets in: the host that a request names, its origin, token or session, and its rate.

On loopback no token is asked for; the check of `Host` keeps out pages that a browser has open elsewhere (DNS
rebinding). Everywhere else, a request needs the token or the cookie of a session.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from fer_edge_device.web.token import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from fer_edge_device.web.token import Token

SESSION_S: Final = 30 * 86_400
_MAX_SESSIONS: Final = 100
_MAX_CLIENTS: Final = 1_000
_MAX_REQUESTS: Final = 400  # at once, from one address
_REQUESTS_PER_S: Final = 200.0  # twenty browsers behind one proxy
_MAX_LOGINS: Final = 5  # wrong ones at once, from one address
_LOGINS_PER_S: Final = 1 / 30
_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def session_cookie(request: Request) -> str:
    """Return the name of the session's cookie: browsers send a cookie to all ports of a host."""
    return f"fer_edge_session_{request.scope['server'][1]}"


class RateLimit:
    """Token buckets, one for each address; the oldest are forgotten."""

    def __init__(self, size: int, per_second: float) -> None:
        """Allow so many at once, and so many a second after that."""
        self._size, self._per_second = size, per_second
        self._buckets: dict[str, tuple[float, float]] = {}

    def allows(self, address: str, cost: float = 1.0) -> bool:
        """Return whether an address may go on, and count that.

        Args:
            address: the address.
            cost: how much to count; 0 only asks.
        """
        now = time.monotonic()
        level, then = self._buckets.pop(address, (float(self._size), now))
        level = min(level + (now - then) * self._per_second, self._size)
        allowed = level >= 1
        self._buckets[address] = level - cost if allowed else level, now
        if len(self._buckets) > _MAX_CLIENTS:
            del self._buckets[next(iter(self._buckets))]
        return allowed


class Access:
    """Decides about requests."""

    def __init__(self, token: Token | None, hosts: Iterable[str], trusted_proxy: str = "") -> None:
        """Start without sessions.

        Args:
            token: opens the page; None: only this machine can connect, and nothing is asked for.
            hosts: further names by which this machine may be called.
            trusted_proxy: address of a proxy that lets in only whom it knows; empty: there is none.
        """
        self._trusted_proxy = ipaddress.ip_address(trusted_proxy) if trusted_proxy else None
        self._token = token
        named = {host.lower() for host in hosts}
        names = {*_LOCAL_NAMES, *named}
        self._has_proxy = bool(named)
        if token:
            name = socket.gethostname().lower()
            names |= {name, f"{name.partition('.')[0]}.local", socket.getfqdn().lower()}
        self._names = names
        self._sessions: dict[bytes, float] = {}  # by hash: until when
        self._requests = RateLimit(_MAX_REQUESTS, _REQUESTS_PER_S)
        self._logins = RateLimit(_MAX_LOGINS, _LOGINS_PER_S)

    @property
    def needs_token(self) -> bool:
        """Whether the token or a session is needed."""
        return self._token is not None

    def is_https(self, request: Request) -> bool:
        """Return whether the browser speaks https to the proxy that a request came through."""
        return self._is_proxied(request) and request.headers.get("x-forwarded-proto", "").lower() == "https"

    def knows_host(self, request: Request) -> bool:
        """Return whether a request names this machine.

        A page elsewhere may have pointed its own name here. A trusted proxy knows its browsers, and has any name.
        """
        if self._is_trusted(request):
            return True
        host = _host_of(f"//{request.headers.get('host', '')}")
        return host in self._names or (self._token is not None and _is_address(host))

    def has_own_origin(self, request: Request) -> bool:
        """Return whether a request that changes something is from this page, or from no page at all."""
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "same-origin")
        names = [request.headers.get("host", "")]
        if self._is_trusted(request):  # it may replace the name that the browser has used
            names += request.headers.getlist("x-forwarded-host")
        own = tuple(f"//{name}".lower() for name in names)
        return site in {"same-origin", "none"} and (origin is None or origin.lower().endswith(own))

    def is_within_rate(self, request: Request) -> bool:
        """Count a request, and return whether its address has not made too many."""
        return self._requests.allows(self._client(request))

    def is_allowed(self, request: Request) -> bool:
        """Return whether a request has the token or a session, if it needs one."""
        if self._token is None or self._is_trusted(request):
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._matches(request, given.strip())
        until = self._sessions.get(digest(request.cookies.get(session_cookie(request), "")), 0.0)
        return time.monotonic() < until

    def must_wait(self, request: Request) -> bool:
        """Return whether the address of a request tried too many wrong tokens."""
        return self._token is not None and not self._logins.allows(self._client(request), 0)

    def log_in(self, request: Request, token: str) -> str | None:
        """Return the cookie of a new session; None if the token is wrong, or the address tried too many."""
        if self._token is None or not self._matches(request, token):
            return None
        cookie = secrets.token_urlsafe(32)
        self._sessions[digest(cookie)] = time.monotonic() + SESSION_S
        if len(self._sessions) > _MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return cookie

    def log_out(self, request: Request) -> None:
        """End the session of a request."""
        self._sessions.pop(digest(request.cookies.get(session_cookie(request), "")), None)

    def _matches(self, request: Request, given: str) -> bool:
        client = self._client(request)
        if self._token is None or not self._logins.allows(client, 0):
            return False
        if self._token.matches(given):
            return True
        self._logins.allows(client)
        return False

    def _client(self, request: Request) -> str:
        """Return the address of a browser; of IPv6, the network, for one machine has as many addresses as it likes."""
        address = self._address(request)
        if ":" not in address or not _is_address(address):
            return address
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))

    def _address(self, request: Request) -> str:
        """Return the address of a browser; a proxy adds it to those that the browser itself may have named."""
        peer = request.client.host if request.client else ""
        if not self._is_proxied(request):
            return peer
        named = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
        host = _host_of(f"//{named}") or named  # some proxies add the port
        return host if _is_address(host) else peer

    def _is_proxied(self, request: Request) -> bool:
        """Return whether a request is from a proxy, which alone may say who is behind it."""
        is_local = self._has_proxy and request.client is not None and _is_loopback(request.client.host)
        return is_local or self._is_trusted(request)

    def _is_trusted(self, request: Request) -> bool:
        """Return whether a request is from the proxy that lets in only whom it knows."""
        peer = request.client.host if request.client else ""
        return _is_address(peer) and ipaddress.ip_address(peer) == self._trusted_proxy


def _host_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
