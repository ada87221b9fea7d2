"""Where the built page is."""

from pathlib import Path

import gamt.server

PAGE = Path(gamt.server.__file__).parent / "page" / "dist"
"""Where ``make page`` puts it."""


def is_built() -> bool:
    """Says whether there is a page; if not, ``make page`` makes it."""
    return (PAGE / "index.html").is_file()
