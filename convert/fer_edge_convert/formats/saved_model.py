"""Read a SavedModel folder as a float ``.tflite``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fer_edge.errors import ModelError, first_line, printable
from fer_edge_convert.formats.outputs import choose_output
from fer_edge_convert.formats.tensorflow import DEBUG, convert_function, hide_output

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_convert.formats.request import ReadOptions

_RANKS = {2, 3, 4}  # of a tensor that may hold images


def read_saved_model(path: Path, options: ReadOptions) -> tuple[str, bytes]:
    """Read a SavedModel folder, by the signature that takes one image; see `read_keras_archive`."""
    with hide_output():
        import tensorflow as tf  # noqa: PLC0415 - takes seconds, and is not needed for a .tflite

        try:
            loaded = tf.saved_model.load(str(path))
            signatures = {name: _Signature(name, function) for name, function in loaded.signatures.items()}
        except Exception as error:  # TensorFlow has many ways to say that it cannot
            raise ModelError(
                f"{path}: TensorFlow cannot load it ({first_line(error)[:200]}); save it with model.export; {DEBUG}"
            ) from error
    signature = _choose(path, signatures)
    outputs = {name: tuple(spec.shape) for name, spec in signature.function.structured_outputs.items()}
    output = choose_output(path, outputs, options)

    def classify(image: Any) -> Any:  # noqa: ANN401 - a tensor
        if not signature.is_integer:
            image = tf.cast(image, signature.dtype)
        result = signature.function(**{signature.argument: image})[output]
        return result if result.dtype == tf.float32 else tf.cast(result, tf.float32)

    dtype = signature.dtype if signature.is_integer else "float32"
    return "SavedModel", convert_function(path, classify, signature.shape, options, dtype)


class _Signature:
    """A function of a SavedModel.

    Attributes:
        name: its name.
        function: the function.
        argument: name of its only argument; empty if it has another number of them.
        shape: shape of that argument.
        dtype: element type of that argument.
    """

    def __init__(self, name: str, function: Any) -> None:  # noqa: ANN401 - TensorFlow has no types
        self.name, self.function = name, function
        arguments = function.structured_input_signature[1]
        self.argument, self.shape, self.dtype = "", (), ""
        if len(arguments) == 1:
            ((self.argument, spec),) = arguments.items()
            self.dtype = spec.dtype.name
            self.shape = tuple(spec.shape) if spec.shape.rank is not None else ()

    @property
    def is_integer(self) -> bool:
        """Whether it takes whole numbers."""
        return "int" in self.dtype

    @property
    def takes_image(self) -> bool:
        """Whether it takes a tensor that may be an image."""
        numeric = self.dtype.startswith(("float", "bfloat", "int", "uint"))
        return bool(self.argument) and numeric and len(self.shape) in _RANKS

    def spell(self) -> str:
        """Return its name and what it takes."""
        arguments = self.function.structured_input_signature[1].values()
        taken = " and ".join(f"{spec.dtype.name} {list(spec.shape or [])}" for spec in arguments) or "nothing"
        return f"{printable(self.name)} takes {taken}"


def _choose(path: Path, signatures: dict[str, _Signature]) -> _Signature:
    """Return the signature for serving, if it takes an image, or the only one that does."""
    able = {name: one for name, one in signatures.items() if one.takes_image}
    if "serving_default" in able:
        return able["serving_default"]
    if not signatures:
        raise ModelError(f"{path}: nothing in it can be called; save it with model.export")
    if not able:
        spelled = "; ".join(one.spell() for one in signatures.values())
        raise ModelError(f"{path}: none of its signatures takes one image ({spelled}); save it with model.export")
    # Of several, images of rank four go first: the others may be features.
    return max(able.values(), key=lambda one: len(one.shape))
