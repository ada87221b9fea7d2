"""Why a target looks as it does: the page of `gamt explain`, for its prompts."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gamt.annotation.targets import Target
from gamt.explain.recorder import explain_case
from gamt.io.case import Case
from gamt.lifting.progress import Report
from gamt.prompts import ClassPrompts
from gamt.session import State, with_extent
from gamt.volume.preparation import PreparedVolume


def explain_target(
    name: str,
    volume: PreparedVolume,
    target: Target,
    voxels: int,
    progress: Report,
    cancelled: Callable[[], bool],
) -> str:
    """Returns an HTML page that shows how a target is found from all of its prompts.

    It takes them together, where the document predicted one after the other, so that the result may
    be another one: the page says by how much.

    Of a target with several boxes or lassos, it is the one drawn last that is explained, with the
    target's points, scribbles and what was taken away. No slice is encoded again.

    Args:
        name: of the scan.
        volume: the scan; its embeddings are used.
        target: the target.
        voxels: that it has in the document.
        progress: called with the slices done and those planned so far.
        cancelled: asked before every step.

    Raises:
        ValueError: the target has no prompt but a mask, or the packages for pages are missing.
        Cancelled: `cancelled` said so.
    """
    try:
        from gamt.explain.page import render_page
    except ImportError as error:
        raise ValueError(
            "explanations need the packages jinja2 and pillow: pip install 'gamt[explain]' "
            "(in a clone: make setup)"
        ) from error
    prompts = prompts_of(target.step.state)
    if prompts == ClassPrompts(1):
        raise ValueError(f"{target.name}: there is no prompt yet whose effect could be explained")
    state = target.step.state
    goes_on = state.initial is not None and not state.extents
    case = Case(
        name,
        volume.image,
        volume.spacing_mm,
        (prompts,),
        state.initial.unpack().view(np.uint8) if goes_on and state.initial is not None else None,
        windows=state.windows,
    )
    explanation = explain_case(
        case,
        volume.embeddings.segmenter,
        replace(volume.settings, budget=False),
        cache=volume.embeddings,
        names={1: target.name},
        progress=progress,
        cancelled=cancelled,
    )
    found = int(np.count_nonzero(explanation.prediction.labels))
    return render_page(replace(explanation, note=compare(voxels, found)))


def compare(shown: int, found: int) -> str:
    """Returns what the explanation's result has to do with the one that was clicked.

    Args:
        shown: voxels of the target in the document.
        found: voxels of the explanation's.
    """
    return (
        "This is a new run, which takes all prompts at once, and of several boxes or lassos the "
        "last. On the page each prompt was predicted as it came, and other targets kept their "
        f"voxels: there the target has {shown:,} voxels, here {found:,}."
    )


def prompts_of(state: State) -> ClassPrompts:
    """Returns a target's marks, and the box or lasso that was drawn last."""
    if not state.extents:
        return state.marks
    return with_extent(state.marks, state.extents[-1].drawn)
