"""The command line: ``gamt``, and as a module ``python -m gamt``."""

import sys


def main() -> None:
    """Runs the command line; it is imported here, so that Ctrl-C meanwhile is no traceback."""
    try:
        from gamt.cli import app

        app.main()
    except KeyboardInterrupt:  # before the command line takes care of it
        if sys.stderr is not None:  # as it is after 2>&-
            print("gamt: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
