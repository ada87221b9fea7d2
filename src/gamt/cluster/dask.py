"""Workers that Dask reaches: those of a running scheduler, or of one that is started for a batch.

A task is given to one worker that has none, instead of leaving the choice to Dask: what Dask
queues on a worker is tried again when that worker is lost, as often as the scheduler's own settings
say, though it never ran. Neither the scheduler nor its settings need to know of gamt.
"""

import asyncio
import concurrent.futures
import logging
import pickle
import queue
import signal
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from gamt.cluster.kinds import Kind
from gamt.cluster.tasks import (
    Call,
    ClusterError,
    Gone,
    LostError,
    Raised,
    Task,
    Worker,
)
from gamt.text import describe_error, printable

if TYPE_CHECKING:
    from distributed import Client, Future
    from distributed.deploy.cluster import Cluster

logger = logging.getLogger("gamt")

T = TypeVar("T")

GPU = "GPU"
"""The resource of workers that have one: ``dask worker --resources GPU=1``."""

_LOOK_SECONDS = 0.5
"""How often to ask who is there."""

_REPLACE_SECONDS = 30.0
"""How often to see to it that a batch system replaces jobs that have ended."""

_CONNECT_SECONDS = 10
"""How long to try to reach a scheduler."""

_SILENT_SECONDS = 60.0
"""How long scheduler or worker may be silent before that is told."""

_CLOSE_SECONDS = 10
"""How long to wait, in the end, for a scheduler that may not answer any more."""

_END_SECONDS = 30
"""Likewise for workers, which have their own programs to end."""

_SCATTERED_BYTES = 1_000_000
"""Arguments from this size on go to their worker alone, beside the scheduler's own messages."""


