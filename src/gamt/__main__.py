"""The command line as a module: ``python -m gamt``."""

from gamt.cli.app import main

main()
