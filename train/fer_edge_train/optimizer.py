"""The optimizers and learning rates that recipes name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import optimizers

if TYPE_CHECKING:
    from fer_edge_train.recipe_sections import Optimizer, Schedule

Rate = Any  # a float, or a Keras schedule


def make_rate(schedule: Schedule, peak: float, epochs: int, steps: int) -> Rate:
    """Make the learning rate of a run or of a phase of one.

    Args:
        schedule: the kind of rate and its warmup.
        peak: highest learning rate.
        epochs: number of epochs.
        steps: training steps in an epoch.
    """
    if schedule.rate != "cosine":
        return peak  # constant, or reduced by a callback
    return cosine(peak, epochs * steps, round(schedule.warmup(epochs) * steps))


def cosine(peak: float, steps: int, warmup: int) -> Rate:
    """Make a rate that rises to ``peak`` in ``warmup`` steps and then falls to zero by step ``steps`` as a cosine."""
    return optimizers.schedules.CosineDecay(
        peak / 20 if warmup else peak,
        max(steps - warmup, 1),
        warmup_target=peak if warmup else None,
        warmup_steps=warmup,
    )


class _SelectiveDecay:
    """Excludes biases and batch normalization from weight decay.

    A subclass can be loaded from a checkpoint with its exclusions, which Keras does not save.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - those of each optimizer
        super().__init__(*args, **kwargs)
        # Decay of these would only work against batch normalization.
        self.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])  # type: ignore[attr-defined]


@keras.saving.register_keras_serializable("fer_edge")
class AdamW(_SelectiveDecay, optimizers.AdamW):
    """Keras's AdamW with selective weight decay."""


@keras.saving.register_keras_serializable("fer_edge")
class Adam(_SelectiveDecay, optimizers.Adam):
    """Keras's Adam with selective weight decay."""


@keras.saving.register_keras_serializable("fer_edge")
class SGD(_SelectiveDecay, optimizers.SGD):
    """Keras's SGD with selective weight decay."""


def make_optimizer(options: Optimizer, rate: Rate) -> optimizers.Optimizer:
    """Make the optimizer that a recipe names. It decays neither biases nor batch normalization."""
    match options.kind:
        case "adamw":
            return AdamW(rate, weight_decay=options.weight_decay)
        case "adam":
            return Adam(rate, weight_decay=options.weight_decay or None)
        case "sgd":
            return SGD(rate, momentum=0.9, nesterov=True, weight_decay=options.weight_decay or None)
