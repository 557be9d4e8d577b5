"""A fake of ``remote_install`` for the tests of deploy: it prints the same lines and keeps the files that it gets."""

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
sys.stdout.write(f"fer-edge-deploy version 9.9.0\nfer-edge-deploy done {json.dumps(figures)}\n")
