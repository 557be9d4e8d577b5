from __future__ import annotations

import json
import os
import subprocess
import sys

# Keras is not imported here: it brings TensorFlow's warnings, and warnings are errors.
_CODE = """if True:
    import json
    from fer_edge_train.callbacks import has_stopped, plateau_factor
    from fer_edge_train.checkpoints import is_checkpoint_epoch
    from fer_edge_train.history import History, select_scores
    from fer_edge_train.recipe_sections import Schedule

    class Rows:
        def __init__(self, losses): self.rows = [{"val_loss": loss} for loss in losses]
        losses = History.losses

    schedule = Schedule(epochs=50, plateau_epochs=2, plateau_factor=0.5, stop_epochs=3)
    fourth = Schedule(epochs=10, checkpoint_epochs=4)
    falling, stuck = [3, 2, 1], [3, 2, 2, 2, 2.5, 2, 1.9, 2]
    print(json.dumps({
        "factors": [plateau_factor(stuck[:n], schedule) for n in range(9)],
        "falling": plateau_factor(falling, schedule),
        "stops": [has_stopped(Rows(stuck[:n]), schedule, 0) for n in range(6)],
        "stops_later": [has_stopped(Rows([1, 1, 1, 5, 6, 6, 6][:n]), schedule, 3) for n in range(8)],
        "saved": [epoch + 1 for epoch in range(10) if is_checkpoint_epoch(epoch, fourth)],
        "each": all(is_checkpoint_epoch(epoch, Schedule(epochs=10)) for epoch in range(10)),
        "never": has_stopped(Rows([1] * 40), Schedule(epochs=50), 0),
        "scores": [select_scores({"loss": 3, "logits_loss": 1, "val_logits_accuracy": 0.5, "auxiliary_loss": 2}),
                   select_scores({"loss": 3, "accuracy": 0.1, "val_loss": 2}), select_scores(None)],
    }))
"""


def test_plateau_and_early_stopping_depend_only_on_losses() -> None:
    light = {**os.environ, "KERAS_BACKEND": "numpy"}
    result = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True, env=light)
    outcome = json.loads(result.stdout)
    # Losses 3, 2, 2, 2: after two epochs without a lower one the rate is halved; then the count starts again.
    assert outcome["factors"] == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert outcome["falling"] == 1
    assert outcome["stops"] == [False, False, False, False, False, True]
    assert outcome["stops_later"] == [False] * 7 + [True], "an earlier stage does not count"
    assert outcome["saved"] == [4, 8, 10], "and the last"
    assert outcome["each"]
    assert not outcome["never"]
    assert outcome["scores"] == [
        {"loss": 1, "val_accuracy": 0.5},
        {"loss": 3, "accuracy": 0.1, "val_loss": 2},
        {},
    ]
