"""Training-free lifting of promptable 2-D segmentation models to 3-D medical scans."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gamt.session import Session as Session


def __getattr__(name: str) -> Any:
    # On demand, because looking into the installed packages' metadata takes longer than this
    # import, and so does what a session needs.
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name == "Session":
        from gamt.session import Session

        return Session
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
