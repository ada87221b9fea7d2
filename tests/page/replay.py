"""The same prompts without a page: what a session makes of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt import Session
from gamt.annotation.prompts import add_prompt, read_prompt
from gamt.io.image import read_image
from gamt.io.json_files import JsonValue


def segment(scan: Path, prompts: Sequence[Any]) -> npt.NDArray[np.bool_]:
    """Gives a session prompts one by one.

    Args:
        scan: the image's file.
        prompts: as the server's state has them.

    Returns:
        (i, j, k) the target, towards right, front and head.
    """
    image = read_image(scan)
    session = Session()
    session.set_image(image.array[None], {"spacing": image.spacing_mm})
    target = np.zeros(image.array.shape, np.uint8)
    session.set_target_buffer(target)
    for prompt in prompts:
        add_prompt(session, read_prompt(JsonValue(scan, "prompt", prompt)))
        session.run_prediction()
    # The array runs towards head, back and left.
    return target[:, ::-1, ::-1].T.astype(np.bool_)
