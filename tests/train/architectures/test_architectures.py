from __future__ import annotations

from typing import get_args

import pytest

from fer_edge_train.architectures import Network
from fer_edge_train.architectures.base import Architecture, Phase
from fer_edge_train.recipe_files import load_recipe


def test_every_architecture_has_its_own_kind() -> None:
    kinds = [kind.__struct_config__.tag for kind in get_args(Network)]
    assert kinds == ["residual", "plain", "transfer", "pretrained"]
    assert all(issubclass(kind, Architecture) for kind in get_args(Network))


def test_networks_without_frozen_part_train_in_one_phase() -> None:
    for name in ("edge", "cnn3"):
        assert load_recipe(name).network.phases(7) == [Phase(range(7))]


@pytest.mark.parametrize(
    ("frozen_epochs", "epochs", "phases"),
    [
        (3, 20, [Phase(range(3), frozen=True), Phase(range(3, 20), 0.1)]),
        (3, 2, [Phase(range(1), frozen=True), Phase(range(1, 2), 0.1)]),
        (3, 1, [Phase(range(1))]),
        (0, 5, [Phase(range(5))]),
    ],
)
def test_transfer_freezes_backbone_first(frozen_epochs: int, epochs: int, phases: list[Phase]) -> None:
    changes = [f"network.frozen_epochs={frozen_epochs}", "network.fine_tuning_factor=0.1"]
    network = load_recipe("transfer", changes).network
    assert network.phases(epochs) == phases
    assert network.takes_backbone_weights
