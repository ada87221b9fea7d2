"""What an evaluation will take: time, disk and network, from cases that were measured."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from evaluation.costs import UNSEEN, Sizes, fit_rates, read_sizes
from evaluation.index import Entry, read_index
from evaluation.listing import Listed, list_cases, many_objects
from evaluation.records import CaseRecord, TeamFolder

MOST_WORKERS = 64
"""Up to which wall times are told where nobody asks for others: 1, 2, 4 and so on."""

_SIMULATED = 100_000
"""Tasks that are given to workers one by one; a million would take seconds."""

_SAMPLED_FILES = 200
"""Of records and logs, for their sizes."""


_READ_RECORDS = 1000
"""Of cases that aren't in the index, such as after an earlier version."""


class PlanError(ValueError):
    """A plan that there is nothing to make from."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an evaluation is.

    Attributes:
        cases: the folder.
        folder: the team's.
        listed: all cases.
        todo: those without a record.
        measured: what is known of those with one.
        sizes: of those to do.
    """

    cases: Path
    folder: TeamFolder
    listed: Sequence[Listed]
    todo: Sequence[Listed]
    measured: Sequence[Entry]
    sizes: Sizes

    @classmethod
    @many_objects()
    def read(cls, cases: Path, gts: Path | None, folder: TeamFolder) -> Self:
        """Looks at a folder of cases, and at results that need not be there.

        Raises:
            ListingError: there are no cases.
            RecordError: a record can't be read.
        """
        listed = list_cases(cases, gts)
        recorded = folder.recorded()
        known = read_index(folder.index_file) if recorded else {}
        todo = [one for one in listed if one.case not in recorded]
        done = [one for one in listed if one.case in recorded]
        measured = [known[one.case] for one in done if one.case in known]
        for one in [one for one in done if one.case not in known][:_READ_RECORDS]:
            record = CaseRecord.read(folder.record_file(one.case))
            measured.append(Entry.of(record, one.stamp, folder.prediction_bytes(one.case)))
        return cls(cases, folder, listed, todo, measured, read_sizes(todo, cases, measured))

    def choose_sample(self, count: int) -> set[str]:
        """Returns cases to measure, of those to do: from small to large, at equal distances."""
        order = np.argsort(UNSEEN.expect(self.sizes), kind="stable")
        count = min(count, len(order))
        places = ((np.arange(count) + 0.5) * len(order) / max(1, count)).astype(int)
        return {self.todo[order[place]].case for place in places}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the cases that are to be done will take.

    Attributes:
        total: number of cases.
        done: number of those that have a record.
        measured: number of those whose time is known.
        seconds_a_case: the mean of those measured.
        seconds_an_interaction: likewise.
        seconds: of one worker, for all cases to do.
        wall_seconds: by the number of workers, each of which takes the longest case left.
        result_bytes: of predictions, records and logs to come.
        work_bytes: that a worker has on the disk while it is at work, at most.
        case_bytes: of the files of the cases to do, each read once.
        traffic_bytes: that workers write: what the method sees and writes in each run, and results.
    """

    total: int
    done: int
    measured: int
    seconds_a_case: float
    seconds_an_interaction: float
    seconds: float
    wall_seconds: Mapping[int, float]
    result_bytes: int
    work_bytes: int
    case_bytes: int
    traffic_bytes: int

    @property
    def todo(self) -> int:
        """The number of cases that have no record."""
        return self.total - self.done


def make_plan(
    standing: Standing, workers: Sequence[int] = (), most_workers: int = MOST_WORKERS
) -> Plan:
    """Expects of the cases to do what those like them took.

    Args:
        standing: how far the evaluation is.
        workers: numbers of workers to tell the time for; none for powers of two.
        most_workers: up to which powers of two are told.

    Raises:
        PlanError: no case is measured.
    """
    measured, todo = standing.measured, standing.todo
    if not measured:
        raise PlanError(
            f"{standing.folder.path}: no case is measured; --sample N measures N of them"
        )
    took = [one.seconds for one in measured]
    runs = sum(one.runs for one in measured)
    expected = fit_rates(measured).expect(standing.sizes)
    ordered = np.sort(expected)[::-1].tolist()
    chosen = workers or [2**power for power in range(most_workers.bit_length())]
    predicted_bytes = _ratio(
        sum(one.written for one in measured), sum(one.voxels * one.runs for one in measured)
    ) * (standing.sizes[:, 0] * standing.sizes[:, 2])
    image_bytes = np.array([one.image_bytes for one in todo], np.float64)
    seen_bytes = image_bytes * (1 + standing.sizes[:, 2])
    result_bytes = int(predicted_bytes.sum() + _beside_bytes(standing) * len(todo))
    return Plan(
        total=len(standing.listed),
        done=len(standing.listed) - len(todo),
        measured=len(measured),
        seconds_a_case=sum(took) / len(took),
        seconds_an_interaction=_ratio(sum(took), runs),
        seconds=float(expected.sum()),
        wall_seconds={number: simulate(ordered, number) for number in chosen},
        result_bytes=result_bytes,
        # Its copy of the case, the input and the output of a run, and all predictions at the end.
        work_bytes=int((2 * image_bytes + 2 * predicted_bytes).max(initial=0)),
        case_bytes=sum(one.bytes for one in todo),
        # Each run's output, and all of them again at the end.
        traffic_bytes=int((seen_bytes + predicted_bytes).sum()) + result_bytes,
    )


def simulate(seconds: Sequence[float], workers: int) -> float:
    """Returns when the last task ends, if whichever worker is free first takes the next one.

    Args:
        seconds: of the tasks, the longest first.
        workers: how many.
    """
    free = [0.0] * workers
    for one in seconds[:_SIMULATED]:
        heapq.heapreplace(free, free[0] + one)
    # What is left is so small that it fills whatever is free.
    rest = sum(seconds[_SIMULATED:])
    return max(*free, (sum(free) + rest) / workers)


def _beside_bytes(standing: Standing) -> float:
    """Returns the bytes of a case's record and log, the mean over some."""
    folder, some = standing.folder, standing.measured[:_SAMPLED_FILES]
    files = [folder.record_file(one.case) for one in some]
    files += [folder.log_file(one.case) for one in some]
    return _ratio(sum(one.stat().st_size for one in files if one.exists()), len(some))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
