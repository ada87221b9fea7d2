"""Removing folders in which a stranger's program has worked."""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

REMOVE_SECONDS = 60
"""How long each of two attempts may take: on a network's disk they may hang."""


def remove_tree(folder: Path) -> bool:
    """Removes a folder with all that is in it, as far as it goes; returns whether it is gone."""
    try:
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except (OSError, RecursionError):
        # Folders without rights, or thousands of them in one another: these programs manage both.
        for command in (("chmod", "-R", "u+rwX"), ("rm", "-rf")):
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    (*command, "--", folder),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    check=False,
                    timeout=REMOVE_SECONDS,
                )
    return not os.path.lexists(folder)
