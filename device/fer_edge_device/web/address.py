"""Where the page listens: ``[HOST:]PORT``."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.errors import InputError
from fer_edge.utils.arguments import describe_value
from fer_edge.utils.limits import PAGE_CONNECTIONS, PAGE_CONNECTIONS_OF_ADDRESS

if TYPE_CHECKING:
    from fer_edge_device.config.settings import WebSettings

_MAX_PORT: Final = 65_535


class ListenAddress(NamedTuple):
    """An address to listen on.

    Attributes:
        host: an IP address, or a name of this machine.
        port: 1..65535; 0 takes a free one.
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def url(self, *, tls: bool) -> str:
        """Return the address for a browser; one that stands for all addresses becomes this machine's name."""
        host = self.host
        if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared
            name = socket.gethostname()
            host = name if "." in name else f"{name}.local"  # by which other machines find it without a name server
        return f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{self.port}/"


def parse_listen_address(text: str, name: str) -> ListenAddress:
    """Convert ``8080``, ``0.0.0.0:8080`` or ``[::]:8080`` to an address; without a host, that is loopback.

    Args:
        text: the address.
        name: the option or key that gave it, for the error.

    Raises:
        InputError: the text is no address.
    """
    host, _, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= _MAX_PORT) or len(host) > 255:
        raise InputError(f"{name} {describe_value(text)}: write [HOST:]PORT, such as 8080 or 0.0.0.0:8080")
    return ListenAddress(host, int(port))


def proxy_names(settings: WebSettings) -> list[str]:
    """Return the names in ``web.hosts``."""
    return [name.strip() for name in settings.hosts.split(",") if name.strip()]


def page_url(settings: WebSettings) -> str:
    """Return the address at which other machines open the page; empty if none can, or the port is not known yet.

    A name in ``web.hosts`` is that of a proxy, which is taken to serve https. Only ``web.trusted_proxy`` itself knows
    its address.

    Raises:
        InputError: ``web.listen`` is no address.
    """
    if not settings.listen:
        return ""
    if names := proxy_names(settings):
        return f"https://{names[0]}/"
    if settings.trusted_proxy:
        return ""
    address = parse_listen_address(settings.listen, "web.listen")
    return "" if address.is_loopback or not address.port else address.url(tls=bool(settings.cert_file))


class BoundedListener(socket.socket):
    """A listening socket that closes what comes when there are too many connections, also during TLS's handshake.

    One address cannot take all of them.
    """

    def __init__(self, family: int) -> None:
        """Create a socket.

        Args:
            family: of its address.
        """
        # With the protocol, asyncio switches off Nagle's algorithm, which delays answers by 40 ms.
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._accepted: list[tuple[socket.socket, str]] = []

    def accept(self) -> tuple[socket.socket, object]:
        """Accept a connection.

        Raises:
            ConnectionAbortedError: there were too many, and it was closed.
        """
        connection, address = super().accept()
        client = _client(address[0])
        self._accepted = [each for each in self._accepted if each[0].fileno() != -1]
        clients = [other for _, other in self._accepted]
        if len(clients) >= PAGE_CONNECTIONS or clients.count(client) >= PAGE_CONNECTIONS_OF_ADDRESS:
            connection.close()
            raise ConnectionAbortedError
        self._accepted.append((connection, client))
        return connection, address


def _client(address: str) -> str:
    """Return what identifies a client: its address, or the network of an IPv6 address, of which it may take many."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.IPv6Network((ip, 64), strict=False))
    return str(ip)


def bind(address: ListenAddress, name: str) -> BoundedListener:
    """Return a socket that listens.

    Args:
        address: where to listen.
        name: as in `parse_listen_address`.

    Raises:
        InputError: the address is in use, or not of this machine.
    """
    try:
        family, *_, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = BoundedListener(family)
    except OSError as error:
        raise InputError(f"{name} {address.host}:{address.port}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise InputError(
            f"{name} {address.host}:{address.port}: cannot listen there ({error.strerror}); choose another port"
        ) from error
    return listener
