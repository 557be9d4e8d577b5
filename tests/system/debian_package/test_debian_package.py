"""Install, upgrade, break and purge the Debian package in fresh containers without a network: ``make test-deb``.

The packages are built from this clone, with a later version and one that does not become ready.
"""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

import pytest

from tests.system.arm64.guest import step_names
from tests.system.arm64.image import SUITES
from tests.system.containers import Container, debian_tree, require_containers
from tests.system.debian_package.packages import ARCHITECTURES, build_packages
from tests.system.debian_package.steps import PackageSteps

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000), pytest.mark.xdist_group("container")]


def test_installs_runs_upgrades_rolls_back_and_is_purged(tmp_path: Path) -> None:
    if "FER_EDGE_TEST_DEB" not in os.environ:
        pytest.skip("make test-deb tests the Debian package")
    require_containers()
    release = int(os.environ["FER_EDGE_TEST_DEB"])
    folder = tmp_path / "packages"
    folder.mkdir()  # readable for the service, as a folder of pytest is not
    packages = build_packages(release, ARCHITECTURES[platform.machine()], folder)
    with Container(debian_tree(SUITES[release]), tmp_path, {"/srv/debs": folder}) as container:
        steps = PackageSteps(container, "/srv/debs", packages)
        for name in step_names(PackageSteps):
            getattr(steps, name)()
