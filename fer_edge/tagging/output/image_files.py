"""Write what belongs to one image: an annotated copy, and a sidecar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from fer_edge.errors import FerEdgeError, InputError, printable
from fer_edge.tagging.input import remote
from fer_edge.tagging.output import xmp
from fer_edge.utils.atomic_file import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from fer_edge.expression import Expression
    from fer_edge.tagging.input.image_decode import StoredImage
    from fer_edge.tagging.input.source import Source


def save_copy(image: npt.NDArray[np.uint8], path: Path, original: str) -> str:
    """Save an annotated copy, but never over the original image.

    Args:
        image: the copy, BGR, uint8 of shape (rows, columns, 3).
        path: where to save it; an ending other than ``.jpg`` and ``.png`` gets ``.jpg`` appended.
        original: path or address of the original.

    Returns:
        What went wrong; empty if the copy was saved.
    """
    ending = path.suffix.lower() if path.suffix.lower() in {".jpg", ".jpeg", ".png"} else ".jpg"
    path = path if path.suffix.lower() == ending else path.with_name(path.name + ending)
    try:
        if path.exists() and Path(original).exists() and path.samefile(original):
            raise InputError(f"{path}: is the image itself; annotate into a folder of its own")
        with replacing(path) as temporary:
            temporary.write_bytes(cv2.imencode(ending, image)[1].tobytes())
    except (FerEdgeError, OSError) as error:
        return _explain(path, error)
    return ""


def save_sidecar(source: Source, image: StoredImage, faces: Sequence[Expression], folder: str | None) -> str:
    """Write the XMP sidecar of an image.

    Args:
        source: the image.
        image: the decoded image.
        faces: the faces in it.
        folder: folder for sidecars; None for beside the image.

    Returns:
        What went wrong; empty if the sidecar was written.
    """
    if folder:
        path = Path(folder) / xmp.relative_path(source.path)
    elif source.kind == "member" or remote.is_address(source.uri):
        return f"{printable(source.path)}: no sidecar can lie beside it; give --sidecar-dir"
    else:
        path = Path(source.uri)
    path = path.with_name(f"{path.name}.xmp")
    try:
        xmp.write_sidecar(path, image, faces)
    except (FerEdgeError, OSError) as error:
        return _explain(path, error)
    return ""


def _explain(path: Path, error: FerEdgeError | OSError) -> str:
    return printable(f"{path}: cannot be written ({error.strerror})" if isinstance(error, OSError) else str(error))
