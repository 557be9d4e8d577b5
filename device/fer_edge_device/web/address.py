"""Where the page listens: ``[HOST:]PORT``."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final, NamedTuple

from fer_edge.errors import InputError
from fer_edge.utils.arguments import describe_value

_MAX_PORT: Final = 65_535
_MAX_CONNECTIONS: Final = 128


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
        host = socket.gethostname() if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - compared
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


class BoundedListener(socket.socket):
    """A listening socket that closes what comes when there are too many connections, also during TLS's handshake."""

    def __init__(self, family: int) -> None:
        """Create a socket.

        Args:
            family: of its address.
        """
        super().__init__(family, socket.SOCK_STREAM)
        self._accepted: list[socket.socket] = []

    def accept(self) -> tuple[socket.socket, object]:
        """Accept a connection.

        Raises:
            ConnectionAbortedError: there were too many, and it was closed.
        """
        connection, address = super().accept()
        self._accepted = [each for each in self._accepted if each.fileno() != -1]
        if len(self._accepted) >= _MAX_CONNECTIONS:
            connection.close()
            raise ConnectionAbortedError
        self._accepted.append(connection)
        return connection, address


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