class DaskWorkers:
    """The workers of a Dask scheduler; each gets one task at a time, whatever its threads."""

    def __init__(
        self,
        client: "Client",
        *,
        gpu: bool = False,
        at_end: Callable[[], None] | None = None,
        cluster: "Cluster | None" = None,
        wanted: int = 0,
    ) -> None:
        """Takes what there is.

        Args:
            client: connected; closed in the end.
            gpu: whether a task needs a GPU: workers without the resource get none.
            at_end: a module's function, which those that had tasks call in the end; None for none.
            cluster: whose workers they are, where it was started for this; closed in the end.
            wanted: how many workers were asked for from `cluster`.
        """
        self._client = client
        self._gpu = gpu
        self._at_end = at_end
        self._used: set[str] = set()  # addresses
        self._cluster = cluster
        self._wanted = wanted
        self._address = str(client.scheduler_info(n_workers=0)["address"])
        self._looked = self._replaced = float("-inf")
        self._there: dict[Worker, str] = {}  # with their addresses
        self._futures: dict[Worker, Future[Any]] = {}
        self._workers: dict[str, Worker] = {}  # by the key of their task
        self._ended: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._told = False
        self._heard: dict[Worker, tuple[float, float]] = {}  # by its clock, and by ours
        self._silent: set[Worker] = set()  # those that were told to be

    @property
    def dashboard(self) -> str:
        """The address of Dask's own page."""
        return str(self._client.dashboard_link)

    def there(self) -> Sequence[Worker]:
        """See `gamt.cluster.tasks.Workers`."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return list(self._there)
        if self._client.status != "running":
            raise LostError(f"lost the Dask scheduler at {self._address}")
        try:
            found, tasks = self._look()
        except Exception as error:
            raise LostError(f"lost the Dask scheduler at {self._address}: {error}") from error
        self._looked = time.monotonic()
        self._there = {}
        paused = busy = 0
        for address, one in found.items():
            # One that comes back under the address of one that is gone has another folder.
            folder = PurePath(one["local_directory"]).name
            worker = Worker(f"{address} {folder}", one["host"])
            if self._gpu and one["resources"].get(GPU, 0) < 1:
                continue
            if worker not in self._futures:
                # Dask begins no task there.
                if one["status"] != "running":
                    paused += one["status"] == "paused"
                    continue
                # A task would wait there for those of others, and be lost with them.
                if any(key not in self._workers for key in tasks.get(address, ())):
                    busy += 1
                    continue
            self._there[worker] = address
            self._listen(worker, float(one["last_seen"]))
        if not self._there and not self._told:
            self._told = True
            having = f" with the resource {GPU}" if self._gpu else ""
            why = f"; {paused} are short of memory, and paused" if paused else ""
            why += f"; {busy} are at work for others" if busy else ""
            jobs = getattr(self._cluster, "workers", {}).values()
            numbers = [str(one.job_id) for one in jobs if getattr(one, "job_id", None)]
            why += f"; its jobs are {', '.join(numbers)}" if numbers else ""
            logger.warning("waiting for a worker%s at %s%s", having, self._address, why)
        if self._cluster is not None and now - self._replaced > _REPLACE_SECONDS:
            self._replaced = now
            try:
                _scale(self._cluster, self._wanted)
            except Exception as error:
                if not found:
                    raise ClusterError(f"no workers any more: {describe_error(error)}") from error
                logger.warning("workers that ended aren't replaced: %s", describe_error(error))
        return list(self._there)

    def more_to_come(self) -> bool:
        """See `gamt.cluster.tasks.Workers`."""
        return len(self._there) < self._wanted

    def start(self, worker: Worker, task: Task[Any, Any], number: int) -> None:
        """See `gamt.cluster.tasks.Workers`."""
        address = self._there[worker]
        payload: Any = pickle.dumps(_Parcel(task.function, task.argument, number))
        key = f"gamt-{uuid.uuid4().hex}"
        self._workers[key] = worker
        self._used.add(address)
        if len(payload) >= _SCATTERED_BYTES:
            try:
                payload = _ask(
                    partial(self._client.scatter, payload, workers=[address], hash=False),
                    f"worker {worker.name}",
                )
            except Exception as error:  # it is gone, or doesn't take it
                self._ended.put(
                    (key, Gone(f"the worker can't be reached: {describe_error(error)}"))
                )
                return
        future = self._client.submit(
            pickle.loads,
            payload,
            key=key,
            workers=[address],
            resources={GPU: 1} if self._gpu else None,
            pure=False,
        )
        self._futures[worker] = future
        future.add_done_callback(self._fetch)

    def wait(self, seconds: float) -> Iterator[tuple[Worker, Any]]:
        """See `gamt.cluster.tasks.Workers`."""
        with suppress(queue.Empty):
            key, outcome = self._ended.get(timeout=seconds)
            if (worker := self._workers.pop(key, None)) is not None:
                self._futures.pop(worker, None)  # it has none if it couldn't be reached
                if isinstance(outcome, Gone):
                    # Not to be given another task before it is known whether it is still there.
                    self._there.pop(worker, None)
                    self._looked = float("-inf")
                yield worker, outcome
        there = set(self.there())
        gone = [worker for worker in self._futures if worker not in there]
        for key in [key for key, worker in self._workers.items() if worker in gone]:
            worker = self._workers.pop(key)
            # Otherwise Dask would do it again, should a worker come back under the same address.
            self._futures.pop(worker).cancel(force=True)
            yield worker, Gone("the worker was lost (out of memory, killed, or its host is gone)")

    def close(self) -> None:
        """See `gamt.cluster.tasks.Workers`."""
        cancelling = _Background(self._cancel_tasks)
        if not (
            cancelling.wait(_CLOSE_SECONDS) and _Background(self._end_workers).wait(_END_SECONDS)
        ):
            logger.warning("no answer from Dask; what workers run may go on for a while")
        self._futures.clear()
        self._workers.clear()
        for one in (self._client, self._cluster):
            try:
                if one is not None:
                    one.close(timeout=_CLOSE_SECONDS)
            except Exception as error:
                logger.warning("%s", printable(f"{type(one).__name__} doesn't close: {error}"))

    def _look(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the scheduler's workers, and the tasks of each, both by address."""

        def look() -> tuple[dict[str, Any], dict[str, Any]]:
            # -1: of all workers; otherwise it tells of five.
            found = self._client.scheduler_info(n_workers=-1)["workers"]
            return found, dict(self._client.processing())

        asked = time.monotonic()
        answer = _ask(look, f"the Dask scheduler at {self._address}")
        if time.monotonic() - asked > _SILENT_SECONDS:
            self._heard.clear()  # it is no worker that was silent
        return answer

    def _listen(self, worker: Worker, seen: float) -> None:
        """Tells, once, when a worker isn't heard of by the scheduler any more."""
        now = time.monotonic()
        before, since = self._heard.get(worker, (seen, now))
        if seen != before:
            since = now
            self._silent.discard(worker)
        self._heard[worker] = seen, since
        if now - since > _SILENT_SECONDS and worker not in self._silent:
            self._silent.add(worker)
            logger.warning(
                "no sign of worker %s for %.0f s; Dask gives it up after some minutes",
                worker.name,
                now - since,
            )

    def _cancel_tasks(self) -> None:
        if self._futures and self._client.status == "running":
            self._client.cancel(list(self._futures.values()), force=True)

    def _end_workers(self) -> None:
        """Lets workers end what they have started and left for a next task."""
        if self._at_end is not None and self._client.status == "running":
            here = self._used.intersection(self._there.values())
            self._client.run(self._at_end, workers=list(here), on_error="ignore")

    def _fetch(self, future: "Future[Any]") -> None:
        """Notes how a task has ended; called in a thread of Dask's."""
        from distributed.scheduler import KilledWorker

        try:
            outcome = future.result()
        except BaseException as error:
            # What a task raises, it returns: here it could not be unpacked, or Dask has lost it.
            reason = describe_error(error)
            is_unfit = future.status == "error" and not isinstance(error, KilledWorker)
            outcome = Raised(reason, unfit=True) if is_unfit else Gone(reason)
        self._ended.put((str(future.key), outcome))


