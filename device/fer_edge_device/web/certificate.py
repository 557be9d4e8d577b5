"""Check the certificate of a page before it is served."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from fer_edge.errors import InputError, printable

if TYPE_CHECKING:
    from pathlib import Path


def check_certificate(certificate: Path, key: Path | None) -> None:
    """Check that a certificate and its key can be used.

    Args:
        certificate: the certificate for TLS, with its chain.
        key: its private key; None: it is in the file of the certificate.

    Raises:
        InputError: they cannot.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, _refuse_pass_phrase)
    except (OSError, ValueError) as error:
        name = printable(str(key or certificate))
        raise InputError(f"web.cert_file, web.key_file: {name} cannot be used ({_reason(error)})") from error


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "one of the two is missing there, or it is not in PEM form"
    return getattr(error, "strerror", "") or str(error)


def _refuse_pass_phrase() -> str:
    raise ValueError("it has a pass phrase")
