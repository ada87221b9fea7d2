"""Training-free lifting of promptable 2-D segmentation models to 3-D medical scans."""


def __getattr__(name: str) -> str:
    # On demand, because looking into the installed packages' metadata takes longer than this
    # import.
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
