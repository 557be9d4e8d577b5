"""The description of a model that Keras keeps in its files: refuse code in it, and leave out half precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fer_edge.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MODULES: Final = {"builtins", "keras", "tf_keras", "numpy"}  # whose classes may be made by name
_OPERATIONS: Final = (
    *("math.", "nn.", "__operators__.", "image.resize", "cast", "clip_by_value", "concat", "expand_dims", "identity"),
    *("pad", "reshape", "split", "squeeze", "stack", "tile", "transpose"),
)
_TRUST: Final = "; --unsafe runs it, if you trust who made it"
_POLICIES: Final = {"DTypePolicy", "Policy", "PolicyV1"}
_HALF: Final = {"float16", "bfloat16", "mixed_float16", "mixed_bfloat16"}


def refuse_code(path: Path, config: object, *, unsafe: bool) -> None:
    """Refuse a model whose description holds what would run as code while it is loaded.

    A Lambda layer, and a wrapper with a function of its own, are pickled functions; a class of somebody's module is
    imported; and an operation by name may be any of TensorFlow's, those that write files among them.
    """
    if unsafe:
        return
    for one in _tables(config):
        name, module = one.get("class_name"), one.get("module")
        lambdas = [key for key, value in one.items() if key.endswith("_type") and value == "lambda"]
        if name in {"Lambda", "__lambda__"} or lambdas:
            raise ModelError(f"{path}: it has a Lambda layer, which is code that loading would run{_TRUST}")
        if name and module and str(module).partition(".")[0] not in _MODULES:
            raise ModelError(f"{path}: it has a {name} of {module}, which is code that loading would run{_TRUST}")
        function = one.get("function")
        if isinstance(function, str) and not function.startswith(_OPERATIONS):
            raise ModelError(f"{path}: it calls {function}, which is code that loading would run{_TRUST}")


def use_float32(config: object) -> bool:
    """Let a model that was trained in half precision calculate in float32, in which its weights are.

    LiteRT has few operators in half precision.

    Args:
        config: the parsed description, which is changed.

    Returns:
        Whether anything was changed.
    """
    changed = False
    for one in _tables(config):
        inner = one.get("config")
        if one.get("class_name") in _POLICIES and isinstance(inner, dict) and inner.get("name") in _HALF:
            inner["name"] = "float32"
            changed = True
        for key in ("dtype", "cast_dtype"):
            if isinstance(one.get(key), str) and one[key] in _HALF:
                one[key] = "float32"
                changed = True
    return changed


def _tables(config: object) -> Iterator[dict[str, Any]]:
    """Yield every table of a parsed JSON text."""
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            yield one
            waiting += one.values()
