"""A fake of ``remote_install`` for the tests of deploy: it prints the same lines and keeps the files that it gets.

Afterwards, version 9.9.0 is installed, and the runner says which model it runs.
"""

import json
import os
import shutil
import sys
from pathlib import Path

folder, root = Path(sys.argv[1]), Path(os.environ["DEPLOY_ROOT"])
sys.stdout.write("fer-edge-deploy step start it\n")
for path in folder.iterdir():
    if path.is_file():
        shutil.copy(path, root)
if (root / "is broken").exists():
    sys.stdout.write("fer-edge-deploy undo undo: start it\nno camera found\n")
    sys.exit(1)
row = {"median": 1.25, "p95": 2.5}
rows = dict.fromkeys(("classifier", "detect", "whole_frame"), row)
figures = {"machine": "A Pi", "runtime": "some 1.0", "model": "edge", **rows}
installed = root / "opt/fer-edge/current/lib/python3.11/site-packages/fer_edge-9.9.0.dist-info"
installed.mkdir(parents=True, exist_ok=True)
manifest = json.loads((folder / "manifest.json").read_text())
model = "edge-81c3f00a" if manifest["model_back"] else Path(manifest["model"] or "edge-81c3f00a").stem
(root / "status").write_text(f"9.9 frames per second, 0 events waiting to be sent; model {model}\n")
sys.stdout.write(f"fer-edge-deploy done {json.dumps(figures)}\n")
