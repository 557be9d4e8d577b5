"""Install the service in a container; `benchmarks/memory.py` runs this within a limit of memory."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.system.containers import Container, debian_tree, wait_for


def main() -> None:
    """Boot, install, and wait until the service watches the demo."""
    folder = Path(sys.argv[1])
    mounts = {f"/srv/{name}": folder / name for name in ("own", "wheels", "site")}
    with Container(debian_tree(), folder, mounts) as container:
        (wheel,) = container.run("sh", "-c", "ls /srv/own/*.whl").stdout.split()
        container.run(
            *("python3", "-B", "-m", "fer_edge.cli", "service", "install", "--from", wheel, "--camera", "demo"),
            PYTHONPATH="/srv/site",
            PIP_NO_INDEX="1",
            PIP_FIND_LINKS="/srv/wheels",
        )
        wait_for(lambda: container.run("systemctl", "is-active", "fer-edge", check=False).stdout.strip() == "active")
    print("the service is installed and active")


if __name__ == "__main__":
    main()
