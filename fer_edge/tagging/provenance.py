"""Find out what makes a table."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.errors import printable
from fer_edge.tagging.output.columns import Provenance

if TYPE_CHECKING:
    from pathlib import Path


def read_provenance(model: Path) -> Provenance:
    """Return the provenance of tables that a model makes.

    Raises:
        ModelError: the model cannot be loaded.
    """
    classifier = TFLiteClassifier(model)
    return Provenance(
        labels=classifier.card.labels,
        model=printable(classifier.card.name),
        model_sha256=classifier.sha256,
        version=importlib.metadata.version("fer-edge"),
    )
