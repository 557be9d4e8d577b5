"""The real ``remote_install`` on a scratch host, with fakes of systemd and pip only; see `tests.device.machines`."""

import os
import sys
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[3]))

from fer_edge_device.install import remote_install
from tests.device.machines import Pi

UNIT = "fer-edge.service"

pi = Pi(Path(os.environ["DEPLOY_ROOT"]))
pi.active.add(UNIT)
with patch.object(remote_install, "Host", lambda: pi.host):
    status = remote_install.main()
pi.reload(UNIT)
(pi.root / "status").write_text(pi.status[UNIT] + "\n")
sys.exit(status)
