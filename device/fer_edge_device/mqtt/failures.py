"""Explain in plain words why a broker cannot be reached, and what to do."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Final

from fer_edge.errors import first_line
from fer_edge.utils.words import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

# OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED, _HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH.
_TIME_ERRORS: Final = (9, 10)
_NAME_ERRORS: Final = (62, 64)


def os_reason(error: OSError) -> str:
    """Return the reason of an error of the system or of OpenSSL, without its number."""
    return (error.reason or first_line(error)) if isinstance(error, ssl.SSLError) else error.strerror or str(error)


def explain_failure(error: OSError | ValueError, *, tls: bool) -> str:
    """Explain why a connection failed, and say what to do.

    Args:
        error: the exception of the attempt.
        tls: whether the connection was to be encrypted.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = "if it is your own, set mqtt.ca_file to the certificate of its issuer"
        if error.verify_code in _NAME_ERRORS:
            advice = "use the name that the certificate was issued for"
        elif error.verify_code in _TIME_ERRORS:
            advice = "renew it, or set this machine's clock"
        return f"its certificate is not valid ({error.verify_message.rstrip('.')}); {advice}"
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
