"""How weights change: the optimizers and rates that recipes name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import optimizers

if TYPE_CHECKING:
    from fer_edge_train.recipe import Optimizer

Rate = Any  # a float, or what Keras has of one that changes


def cosine(peak: float, steps: int, warmup: int) -> Rate:
    """A rate that rises to ``peak`` in ``warmup`` steps, and falls to zero by ``steps`` as a cosine."""
    return optimizers.schedules.CosineDecay(
        peak / 20 if warmup else peak,
        max(steps - warmup, 1),
        warmup_target=peak if warmup else None,
        warmup_steps=warmup,
    )


class _Sparing:
    """Decays no biases nor batch normalisation, also when a checkpoint brings it back: Keras saves no exclusions."""

    def __init__(self, *options: Any, **others: Any) -> None:  # noqa: ANN401 - each optimizer's own
        super().__init__(*options, **others)
        # Decaying these would only fight batch normalisation.
        self.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])  # type: ignore[attr-defined]


@keras.saving.register_keras_serializable("fer_edge")
class AdamW(_Sparing, optimizers.AdamW):
    """Keras's, but for what it decays."""


@keras.saving.register_keras_serializable("fer_edge")
class Adam(_Sparing, optimizers.Adam):
    """Keras's, but for what it decays."""


@keras.saving.register_keras_serializable("fer_edge")
class SGD(_Sparing, optimizers.SGD):
    """Keras's, but for what it decays."""


def make_optimizer(how: Optimizer, rate: Rate) -> optimizers.Optimizer:
    """The optimizer that a recipe names; it decays neither biases nor batch normalisation."""
    match how.kind:
        case "adamw":
            return AdamW(rate, weight_decay=how.weight_decay)
        case "adam":
            return Adam(rate, weight_decay=how.weight_decay or None)
        case "sgd":
            return SGD(rate, momentum=0.9, nesterov=True, weight_decay=how.weight_decay or None)
