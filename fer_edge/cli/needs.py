"""What a command needs to have installed."""

from __future__ import annotations

import importlib.util
import os

from fer_edge.errors import InputError, MissingExtraError


def need(extra: str, *modules: str) -> None:
    """Refuse to go on without these modules, and say which extra brings them."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingExtraError(" and ".join(missing), extra)


def need_keras_backend() -> None:
    """Have Keras calculate with what is installed, unless it was told with what."""
    installed = [name for name in ("tensorflow", "torch", "jax") if importlib.util.find_spec(name)]
    if not installed:
        raise InputError("Keras needs something to calculate with: pip install tensorflow, torch or jax")
    wanted = os.environ.get("KERAS_BACKEND")
    if wanted and wanted not in installed:
        raise InputError(f"KERAS_BACKEND is {wanted}, which is not installed; there is {', '.join(installed)}")
    if "tensorflow" not in installed:
        os.environ.setdefault("KERAS_BACKEND", installed[0])