def connect(
    address: str, *, gpu: bool = False, at_end: Callable[[], None] | None = None
) -> DaskWorkers:
    """Returns the workers of a running scheduler.

    Args:
        address: such as ``tcp://host:8786``; for ``tls://`` Dask's own settings name certificates.
        gpu: see `DaskWorkers`.
        at_end: see `DaskWorkers`.

    Raises:
        ClusterError: no scheduler answers there.
    """
    return DaskWorkers(_connect(address), gpu=gpu, at_end=at_end)


def start_cluster(
    kind: Kind, count: int, options: Mapping[str, Any], *, gpu: bool = False
) -> DaskWorkers:
    """Starts a scheduler here, and workers by a batch system or on Kubernetes.

    Args:
        kind: see `Kind`.
        count: how many workers to ask for.
        options: for the class of dask-jobqueue or dask-kubernetes, beside its own settings' file.
        gpu: see `DaskWorkers`; workers are started so that they have the resource.

    Raises:
        ClusterError: that can't be.
    """
    chosen: dict[str, Any] = {} if kind == "kubernetes" else {"cores": 1, "processes": 1}
    chosen |= options
    if gpu and kind != "kubernetes":
        chosen["worker_extra_args"] = [
            *chosen.get("worker_extra_args", ()),
            "--resources",
            f"{GPU}=1",
        ]
    make = _find_class(kind)
    cluster = None
    try:
        with warnings.catch_warnings():
            # Another of Dask's pages is there already: this one gets another port.
            warnings.filterwarnings("ignore", "Port .* is already in use")
            cluster = make(**chosen)
        _scale(cluster, count)
        client = _connect(cluster)
    except BaseException as error:
        if cluster is not None:
            with suppress(Exception):
                cluster.close(timeout=_CLOSE_SECONDS)
        if not isinstance(error, Exception) or isinstance(error, ClusterError):
            raise
        raise ClusterError(f"no workers by {kind}: {describe_error(error)}") from error
    return DaskWorkers(client, gpu=gpu, cluster=cluster, wanted=count)


def _scale(cluster: "Cluster", count: int) -> None:
    """Asks for workers, and for others in place of those that have ended.

    Raises:
        Exception: whatever the batch system, or its absence, raises.
    """
    if not hasattr(cluster, "_correct_state"):
        cluster.scale(count)
        return

    async def scale() -> None:
        cluster.scale(count)  # only notes what is wanted
        # Whoever waits for it first gets the errors of sbatch and its like, which nobody would get
        # otherwise. It is no part of Dask's interface.
        await cluster._correct_state()

    cluster.sync(scale)


