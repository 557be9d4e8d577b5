from __future__ import annotations

import grp
from dataclasses import replace

from fer_edge_device.doctor.video_group import group_finding
from tests.device.doctor.helpers import SERVICE

VIDEO = grp.struct_group(("video", "x", 44, ["ada"]))


def test_checks_the_groups_of_the_user_and_of_the_service() -> None:
    outside = replace(SERVICE, groups=())
    assert group_finding(VIDEO, "ada", [1000, 44], []).level == "ok"
    assert "log out" in group_finding(VIDEO, "ada", [1000], []).advice
    assert "usermod -aG video bob" in group_finding(VIDEO, "bob", [1001], []).advice
    assert group_finding(VIDEO, "bob", [1001], [SERVICE]).level == "ok"
    assert "SupplementaryGroups=video" in group_finding(VIDEO, "bob", [1001], [outside]).advice
