"""Runs the command line: ``python -m evaluation``, the same as ``gamt-evaluate``."""

from evaluation.cli import main

if __name__ == "__main__":
    main()
