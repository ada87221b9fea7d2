"""Where the cases of a folder are worked on: this machine, or many; options that commands share."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from gamt.cli.console import UsageError
from gamt.cluster.kinds import Kind
from gamt.cluster.local import LocalWorkers, list_gpus

if TYPE_CHECKING:
    from gamt.cluster.tasks import Workers

logger = logging.getLogger("gamt")

KINDS = ", ".join(get_args(Kind))

WORKERS_LIMIT = 10_000
"""No machine and no batch system has more for one user; a typing error may."""

Count = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        max=WORKERS_LIMIT,
        help="Cases at a time: processes of this machine, or with --cluster workers to ask for. "
        "Running times are fair with one alone on its machine.  [default: 1]",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Take the workers of a running Dask scheduler, such as tcp://host:8786.",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="KIND",
        autocompletion=lambda: list(get_args(Kind)),
        help=f"Start workers by a batch system, or on Kubernetes: {KINDS}.",
    ),
]
ClusterOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--cluster-option",
        metavar="KEY=VALUE",
        help="For the class of dask-jobqueue or dask-kubernetes, such as memory=16GB, queue=gpu or "
        "'job_extra_directives=[\"--gres=gpu:1\"]'; repeatable. Dask's own settings count, too.",
    ),
]
Gpu = Annotated[
    bool,
    typer.Option(
        "--gpu",
        help="A case takes a GPU: workers of this machine get one each in turn; those of Dask need "
        "the resource GPU.",
    ),
]
Dashboard = Annotated[
    bool,
    typer.Option(
        "--dashboard",
        help="With --scheduler or --cluster: tell the address of the page on which Dask shows its "
        "workers.",
    ),
]
Collect = Annotated[
    bool,
    typer.Option(
        "--collect",
        help="Workers share no storage with this machine: cases are sent to them, and results come "
        "back. Without it, they find both under the same absolute paths.",
    ),
]


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What the options above say.

    Attributes:
        count: how many workers; None for one, or for those of a scheduler.
        scheduler: the address of a running one.
        cluster: what starts workers.
        options: for its class.
        gpu: whether a case takes a GPU.
        dashboard: whether to print Dask's address.
        collect: whether no storage is shared.
    """

    count: int | None = None
    scheduler: str | None = None
    cluster: Kind | None = None
    options: Mapping[str, Any] | None = None
    gpu: bool = False
    dashboard: bool = False
    collect: bool = False

    @classmethod
    def parse(
        cls,
        count: int | None,
        scheduler: str | None,
        cluster: str | None,
        options: Sequence[str] | None,
        gpu: bool,
        dashboard: bool,
        collect: bool,
    ) -> "WorkerOptions":
        """Checks the options of a command line.

        Raises:
            UsageError: they don't go together, or one isn't known.
        """
        kinds: dict[str, Kind] = {one: one for one in get_args(Kind)}
        if cluster is not None and cluster not in kinds:
            raise UsageError(f"--cluster: found {cluster!r}, expected one of {KINDS}")
        if scheduler is not None and cluster is not None:
            raise UsageError("found both --scheduler and --cluster, expected one of them")
        if scheduler is not None and count is not None:
            raise UsageError(
                "found both --scheduler and --workers, expected one of them: a scheduler's workers "
                "are all taken"
            )
        if cluster is None and options:
            raise UsageError("found --cluster-option without --cluster")
        if scheduler is None and cluster is None:
            for name, given in (("--dashboard", dashboard), ("--collect", collect)):
                if given:
                    raise UsageError(f"found {name} without --scheduler or --cluster")
        return cls(
            count,
            scheduler,
            None if cluster is None else kinds[cluster],
            _parse_options(options or ()),
            gpu,
            dashboard,
            collect,
        )

    @property
    def elsewhere(self) -> bool:
        """Whether workers may be on other machines."""
        return self.scheduler is not None or self.cluster is not None

    def words(self) -> list[str]:
        """Returns the words of a command line that say the same, but for the number of workers."""
        words: list[str] = []
        for option, value in (("--scheduler", self.scheduler), ("--cluster", self.cluster)):
            words += [] if value is None else [option, value]
        for key, value in (self.options or {}).items():
            # A text as it is, unless it would be taken for something else.
            is_plain = isinstance(value, str) and _parse_value(value) == value
            text = value if is_plain else json.dumps(value)
            words += ["--cluster-option", f"{key}={text}"]
        given = (("--gpu", self.gpu), ("--dashboard", self.dashboard), ("--collect", self.collect))
        return [*words, *(option for option, chosen in given if chosen)]

    def make(self, at_end: Callable[[], None] | None = None) -> "Workers":
        """Makes the workers.

        Args:
            at_end: a module's function, which workers call when there are no more tasks for them;
                None for nothing.

        Raises:
            ClusterError: they can't be had.
            UsageError: there is no GPU for those of this machine.
        """
        if not self.elsewhere:
            gpus = list_gpus() if self.gpu else ()
            if self.gpu and not gpus:
                raise UsageError("--gpu: found no GPU on this machine (nvidia-smi -L lists none)")
            if gpus and (self.count or 1) > len(gpus):
                logger.warning("%d workers share %d GPUs", self.count, len(gpus))
            return LocalWorkers(self.count or 1, at_end, gpus)
        from gamt.cluster.dask import connect, silence_dask, start_cluster

        silence_dask()
        if self.scheduler is not None:
            workers = connect(self.scheduler, gpu=self.gpu, at_end=at_end)
        else:
            assert self.cluster is not None
            workers = start_cluster(self.cluster, self.count or 1, self.options or {}, gpu=self.gpu)
        if self.dashboard:
            logger.info("Dask's dashboard: %s", workers.dashboard)
        return workers


def _parse_options(words: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for word in words:
        key, separator, text = word.partition("=")
        if not separator or not key.isidentifier():
            raise UsageError(f"--cluster-option: found {word!r}, expected KEY=VALUE")
        if key in options:
            raise UsageError(f"--cluster-option: found {key}= twice, expected one value")
        options[key] = _parse_value(text)
    return options


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
