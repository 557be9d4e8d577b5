"""Explain in plain words why a broker cannot be reached, and what to do."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from fer_edge.errors import first_line
from fer_edge.utils.tls import explain_certificate, os_reason
from fer_edge.utils.words import listed

if TYPE_CHECKING:
    from collections.abc import Sequence


def explain_failure(error: OSError | ValueError, *, tls: bool) -> str:
    """Explain why a connection failed, and say what to do.

    Args:
        error: the exception of the attempt.
        tls: whether the connection was to be encrypted.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return explain_certificate(error, "mqtt.ca_file")
    if isinstance(error, ConnectionRefusedError):
        return "refused the connection; is a broker running there?"
    if isinstance(error, ssl.SSLError) or (tls and isinstance(error, ConnectionError)):
        return f"does not speak TLS ({os_reason(error)}); is this its port for mqtt://, without encryption?"
    if isinstance(error, socket.gaierror):
        return f"the host name is unknown ({error.strerror}); check it and the network"
    if isinstance(error, TimeoutError):
        return "does not answer; check the address, the network and firewalls"
    return f"cannot be reached ({os_reason(error) if isinstance(error, OSError) else first_line(error)})"


def refusal_advice(user: str, topics: Sequence[str], reason: str) -> str:
    """Return what to do about a broker that refuses messages.

    Args:
        user: the user who is logged in; empty for an anonymous login.
        topics: the topics of the messages.
        reason: why the broker refused them.
    """
    if reason == "Not authorized":
        who = f"the user {user}" if user else "anonymous clients"
        return f"allow {who} to publish to {listed(topics)} on the broker"
    return f"see the broker's log about {listed(topics)}"
