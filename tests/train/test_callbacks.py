from __future__ import annotations

import json
import os
import subprocess
import sys

# Keras is not imported here: it brings TensorFlow's warnings, and warnings are errors.
_CODE = """if True:
    import json
    from fer_edge_train.callbacks import History, plateau_factor, saved, scores, stopped
    from fer_edge_train.recipe import Schedule

    class Rows:
        def __init__(self, losses): self.rows = [{"val_loss": loss} for loss in losses]
        losses = History.losses

    patient = Schedule(epochs=50, plateau_epochs=2, plateau_factor=0.5, stop_epochs=3)
    falling, stuck = [3, 2, 1], [3, 2, 2, 2, 2.5, 2, 1.9, 2]
    print(json.dumps({
        "factors": [plateau_factor(stuck[:n], patient) for n in range(9)],
        "falling": plateau_factor(falling, patient),
        "stops": [stopped(Rows(stuck[:n]), patient, 0) for n in range(6)],
        "stops_later": [stopped(Rows([1, 1, 1, 5, 6, 6, 6][:n]), patient, 3) for n in range(8)],
        "saved": [epoch + 1 for epoch in range(10) if saved(epoch, 4, 10)],
        "each": all(saved(epoch, 1, 10) for epoch in range(10)),
        "never": stopped(Rows([1] * 40), Schedule(epochs=50), 0),
        "scores": [scores({"loss": 3, "logits_loss": 1, "val_logits_accuracy": 0.5, "auxiliary_loss": 2}),
                   scores({"loss": 3, "accuracy": 0.1, "val_loss": 2}), scores(None)],
    }))
"""


def test_plateau_and_early_stop_follow_from_the_losses_alone() -> None:
    light = {**os.environ, "KERAS_BACKEND": "numpy"}
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True, env=light)
    found = json.loads(done.stdout)
    # Losses 3, 2, 2, 2: after two epochs without a lower one the rate is halved; then the count begins anew.
    assert found["factors"] == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert found["falling"] == 1
    assert found["stops"] == [False, False, False, False, False, True]
    assert found["stops_later"] == [False] * 7 + [True], "a stage before does not count"
    assert found["saved"] == [4, 8, 10], "the last, too"
    assert found["each"]
    assert not found["never"]
    assert found["scores"] == [
        {"loss": 1, "val_accuracy": 0.5},
        {"loss": 3, "accuracy": 0.1, "val_loss": 2},
        {},
    ]
