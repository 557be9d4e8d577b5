"""Names of expressions as datasets spell them, and the orders in which models give them.

Which labels a model has, and their order, is data on its card; these are only the
sets that the public datasets come with.
"""

from __future__ import annotations

from typing import Final

FER2013: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The seven classes of FER-2013 in the order of its numbers (Goodfellow et al. 2013, arXiv:1307.0414)."""

FERPLUS: Final = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
"""The eight classes of FER+ in the order of its columns (Barsoum et al. 2016, arXiv:1608.01041)."""

FERPLUS_COLUMNS: Final = (*FERPLUS, "unknown", "no face")
"""All that FER+'s annotators could choose."""

_ALIASES: Final = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}


def canonical(name: str) -> str:
    """One spelling for a label: lower case, and ``happy`` for ``happiness`` and the like."""
    folded = name.strip().lower()
    return _ALIASES.get(folded, folded)
