"""``python -m medlib ...``: the command line, also under torchrun."""

from medlib.cli import main

main()
