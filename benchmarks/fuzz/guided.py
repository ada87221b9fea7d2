"""Lets atheris look for bytes that harm a reader.

    python -m benchmarks.fuzz.guided READER RUNS FINDINGS

Atheris notes which lines and branches of `gamt.io` and `gamt.server.frames` an input reaches, and
goes on from those that reach new ones. The exit status is 0 if nothing was found; else the input
that did it is in FINDINGS.
"""

import logging
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gamt.io", "gamt.server.frames"]):
    from benchmarks.fuzz.readers import READERS, check

from benchmarks.fuzz.judging import MOST_BYTES, MOST_SECONDS


def main() -> None:
    """Runs the command line; atheris ends the process."""
    name, runs, findings = sys.argv[1:]
    reader = READERS[name]
    logging.disable()
    with tempfile.TemporaryDirectory(prefix="gamt-fuzz-") as folder:
        for number, data in enumerate(reader.honest()):
            (Path(folder) / str(number)).write_bytes(data)
            if not check(reader, data):
                sys.exit(f"{name}: honest bytes are refused")
        options = (
            *(f"-runs={runs}", "-seed=1", "-max_len=8192", f"-timeout={MOST_SECONDS:.0f}"),
            f"-max_total_time={_MOST_SECONDS}",
            *(f"-rss_limit_mb={MOST_BYTES >> 20}", "-print_final_stats=1"),
            *(f"-artifact_prefix={findings}/{name}-", folder),
        )
        atheris.Setup([sys.argv[0], *options], lambda data: check(reader, data))
        atheris.Fuzz()


_MOST_SECONDS = 120
"""However many runs are asked for: SimpleITK's readers are slow."""

if __name__ == "__main__":
    main()
