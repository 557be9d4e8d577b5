"""TLS: which certificates to trust, and why the certificate of a server is not valid."""

from __future__ import annotations

import ssl
from typing import Final

from fer_edge.errors import InputError, first_line

# OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED, _HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH.
_TIME_ERRORS: Final = (9, 10)
_NAME_ERRORS: Final = (62, 64)


def client_context(ca_file: str, key: str) -> ssl.SSLContext:
    """Return a context that verifies the certificates of servers and their names.

    Args:
        ca_file: file with the certificates to trust; empty: those of the system.
        key: the key of the configuration that names the file, for an error.

    Raises:
        InputError: the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise InputError(f"{ca_file}: {key} cannot be used ({os_reason(error)})") from error


def os_reason(error: OSError) -> str:
    """Return the reason of an error of the system or of OpenSSL, without its number."""
    return (error.reason or first_line(error)) if isinstance(error, ssl.SSLError) else error.strerror or str(error)


def explain_certificate(error: ssl.SSLCertVerificationError, key: str) -> str:
    """Say why a certificate is not valid, and what to do.

    Args:
        error: what the verification raised.
        key: the key of the configuration that names the certificates to trust.
    """
    advice = f"if it is your own, set {key} to the certificate of its issuer"
    if error.verify_code in _NAME_ERRORS:
        advice = "use the name that the certificate was issued for"
    elif error.verify_code in _TIME_ERRORS:
        advice = "renew it, or set this machine's clock"
    return f"its certificate is not valid ({error.verify_message.rstrip('.')}); {advice}"
