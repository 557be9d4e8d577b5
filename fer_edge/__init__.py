"""Facial-expression recognition for a Raspberry Pi.

    import fer_edge

    recognizer = fer_edge.load("edge")
    for face in recognizer("photo.jpg"):
        print(face.emotion, face.score, face.box)

The names in ``__all__`` are the public API. Each is imported when it is first used, so that importing this package
takes hardly any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fer_edge.api import load, tag, watch
    from fer_edge.drawing import annotate
    from fer_edge.errors import (
        DataError,
        FerEdgeError,
        InputError,
        MissingExtraError,
        ModelError,
        SourceError,
        SourceLostError,
    )
    from fer_edge.expression import Expression
    from fer_edge.geometry import Box, Face, Landmarks
    from fer_edge.modelcard.schema import ClassifierCard
    from fer_edge.quality import FaceQuality
    from fer_edge.recognition import Recognition
    from fer_edge.recognizer import Recognizer
    from fer_edge_device.messages import Event

    __version__: str

__all__ = [
    "Box",
    "ClassifierCard",
    "DataError",
    "Event",
    "Expression",
    "Face",
    "FaceQuality",
    "FerEdgeError",
    "InputError",
    "Landmarks",
    "MissingExtraError",
    "ModelError",
    "Recognition",
    "Recognizer",
    "SourceError",
    "SourceLostError",
    "__version__",
    "annotate",
    "load",
    "tag",
    "watch",
]

if not TYPE_CHECKING:  # else a type checker would take every misspelt name for one of these

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "__version__":
            from importlib.metadata import version

            value = version("fer-edge")
        else:
            from importlib import import_module

            from fer_edge.utils.opencv_defaults import set_opencv_defaults

            set_opencv_defaults()  # before anything imports cv2
            modules = {
                "Box": "fer_edge.geometry",
                "ClassifierCard": "fer_edge.modelcard.schema",
                "Event": "fer_edge_device.messages",
                "Expression": "fer_edge.expression",
                "Face": "fer_edge.geometry",
                "FaceQuality": "fer_edge.quality",
                "Landmarks": "fer_edge.geometry",
                "Recognition": "fer_edge.recognition",
                "Recognizer": "fer_edge.recognizer",
                "annotate": "fer_edge.drawing",
            }
            module = "fer_edge.errors" if name.endswith("Error") else modules.get(name, "fer_edge.api")
            value = getattr(import_module(module), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """List the public names, also those that nobody has used yet."""
        return sorted({*globals(), *__all__})