def silence_dask() -> None:
    """Keeps Dask's loggers silent: what matters is raised, or logged in a line.

    Raises:
        ClusterError: Dask isn't installed.
    """
    with _installed_by("cluster"):
        import distributed  # noqa: F401 - sets the levels of its loggers itself

    for name in ("distributed", "distributed.client", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _connect(where: "str | Cluster") -> "Client":
    with _installed_by("cluster"):
        from distributed import Client
        from distributed.versions import VersionMismatchWarning

    try:
        if isinstance(where, str):
            asyncio.run(asyncio.wait_for(_ask_scheduler(where), _CONNECT_SECONDS))
        with warnings.catch_warnings():
            # Workers show themselves whether they have what it takes.
            warnings.simplefilter("ignore", VersionMismatchWarning)
            return Client(where, timeout=_CONNECT_SECONDS, set_as_default=False)
    except Exception as error:
        raise ClusterError(
            f"{where}: no Dask scheduler answers ({describe_error(error)})"
        ) from error


async def _ask_scheduler(address: str) -> None:
    """Asks a scheduler who it is; a client would wait long for what is none, and to give it up."""
    from distributed.core import rpc
    from distributed.security import Security

    options = Security().get_connection_args("client")
    async with rpc(address, timeout=_CONNECT_SECONDS, connection_args=options) as scheduler:
        await scheduler.identity(n_workers=0)


@contextmanager
def _installed_by(extra: str) -> Iterator[None]:
    """Tells which extra brings a package that is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ClusterError(
            f"the package {error.name} is missing: pip install 'gamt[{extra}]', or "
            f"'.[{extra}]' in a clone"
        ) from error


def _find_class(kind: Kind) -> Callable[..., "Cluster"]:
    if kind == "kubernetes":
        with _installed_by("kubernetes"):
            from dask_kubernetes import operator

        return cast("Callable[..., Cluster]", operator.KubeCluster)
    # Its import takes SIGINT for itself: Ctrl-C would end this process as if all was well.
    handler = signal.getsignal(signal.SIGINT)
    with _installed_by("cluster"):
        import dask_jobqueue

    signal.signal(signal.SIGINT, handler)
    names = {
        "slurm": "SLURMCluster",
        "pbs": "PBSCluster",
        "sge": "SGECluster",
        "lsf": "LSFCluster",
    }
    return cast("Callable[..., Cluster]", getattr(dask_jobqueue, names[kind]))


class _Background(Generic[T]):
    """A function that runs in a thread of its own, where Dask may never answer it."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                self._outcome.set_result(function())
            except BaseException as error:
                self._outcome.set_exception(error)

        threading.Thread(target=run, daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Waits for its end, for so long at most; returns whether it has ended."""
        return bool(concurrent.futures.wait((self._outcome,), seconds).done)

    def result(self) -> T:
        """Waits for its end, and returns or raises what it did."""
        return self._outcome.result()


def _ask(function: Callable[[], T], whom: str) -> T:
    """Returns what a function of Dask's does, which waits for an answer; tells if none comes."""
    asking = _Background(function)
    if not asking.wait(_SILENT_SECONDS):
        logger.warning("no answer from %s for %.0f s; waiting for it", whom, _SILENT_SECONDS)
    return asking.result()


class _Parcel:
    """A task that is done where it is unpacked.

    Dask is asked to call `pickle.loads` on it, which is the same in any Python, so that neither its
    scheduler nor a worker without gamt stumbles over what it can't import.
    """

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _run, self._arguments


def _run(function: Callable[[Any, Call], Any], argument: Any, number: int) -> Any:
    """Does a task on a worker."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def cancelled() -> bool:
        # Dask can't end a thread: it notes that a task isn't wanted any more, also when the driver
        # is gone, and goes on.
        task = worker.state.tasks.get(key)
        return task is None or task.state != "executing" or worker.status.name.startswith("clos")

    try:
        return function(argument, Call(number, cancelled))
    except BaseException as error:
        return Raised.of(error)
