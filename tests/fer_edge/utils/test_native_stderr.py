from __future__ import annotations

import subprocess
import sys

CODE = """if True:
    import os, sys
    from fer_edge.utils.native_stderr import hide_native_stderr
    with hide_native_stderr():
        os.write(2, b"native, outer\\n")
        with hide_native_stderr():
            os.write(2, b"native, inner\\n")
            print("python, inner", file=sys.stderr)
        os.write(2, b"native, outer again\\n")
        print("python, outer", file=sys.stderr)
    os.write(2, b"native, after\\n")
"""


def test_hides_only_native_messages() -> None:
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert result.stderr.splitlines() == ["python, inner", "python, outer", "native, after"]
