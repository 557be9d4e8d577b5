"""The configured broker: its address, the password and the TLS context of a login."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from fer_edge.errors import InputError
from fer_edge.utils.bounded_file import read_text
from fer_edge.utils.tls import client_context, os_reason
from fer_edge_device.mqtt.address import parse_address

if TYPE_CHECKING:
    from fer_edge_device.config.settings import MqttSettings


class Broker:
    """A broker as the configuration describes it.

    Attributes:
        address: host, port and user.
        keepalive: seconds of silence before the connection is checked.
        version: the version of MQTT to use; ``auto``: 5, or 3.1.1 if the broker does not support it.
    """

    def __init__(self, settings: MqttSettings) -> None:
        """Check the settings.

        Raises:
            InputError: the address or a file cannot be used.
        """
        self._settings = settings
        self.address = parse_address(settings.url)
        self.keepalive, self.version = settings.keepalive_s, settings.version
        for key in ("ca_file", "cert_file", "key_file"):
            if getattr(settings, key) and not self.address.tls:
                raise InputError(f"mqtt.{key} works only with an encrypted connection; set mqtt.url to mqtts://...")
        if settings.key_file and not settings.cert_file:
            raise InputError("mqtt.key_file needs a certificate; set mqtt.cert_file")
        if self.password() and not self.address.user:
            raise InputError("mqtt.url names no user for the broker's password; use mqtt://user@host")
        self.tls_context()

    def password(self) -> str | None:
        """Read the password from its file; None for a login without a password.

        Raises:
            InputError: the file cannot be read.
        """
        if path := self._settings.password_file:
            name = "mqtt.password_file"
        elif folder := os.environ.get("CREDENTIALS_DIRECTORY"):
            path, name = f"{folder}/mqtt-password", "the credential mqtt-password"
            if not Path(path).exists():
                return None
        else:
            return None
        try:
            password = read_text(Path(path)).rstrip("\r\n")
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        if not password:
            raise InputError(f"{path}: {name} is empty")
        return password

    def tls_context(self) -> ssl.SSLContext | None:
        """Read the certificates from their files; None for a connection that is not encrypted.

        Raises:
            InputError: a certificate or key cannot be used.
        """
        if not self.address.tls:
            return None
        certificate, key = self._settings.cert_file, self._settings.key_file
        context = client_context(self._settings.ca_file, "mqtt.ca_file")
        context.sslsocket_class = _ClosingSocket
        if certificate:
            try:
                context.load_cert_chain(certificate, key or None, password=_refuse_encrypted_key)
            except OSError as error:
                raise InputError(
                    f"{certificate}: mqtt.cert_file and key_file cannot be used ({os_reason(error)})"
                ) from error
        return context


class _ClosingSocket(ssl.SSLSocket):
    """A socket that closes when its handshake fails; paho leaves it to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as in the base class
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _refuse_encrypted_key() -> str:
    raise InputError("mqtt.key_file is encrypted, and a service cannot ask for its password; decrypt the file")
