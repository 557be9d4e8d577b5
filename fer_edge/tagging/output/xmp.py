"""Write XMP sidecars: files beside images with keywords and face regions for photo managers.

The properties are Dublin Core's ``subject`` and the regions of the Metadata Working Group's Guidelines 2.0.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from fer_edge.errors import InputError, printable
from fer_edge.quality import UNCLEAR
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.bounded_file import open_regular

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge.expression import Expression
    from fer_edge.geometry import Box
    from fer_edge.tagging.input.image_decode import StoredImage

_NAMESPACES: Final = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "stArea": "http://ns.adobe.com/xmp/sType/Area#",
    "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
}
_TOOLKIT: Final = "fer-edge"
_HEAD_BYTES: Final = 1 << 16  # of a sidecar, in which its toolkit is named

for _prefix, _namespace in _NAMESPACES.items():
    ET.register_namespace(_prefix, _namespace)


def relative_path(path: str) -> Path:
    """Return where the results for an image go within a folder of results: the image's own path, never outside."""
    parts = PurePosixPath(path.replace("://", "/")).parts
    return Path(*(part for part in parts if part not in {"/", "//", "..", "."}))


def write_sidecar(path: Path, image: StoredImage, faces: Sequence[Expression]) -> None:
    """Write a sidecar; it replaces one of an earlier run.

    Args:
        path: the sidecar.
        image: the image that the sidecar belongs to.
        faces: the faces in the image, with boxes in pixels of the upright image.

    Raises:
        InputError: there is a sidecar of another program, or the sidecar cannot be written.
    """
    if path.exists():
        with open_regular(path) as file:
            if f'xmptk="{_TOOLKIT} '.encode() not in file.read(_HEAD_BYTES):
                raise InputError(
                    f"{printable(str(path))}: a sidecar of another program, left as it is; give --sidecar-dir"
                )
    with replacing(path) as temporary:
        temporary.write_bytes(_make_packet(image, faces))


def _make_packet(image: StoredImage, faces: Sequence[Expression]) -> bytes:
    version = importlib.metadata.version("fer-edge")
    meta = ET.Element(_qualify("x:xmpmeta"), {_qualify("x:xmptk"): f"{_TOOLKIT} {version}"})
    rdf = ET.SubElement(meta, _qualify("rdf:RDF"))
    about = ET.SubElement(rdf, _qualify("rdf:Description"), {_qualify("rdf:about"): ""})
    keywords = ET.SubElement(ET.SubElement(about, _qualify("dc:subject")), _qualify("rdf:Bag"))
    for emotion in dict.fromkeys(face.emotion for face in faces if face.reliable):
        ET.SubElement(keywords, _qualify("rdf:li")).text = emotion
    regions = ET.SubElement(about, _qualify("mwg-rs:Regions"), {_qualify("rdf:parseType"): "Resource"})
    size = {"stDim:w": str(image.columns), "stDim:h": str(image.rows), "stDim:unit": "pixel"}
    ET.SubElement(regions, _qualify("mwg-rs:AppliedToDimensions"), _qualify_all(size))
    region_list = ET.SubElement(ET.SubElement(regions, _qualify("mwg-rs:RegionList")), _qualify("rdf:Bag"))
    for face in faces:
        description = f"{face.emotion} {face.score:.0%}" if face.reliable else UNCLEAR
        region = {"mwg-rs:Type": "Face", "mwg-rs:Description": description}
        item = ET.SubElement(
            ET.SubElement(region_list, _qualify("rdf:li")), _qualify("rdf:Description"), _qualify_all(region)
        )
        x, y, width, height = _to_stored(face.box, image.columns, image.rows, image.orientation)
        area = {"stArea:x": x, "stArea:y": y, "stArea:w": width, "stArea:h": height}
        numbers = {key: f"{value:.6f}" for key, value in area.items()}
        ET.SubElement(item, _qualify("mwg-rs:Area"), _qualify_all({**numbers, "stArea:unit": "normalized"}))
    ET.indent(meta)
    text = ET.tostring(meta, encoding="unicode")
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{text}\n<?xpacket end="w"?>\n'.encode()


def _to_stored(box: Box, columns: int, rows: int, orientation: int) -> tuple[float, float, float, float]:
    """Convert a box of the upright image to the image as it is stored, which regions refer to.

    Args:
        box: the box, in pixels of the upright image.
        columns: width of the stored image.
        rows: height of the stored image.
        orientation: EXIF orientation, 1..8.

    Returns:
        Centre x, centre y, width and height, 0..1 of the stored image.
    """
    if orientation >= 5:  # turned by a quarter
        columns, rows = rows, columns
    x, y = (box.x + box.width / 2) / columns, (box.y + box.height / 2) / rows
    width, height = box.width / columns, box.height / rows
    x, y = {
        1: (x, y),
        2: (1 - x, y),
        3: (1 - x, 1 - y),
        4: (x, 1 - y),
        5: (y, x),
        6: (y, 1 - x),
        7: (1 - y, 1 - x),
        8: (1 - y, x),
    }[orientation]
    return (x, y, height, width) if orientation >= 5 else (x, y, width, height)


def _qualify(name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"{{{_NAMESPACES[prefix]}}}{local}"


def _qualify_all(attributes: dict[str, str]) -> dict[str, str]:
    return {_qualify(name): value for name, value in attributes.items()}
