"""The network of a trained model, for adapting that model."""

from __future__ import annotations

from fer_edge_train.architectures.base import Architecture
from fer_edge_train.recipe_sections import Share


class Pretrained(Architecture, frozen=True, kw_only=True, tag="pretrained"):
    """The network of the model that ``--weights`` names. `fer_edge_train.adaptation` loads it.

    Attributes:
        frozen: share of the layers with a kernel that keep their weights, counted from the image on. The output layer
            always learns. Batch normalization always keeps its statistics: few faces would give wrong ones.
    """

    frozen: Share = 0.5
