"""Run the command line: ``python -m fer_edge.cli``."""

from fer_edge.cli import main

main()
