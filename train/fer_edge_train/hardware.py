"""The arithmetic that is fast on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import keras


def resolve_precision(precision: str) -> str:
    """Return a recipe's precision, with `fast_precision` in place of ``auto``."""
    return fast_precision() if precision == "auto" else precision


def fast_precision() -> Literal["float32", "mixed_bfloat16"]:
    """Return ``mixed_bfloat16`` if a GPU or the processor has instructions for it, and ``float32`` if not.

    Without such instructions bfloat16 is emulated, which was measured to be 2 to 11 times slower than float32.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        import torch  # noqa: PLC0415 - only the backend in use is installed

        gpu = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    elif backend == "jax":
        import jax  # noqa: PLC0415

        gpu = jax.default_backend() in {"gpu", "tpu"}
    else:
        import tensorflow as tf  # noqa: PLC0415

        gpu = bool(tf.config.list_physical_devices("GPU"))
    # JAX's convolutions on a processor do not use these instructions.
    return "mixed_bfloat16" if gpu or (backend != "jax" and _processor_has_bfloat16()) else "float32"


def _processor_has_bfloat16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
