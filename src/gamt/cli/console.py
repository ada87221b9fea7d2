"""What the command line shows: results, the log, progress bars, errors.

All of it may hold text of others: names of files, words from inside of files, answers of servers,
messages of segmenters. Whatever goes to the terminal goes through `printable`.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamt.text import printable

if TYPE_CHECKING:
    from typer import Context, Typer


class UsageError(ValueError):
    """Arguments that don't make sense."""


def echo(text: object, *, err: bool = False) -> None:
    """Prints a line, of a result or, with `err`, of an error, as `printable` shows it.

    Raises:
        OSError: it can't be printed; the error names the stream, such as ``standard output``.
    """
    import typer

    try:
        typer.echo(printable(text), err=err)
    except OSError as error:
        stream = "standard error" if err else "standard output"
        raise OSError(error.errno, error.strerror, stream) from error


def show_help(context: "Context") -> None:
    """Ends a group of commands that was called without a command by showing its help."""
    import typer

    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def run_app(
    app: "Typer",
    name: str,
    explain: Callable[[Exception], tuple[str, int] | None],
    arguments: Sequence[str] | None,
) -> None:
    """Runs a command line and exits; errors end in one line, not in a traceback.

    Args:
        app: the command line.
        name: what it is called by.
        explain: returns what to tell about an error and the exit status, None of errors that it
            doesn't know.
        arguments: those after the program's name; None for the process's own.
    """
    import typer

    _open_streams()
    try:
        typer.main.get_command(app).main(args=arguments, prog_name=name)
    except SystemExit as end:
        # How typer ends after Ctrl-C: with status 130, and without a word.
        if end.__context__ and isinstance(end.__context__.__cause__, KeyboardInterrupt):
            echo(f"{name.rsplit(maxsplit=1)[-1]}: interrupted", err=True)
        raise
    except Exception as error:
        logging.getLogger("gamt").debug("where it failed", exc_info=True)
        message, status = explain(error) or _describe(error)
        with suppress(OSError):  # nobody can be told
            echo(f"{name.rsplit(maxsplit=1)[-1]}: {message}", err=True)
        sys.exit(status)


def _open_streams() -> None:
    """Opens the standard streams that are closed, as after ``2>&-``, on nothing.

    Otherwise the next file would take their place: an output, into which libraries would print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - for good
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _describe(error: Exception) -> tuple[str, int]:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}", 1
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} (--verbose shows where)", 1


class LogFormatter(logging.Formatter):
    """Formats a record as one `printable` line; a traceback follows it line by line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: D102, N802
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: D102, N802
        return "\n".join(map(printable, super().formatException(ei).splitlines()))


class _StderrHandler(logging.Handler):
    """Writes to what is `sys.stderr` at the time; a progress bar replaces that, to stay below."""

    def emit(self, record: logging.LogRecord) -> None:
        # The work goes on where nobody reads the log any more, its disk is full, a segmenter has
        # closed it, or a message doesn't fit its values.
        with suppress(Exception):
            sys.stderr.write(f"{self.format(record)}\n")


def start_log(verbose: bool | None, form: str = "%(levelname)s %(message)s") -> None:
    """Shows the package's log.

    Args:
        verbose: errors alone (False), what users need (None), or all (True).
        form: of a line, as `logging.Formatter` takes it.
    """
    handler = _StderrHandler()
    handler.setFormatter(LogFormatter(form))
    logger = logging.getLogger("gamt")
    logger.handlers = [handler]
    logger.setLevel({None: logging.INFO, True: logging.DEBUG, False: logging.ERROR}[verbose])


def shows_progress(verbose: bool | None) -> bool:
    """Says whether someone watches: at a terminal, and not under ``--quiet``."""
    return verbose is not False and sys.stderr.isatty()


@contextmanager
def progress_bar(shown: bool, title: str = "Cases") -> Iterator[Callable[[int, int], None]]:
    """Gives a function that takes the number of cases done, and that of all.

    Args:
        shown: whether there is a bar at all; without one the function does nothing.
        title: what is counted; the number of all may grow, as that of slices does.
    """
    if not shown:
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import MofNCompleteColumn, Progress

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(printable(title)), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def download_bar(title: str, shown: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Gives a function that takes the number of bytes done, and that of all where it is known."""
    if not shown:
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    speed = (TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, *speed, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(printable(title)), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
