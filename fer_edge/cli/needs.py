"""Check that a command's packages are installed."""

from __future__ import annotations

import importlib.util
import os

from fer_edge.errors import InputError, MissingExtraError


def need(extra: str, *modules: str) -> None:
    """Refuse to continue without some modules.

    Args:
        extra: the extra that installs them.
        modules: their names.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingExtraError(" and ".join(missing), extra)


def need_keras_backend() -> None:
    """Choose an installed backend for Keras, unless ``KERAS_BACKEND`` is set.

    Raises:
        InputError: none is installed, or not the one that is set.
    """
    installed = [name for name in ("tensorflow", "torch", "jax") if importlib.util.find_spec(name)]
    if not installed:
        raise InputError("Keras needs a backend: pip install tensorflow, torch or jax")
    wanted = os.environ.get("KERAS_BACKEND")
    if wanted and wanted not in installed:
        raise InputError(f"KERAS_BACKEND is {wanted}, which is not installed; installed: {', '.join(installed)}")
    if "tensorflow" not in installed:
        os.environ.setdefault("KERAS_BACKEND", installed[0])
