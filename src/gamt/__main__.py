"""The command line as a module: ``python -m gamt``."""

import sys

try:
    from gamt.cli.app import main

    main()
except KeyboardInterrupt:  # before the command line takes care of it
    print("gamt: interrupted", file=sys.stderr)
    sys.exit(130)
