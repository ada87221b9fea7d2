"""Breaks the method in every way that it is known to break, and looks at what is left.

    python -m benchmarks.faults [times] [segmenters] [kills] [--seed 0] [--only N]

- times: runs with a segmenter that takes its time (`benchmarks.fault_times`).
- segmenters: segmenters that fail, each in its own way (`benchmarks.fault_segmenters`).
- kills: `gamt predict` and `evaluation run`, ended at random moments (`benchmarks.fault_kills`).

Prints every bar with the figure measured beside it; the exit code is 1 where one is missed. Number
N of a part and a seed is always the same; --only N does it alone.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks import fault_kills, fault_segmenters, fault_times
from benchmarks.bench import Bar, print_bars
from benchmarks.interaction import describe_machine

PARTS = ("times", "segmenters", "kills")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (all)")
    parser.add_argument("--runs", type=int, default=fault_times.RUNS, help="times: (%(default)s)")
    parser.add_argument(
        "--counts",
        type=int,
        nargs=4,
        metavar="N",
        default=astuple(fault_kills.Counts()),
        help="kills: SIGKILL and SIGTERM of predict, the same of evaluation run (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn (%(default)s)")
    parser.add_argument("--only", type=int, metavar="N", help="does one of a single part")
    options = parser.parse_args(arguments)
    parts = options.parts or PARTS
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        parser.error(f"found the part {unknown[0]!r}, expected {', '.join(PARTS)}")
    if options.only is not None and len(parts) != 1:
        parser.error("--only needs one part")

    console = Console()
    console.print(describe_machine())
    found: list[Bar] = []
    if "times" in parts:
        numbers = range(options.runs) if options.only is None else [options.only]
        plans = [fault_times.draw_plan(options.seed, number) for number in numbers]
        runs = fault_times.run_plans(plans, console)
        fault_times.print_times(runs, console)
        found += fault_times.time_bars(runs)
    if "segmenters" in parts:
        every = range(len(fault_segmenters.FAULTS))
        numbers = every if options.only is None else [options.only]
        found_faults = fault_segmenters.run_faults(numbers, console)
        fault_segmenters.print_faults(found_faults, console)
        codes = fault_segmenters.check_exit_codes()
        found += fault_segmenters.fault_bars(found_faults, codes)
    if "kills" in parts:
        counts = fault_kills.Counts(*options.counts)
        with tempfile.TemporaryDirectory() as folder:
            named = track(
                fault_kills.prepare(Path(folder)), "Undisturbed", console=console, transient=True
            )
            targets = [fault_kills.measure(one) for one in named]
            trials = fault_kills.draw_trials(targets, counts, options.seed)
            chosen = trials if options.only is None else [trials[options.only]]
            ended = fault_kills.run_trials(chosen, console)
        fault_kills.print_kills(ended, console)
        found += fault_kills.kill_bars(ended)
    return print_bars("Bars: faults", found, console)


if __name__ == "__main__":
    sys.exit(main())
