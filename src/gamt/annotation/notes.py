"""What users should know of a target, such as that nothing was found."""

from gamt.annotation.steps import Given, Loaded, Step

FULL = 0.5
"""Share of the image from which on a target is more likely a mistake than a target."""


def note_of(step: Step, voxels: int, image_voxels: int, image_doubt: str | None) -> str | None:
    """Returns what is to be known of a target; None where all is well.

    Args:
        step: the target's last one.
        voxels: that it has in the label map.
        image_voxels: how many there are.
        image_doubt: why nothing can be found in the image; None where something can.
    """
    prompts = list(step.prompts)
    if not prompts:
        return None
    if step.waiting:
        return "Not predicted yet."
    if image_doubt is not None:
        return image_doubt[0].upper() + image_doubt[1:] + "."
    if not any(isinstance(one, Loaded) or one.prompt.positive for one in prompts):
        return "There are negative prompts alone: mark a place inside of the target."
    if any(isinstance(one, Given) for one in prompts) and not step.state.is_complete:
        return "There was no time for all of it: the next prompt goes on from here."
    last = step.actions[-1]
    if isinstance(last, Loaded) and last.left_out:
        count = "1 voxel" if last.left_out == 1 else f"{last.left_out:,} voxels"
        return f"{count} of {last.prompt.name} left out: other targets have them."
    mask = step.state.mask
    if mask is None or not mask.bits.size:
        return "Nothing was found."
    if not voxels:
        return "All of its voxels belong to other targets."
    if voxels > FULL * image_voxels:
        return "It fills more than half of the image: mark places outside of the target."
    return None
