"""XMP sidecars: keywords and face regions that photo managers read, in a file beside the image.

The properties are Dublin Core's ``subject`` and the regions of the Metadata Working Group's Guidelines 2.0.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from fer_edge.errors import InputError, printable
from fer_edge.utils.atomic_file import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge.expression import Expression
    from fer_edge.geometry import Box
    from fer_edge.tagging.input.image_decode import Still

_SPACES: Final = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "stArea": "http://ns.adobe.com/xmp/sType/Area#",
    "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
}
_TOOLKIT: Final = "fer-edge"
_LOOKED_AT: Final = 1 << 16  # bytes of a sidecar in which its maker is named

for _prefix, _space in _SPACES.items():
    ET.register_namespace(_prefix, _space)


def inner_path(path: str) -> Path:
    """Where, within a folder of results, what belongs to an image goes: as in its own path, but never outside."""
    parts = PurePosixPath(path.replace("://", "/")).parts
    return Path(*(part for part in parts if part not in {"/", "//", "..", "."}))


def write(path: Path, still: Still, faces: Sequence[Expression]) -> None:
    """Write a sidecar; one of an earlier run is replaced.

    Args:
        path: the sidecar.
        still: the image that it belongs to.
        faces: what was found in it, in pixels of the upright image.

    Raises:
        InputError: there is a sidecar of another program, or the place cannot be written to.
    """
    if path.exists():
        with path.open("rb") as file:
            if f'xmptk="{_TOOLKIT} '.encode() not in file.read(_LOOKED_AT):
                raise InputError(
                    f"{printable(str(path))}: a sidecar of another program, left as it is; give --sidecar-dir"
                )
    with replacing(path) as temporary:
        temporary.write_bytes(_packet(still, faces))


def _packet(still: Still, faces: Sequence[Expression]) -> bytes:
    meta = ET.Element(_name("x:xmpmeta"), {_name("x:xmptk"): f"{_TOOLKIT} {importlib.metadata.version('fer-edge')}"})
    about = ET.SubElement(ET.SubElement(meta, _name("rdf:RDF")), _name("rdf:Description"), {_name("rdf:about"): ""})
    keywords = ET.SubElement(ET.SubElement(about, _name("dc:subject")), _name("rdf:Bag"))
    for emotion in dict.fromkeys(face.emotion for face in faces):
        ET.SubElement(keywords, _name("rdf:li")).text = emotion
    regions = ET.SubElement(about, _name("mwg-rs:Regions"), {_name("rdf:parseType"): "Resource"})
    turned = still.orientation >= 5
    columns, rows = (still.rows, still.columns) if turned else (still.columns, still.rows)
    size = {"stDim:w": str(columns), "stDim:h": str(rows), "stDim:unit": "pixel"}
    ET.SubElement(regions, _name("mwg-rs:AppliedToDimensions"), _named(size))
    listed = ET.SubElement(ET.SubElement(regions, _name("mwg-rs:RegionList")), _name("rdf:Bag"))
    for face in faces:
        region = {"mwg-rs:Type": "Face", "mwg-rs:Description": f"{face.emotion} {face.score:.0%}"}
        item = ET.SubElement(ET.SubElement(listed, _name("rdf:li")), _name("rdf:Description"), _named(region))
        x, y, width, height = _stored(face.box, still)
        area = {"stArea:x": x, "stArea:y": y, "stArea:w": width, "stArea:h": height}
        numbers = {key: f"{value:.6f}" for key, value in area.items()}
        ET.SubElement(item, _name("mwg-rs:Area"), _named({**numbers, "stArea:unit": "normalized"}))
    ET.indent(meta)
    text = ET.tostring(meta, encoding="unicode")
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{text}\n<?xpacket end="w"?>\n'.encode()


def _stored(box: Box, still: Still) -> tuple[float, float, float, float]:
    """Middle and size of a box, 0..1 of the image as it is stored: regions are, before EXIF turns it upright."""
    x, y = (box.x + box.width / 2) / still.columns, (box.y + box.height / 2) / still.rows
    width, height = box.width / still.columns, box.height / still.rows
    x, y = {
        1: (x, y),
        2: (1 - x, y),
        3: (1 - x, 1 - y),
        4: (x, 1 - y),
        5: (y, x),
        6: (y, 1 - x),
        7: (1 - y, 1 - x),
        8: (1 - y, x),
    }[still.orientation]
    return (x, y, height, width) if still.orientation >= 5 else (x, y, width, height)


def _name(prefixed: str) -> str:
    prefix, _, name = prefixed.partition(":")
    return f"{{{_SPACES[prefix]}}}{name}"


def _named(attributes: dict[str, str]) -> dict[str, str]:
    return {_name(key): value for key, value in attributes.items()}
