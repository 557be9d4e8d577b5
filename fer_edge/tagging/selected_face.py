"""A face that is worth a person's review, with what is known of it."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from fer_edge.classification.selection import Reason

GROUP_CHARACTERS: Final = 200
_Text = Annotated[str, msgspec.Meta(max_length=GROUP_CHARACTERS)]
_Label = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
_Score = Annotated[float, msgspec.Meta(ge=0, le=1)]


class SelectedFace(msgspec.Struct, frozen=True, kw_only=True):
    """A face that was selected for review.

    Attributes:
        schema: version of this structure.
        png: the crop, a grey PNG.
        time: when it was seen, in seconds since 1970; None if that is not known.
        node: name of the node that saw it; empty for an image of a study.
        model: name of the model.
        emotion: the emotion with the highest score.
        scores: score of each emotion, 0..1.
        reason: why it was selected.
        group: whatever keeps faces of one person or occasion together, such as a track or a file.
    """

    schema: int = 1
    png: Annotated[bytes, msgspec.Meta(max_length=100_000)]
    time: Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)] | None
    node: _Text
    model: _Text
    emotion: _Label
    scores: Annotated[dict[_Label, _Score], msgspec.Meta(max_length=1000)]
    reason: Reason
    group: _Text
