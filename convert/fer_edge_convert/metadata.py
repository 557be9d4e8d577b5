"""The standard ``TFLITE_METADATA`` buffer, by which Netron and Android's libraries know labels and normalization.

Written by the published schema, metadata_schema.fbs of tflite-support: a table's fields are numbered in the order in
which it names them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import flatbuffers

from fer_edge.modelcard.archive import LABELS_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fer_edge.modelcard.schema import ClassifierCard, InputSpec

METADATA: Final = "TFLITE_METADATA"
_IDENTIFIER: Final = b"M001"
_IMAGE_PROPERTIES: Final = 2  # of the union ContentProperties
_FEATURE_PROPERTIES: Final = 1
_NORMALIZATION: Final = 1  # of the union ProcessUnitOptions
_AXIS_LABELS: Final = 2  # of the enumeration AssociatedFileType
_RGB, _GRAYSCALE = 1, 2  # of the enumeration ColorSpaceType


def metadata(card: ClassifierCard) -> bytes:
    """Return the content of the buffer for a model with this card.

    The labels are in the file that the card appends.
    """
    builder = flatbuffers.Builder(1024)
    spec = card.input
    colours = _table(builder, 2, {0: ("Int8", _RGB if spec.channels == 3 else _GRAYSCALE)})
    image = _tensor(
        builder,
        "face",
        f"A face cut out of an image, {spec.width} by {spec.height} pixels.",
        content=_table(builder, 3, {0: ("Uint8", _IMAGE_PROPERTIES), 1: colours}),
        **_pixel_fields(builder, spec),
    )
    file = _table(
        builder,
        5,
        {
            0: builder.CreateString(LABELS_NAME),
            1: builder.CreateString("What each score is of, in order."),
            2: ("Int8", _AXIS_LABELS),
        },
    )
    scores = _tensor(
        builder,
        "scores",
        "How likely each label is.",
        content=_table(builder, 3, {0: ("Uint8", _FEATURE_PROPERTIES), 1: _table(builder, 0, {})}),
        stats=_table(builder, 2, {0: _floats(builder, [1.0]), 1: _floats(builder, [0.0])}),
        files=_vector(builder, [file]),
    )
    graph = _table(builder, 10, {2: _vector(builder, [image]), 3: _vector(builder, [scores])})
    root = _table(
        builder,
        8,
        {
            0: builder.CreateString(card.name),
            1: builder.CreateString(card.note or "Facial-expression recognition."),
            3: _vector(builder, [graph]),
            7: builder.CreateString("1.0.0"),
        },
    )
    builder.Finish(root, _IDENTIFIER)
    return bytes(builder.Output())


def _pixel_fields(builder: flatbuffers.Builder, spec: InputSpec) -> dict[str, int]:
    """Write how pixels become the input; nothing if each image is standardized, for which the schema has no word."""
    if spec.per_image:
        return {}
    # A pixel becomes (pixel - mean) / std there, pixel * scale + offset here.
    mean, std = -spec.offset / spec.scale, 1 / spec.scale
    normalized = _table(builder, 2, {0: _floats(builder, [mean]), 1: _floats(builder, [std])})
    unit = _table(builder, 2, {0: ("Uint8", _NORMALIZATION), 1: normalized})
    black, white = spec.offset, 255 * spec.scale + spec.offset
    return {
        "units": _vector(builder, [unit]),
        "stats": _table(builder, 2, {0: _floats(builder, [white]), 1: _floats(builder, [black])}),
    }


def _tensor(
    builder: flatbuffers.Builder,
    name: str,
    description: str,
    *,
    content: int,
    stats: int | None = None,
    units: int | None = None,
    files: int | None = None,
) -> int:
    fields: dict[int, int | tuple[str, int]] = {
        0: builder.CreateString(name),
        1: builder.CreateString(description),
        3: content,
    }
    if stats is not None:
        fields[5] = stats
    if units is not None:
        fields[4] = units
    if files is not None:
        fields[6] = files
    return _table(builder, 7, fields)


def _table(builder: flatbuffers.Builder, fields: int, values: dict[int, int | tuple[str, int]]) -> int:
    """Write a table and return its place.

    Args:
        builder: the buffer.
        fields: number of fields of the table.
        values: for each slot a type and a number, or the place of an object that was written before.
    """
    builder.StartObject(fields)
    for slot, value in values.items():
        if isinstance(value, tuple):
            kind, number = value
            add: Callable[[int, int, int], None] = getattr(builder, f"Prepend{kind}Slot")
            add(slot, number, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return int(builder.EndObject())


def _vector(builder: flatbuffers.Builder, places: Sequence[int]) -> int:
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return int(builder.EndVector())


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())
