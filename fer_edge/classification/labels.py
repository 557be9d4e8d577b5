"""Names of expressions in the public datasets.

The labels of a model, and their order, are data on its card. This module only holds the label sets of the public
datasets and a common spelling.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

FER2013: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The seven classes of FER-2013 in the order of its numbers (Goodfellow et al. 2013, arXiv:1307.0414)."""

FERPLUS: Final = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
"""The eight classes of FER+ in the order of its columns (Barsoum et al. 2016, arXiv:1608.01041)."""

FERPLUS_COLUMNS: Final = (*FERPLUS, "unknown", "no face")
"""All choices of FER+'s annotators."""

RAFDB: Final = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
"""The seven classes of RAF-DB in the order of its numbers (Li et al. 2017, CVPR)."""

AFFECTNET: Final = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")
"""The eight expressions of AffectNet in the order of its numbers (Mollahosseini et al. 2017, arXiv:1708.03985)."""

EXPW: Final = FER2013
"""The seven classes of ExpW in the order of its numbers (Zhang et al. 2018, arXiv:1609.06426)."""

_ALIASES: Final = {
    "afraid": "fear",
    "anger": "angry",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "scared": "fear",
    "suprise": "surprise",
    "surprised": "surprise",
}
_NEGATIVE: Final = {"angry", "contempt", "disgust", "fear", "sad"}


def canonical_label(name: str) -> str:
    """Return the common spelling of a label: lower case, and ``happy`` for ``happiness`` and similar synonyms."""
    folded = name.strip().lower()
    return _ALIASES.get(folded, folded)


def propose_label_map(unknown: Sequence[str], labels: Sequence[str]) -> str:
    """Return a label map for data with labels that a model does not have, as one line of TOML.

    Args:
        unknown: labels of the data.
        labels: labels of the model.
    """
    by_canonical = {canonical_label(label): label for label in labels}
    lines = []
    for label in unknown:
        group = "negative" if label in _NEGATIVE else "positive" if label == "happy" else ""
        key = label if re.fullmatch(r"[A-Za-z0-9_-]+", label) else json.dumps(label)
        lines.append(f"{key} = {json.dumps(by_canonical.get(group, ''))}")
    return f"all = {{{', '.join(lines)}}}"
