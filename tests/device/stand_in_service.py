"""The program that a deployed wheel brings in the tests: its own installer and bench, without systemd and a network.

It keeps to the command line and the layout of the real one, below ``DEPLOY_ROOT``.
"""

import json
import os
import stat
import sys
from pathlib import Path

VERSION = "9.9.0"


def main() -> None:
    root = Path(os.environ["DEPLOY_ROOT"])
    home, config = root / "opt/fer-edge", root / "etc/fer-edge/config.toml"
    words = sys.argv[1:]
    with (root / "log").open("a") as log:
        log.write(" ".join([VERSION, *words[:2]]) + "\n")
    if words == ["--version"]:
        sys.stdout.write(f"{VERSION}\n")
    elif words[:2] == ["service", "uninstall"]:
        (home / "current").unlink(missing_ok=True)
    elif words[0] == "service":
        assert Path(words[words.index("--from") + 1]).is_file()
        before = os.readlink(home / "current") if (home / "current").exists() else None  # noqa: PTH115 - as it is
        if words[1] == "upgrade" or before is None:
            put(home, str(len(list((home / "venvs").glob("*"))) + 1))
        if config.exists() and 'node = "broken"' in config.read_text():
            (home / "current").unlink()
            if before:
                (home / "current").symlink_to(before)
            sys.exit("fer-edge: fer-edge.service did not become ready; its last words: no camera found")
    elif words[:2] == ["bench", "--json"]:
        row = {"median": 1.25, "p95": 2.5}
        rows = dict.fromkeys(("classifier", "detect", "whole_frame"), row)
        json.dump({"machine": "A Pi", "runtime": "some 1.0", "model": words[2], **rows}, sys.stdout, indent=2)


def put(home: Path, name: str) -> None:
    program = home / "venvs" / name / "bin" / "fer-edge"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys._base_executable}\n{Path(__file__).read_text()}")  # type: ignore[attr-defined]
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (home / "current").unlink(missing_ok=True)
    (home / "current").symlink_to(f"venvs/{name}")


if __name__ == "__main__":
    main()
