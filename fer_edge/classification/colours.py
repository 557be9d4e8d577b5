"""The colour of each emotion in drawings and charts."""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

from fer_edge.classification.labels import canonical_label
from fer_edge.quality import UNCLEAR


class Colour(NamedTuple):
    """A colour; each component is 0..255."""

    red: int
    green: int
    blue: int

    @property
    def is_dark(self) -> bool:
        """Whether white text is easier to read on this colour than black text."""
        return sum(self) < 400

    @property
    def css(self) -> str:
        """The colour for a page, such as ``#0072b2``."""
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}"


# The palette of Okabe & Ito (2008, https://jfly.uni-koeln.de/color/): readable on dark and on light, and most
# colour-blind people can tell its colours apart.
_COLOURS: Final = {
    "angry": Colour(213, 94, 0),
    "disgust": Colour(240, 228, 66),
    "fear": Colour(204, 121, 167),
    "happy": Colour(0, 158, 115),
    "sad": Colour(0, 114, 178),
    "surprise": Colour(230, 159, 0),
    "neutral": Colour(86, 180, 233),
    "contempt": Colour(128, 128, 128),
    "confused": Colour(160, 120, 80),
    UNCLEAR: Colour(160, 160, 160),
}


def emotion_colour(label: str) -> Colour:
    """Return the colour of an emotion. A label that has none of its own always shares the same one."""
    name = canonical_label(label)
    return _COLOURS.get(name) or list(_COLOURS.values())[zlib.crc32(name.encode()) % len(_COLOURS)]
