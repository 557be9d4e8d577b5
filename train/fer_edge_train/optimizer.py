"""How weights change: the optimizers and rates that recipes name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def make_optimizer(how: Optimizer, rate: Rate) -> optimizers.Optimizer:
    """The optimizer that a recipe names."""
    match how.kind:
        case "adamw":
            optimizer = optimizers.AdamW(rate, weight_decay=how.weight_decay)
        case "adam":
            optimizer = optimizers.Adam(rate, weight_decay=how.weight_decay or None)
        case "sgd":
            optimizer = optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=how.weight_decay or None)
    # Decaying these would only fight batch normalisation.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
