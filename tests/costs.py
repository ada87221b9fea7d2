"""What work costs, to compare it with other work of the same test."""

import time
from collections.abc import Callable


def cost(work: Callable[[], object], *, times: int = 1) -> float:
    """Returns the least CPU seconds that a piece of work took in this thread.

    What others do meanwhile on the machine, and other threads of this process, is not in it. How
    fast the machine is, and how much slower coverage makes it, is: so it is only ever compared
    with the cost of something else, by a wide margin.

    Args:
        work: What is done.
        times: How often.
    """
    return min(_cost(work) for _ in range(times))


def _cost(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start
