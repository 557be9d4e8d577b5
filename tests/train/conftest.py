"""Run commands in a fork with TensorFlow loaded, because loading it takes longer than most tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Cli


@pytest.fixture(scope="session")
def cli(warm_cli: Cli) -> Cli:
    return warm_cli
