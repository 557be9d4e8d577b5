"""The address of an MQTT broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from fer_edge.errors import InputError

_FORM: Final = "mqtt://[user@]host[:port] or mqtts://..."


@dataclass(frozen=True)
class Address:
    """Host, port and user of a broker.

    Attributes:
        host: name or IP address.
        port: 1 to 65535.
        tls: whether the connection is encrypted.
        user: the user who logs in; empty for an anonymous login.
    """

    host: str
    port: int
    tls: bool
    user: str

    def __str__(self) -> str:
        """Return the address without the user."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def parse_address(url: str) -> Address:
    """Parse ``mqtt://[user@]host[:port]`` or ``mqtts://...``.

    Raises:
        InputError: the address is invalid. The message repeats nothing that could be a password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in {"mqtt", "mqtts"}:
        raise InputError(f"mqtt.url: an address looks like {_FORM}")
    login, _, place = rest.rpartition("@")
    if ":" in login:
        raise InputError(
            "mqtt.url: the address must not contain a password; write the password into a file and set"
            " mqtt.password_file"
        )
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname or "", parts.port
    except ValueError:  # its message repeats what may be a password
        raise InputError(
            f"mqtt.url: an address looks like {_FORM}; a port is 1 to 65535, an IPv6 address is written [in brackets]"
        ) from None
    if not host or port == 0 or parts.path.strip("/") or parts.query or parts.fragment:
        raise InputError(f"mqtt.url: an address looks like {_FORM}, with nothing after it")
    tls = scheme.lower() == "mqtts"
    return Address(host, port or (8883 if tls else 1883), tls, unquote(login))
