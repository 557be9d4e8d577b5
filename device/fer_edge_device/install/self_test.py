"""Check a classifier on this machine: it must give the outputs on its card.

``python -m fer_edge_device.install.self_test MODEL`` prints one line and ends with status 1 if it does not.
"""

from __future__ import annotations

import sys

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.errors import FerEdgeError, one_line


def main() -> int:
    """Check the model that is the only argument, and return the exit status."""
    try:
        TFLiteClassifier(sys.argv[1]).self_test()
    except (FerEdgeError, OSError) as error:
        print(one_line(str(error)), file=sys.stderr)  # noqa: T201 - the installer reads it
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
