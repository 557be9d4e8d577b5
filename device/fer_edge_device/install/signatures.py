"""Signatures of releases and models, in minisign's format.

A host with keys in ``/etc/fer-edge/trusted-keys`` installs only what one of them has signed; one without any installs
everything. The Debian program ``minisign`` checks the signatures, without a network. ``deploy.sh`` does the same before
it runs anything of a release.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError, ServiceError
from fer_edge_device.install.paths import TRUSTED_KEYS

if TYPE_CHECKING:
    from fer_edge_device.install.host import Host

_SUFFIX: Final = ".minisig"


def signature_path(path: Path) -> Path:
    """Return where the signature of a file lies: beside it."""
    return path.with_name(path.name + _SUFFIX)


def requires_signatures(host: Host) -> bool:
    """Return whether a host trusts any key."""
    return bool(_trusted_keys(host))


def check_signature(host: Host, path: Path, content: bytes) -> None:
    """Check that a trusted key has signed a file, unless the host trusts no key.

    Args:
        host: the host whose keys count.
        path: the file; its signature lies beside it.
        content: the content of the file as it will be used, because somebody may replace the file itself.

    Raises:
        InputError: it is not signed, not by a trusted key, or was changed since.
    """
    keys = _trusted_keys(host)
    if not keys:
        return
    folder = host.root / TRUSTED_KEYS
    signature = signature_path(path)
    if not signature.is_file():
        raise InputError(
            f"{path}: {signature.name} is missing, and only what a key in {folder} has signed is installed"
        )
    if shutil.which("minisign") is None:
        raise InputError(
            f"{folder} has keys, but the program that checks signatures is missing: sudo apt install minisign"
        )
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary, "content")
        copy.write_bytes(content)
        for key in keys:
            try:
                host.run("minisign", "-V", "-q", "-m", str(copy), "-x", str(signature), "-p", str(key))
            except ServiceError:
                continue
            return
    raise InputError(f"{path}: no key in {folder} has signed it, or it was changed since; it is not installed")


def _trusted_keys(host: Host) -> list[Path]:
    return sorted((host.root / TRUSTED_KEYS).glob("*.pub"))
