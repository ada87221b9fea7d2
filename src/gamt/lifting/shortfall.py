"""What a class had to do without, and how that is told."""

from collections import Counter
from dataclasses import dataclass, field

from gamt.axes import Plane


@dataclass(eq=False)
class Shortfall:
    """What a class had to do without.

    Attributes:
        has_previous: whether there is a previous prediction of it.
        faults: of the segmenter, by plane, one line for each slice that it failed at.
        in_a_row: how many it has failed at one after the other, by plane.
        seen: the planes that it has answered in.
        has_found: whether any of its masks had a pixel.
        is_cut_short: whether there was no time for all of it.
        on_request: whether that is because somebody wanted what there was, not for the time limit.
    """

    has_previous: bool = False
    faults: dict[Plane, list[str]] = field(default_factory=dict)
    in_a_row: Counter[Plane] = field(default_factory=Counter)
    seen: set[Plane] = field(default_factory=set)
    has_found: bool = False
    is_cut_short: bool = False
    on_request: bool = False

    @property
    def lacks_answers(self) -> bool:
        """Whether the segmenter failed at a slice, or was not asked for want of time."""
        return bool(self.faults) or self.is_cut_short

    def describe_faults(self) -> tuple[str, ...]:
        """Tells the faults, one line a plane, with the latest in each."""
        lines = []
        for plane, faults in self.faults.items():
            name = plane.name.lower()
            slices = "slice" if len(faults) == 1 else "slices"
            lack = (
                f"{len(faults)} {name} {slices} missing"
                if plane in self.seen
                else f"no {name} view"
            )
            lines.append(f"{lack} ({faults[-1]})")
        return tuple(lines)

    def describe(self) -> tuple[str, ...]:
        """Tells everything, in a few words each; nothing of a class that lacks nothing."""
        lines = [*self.describe_faults()]
        if self.seen and not self.has_found:
            lines.append("nothing found by the segmenter")
        if self.is_cut_short:
            lines.append(f"cut short {'on request' if self.on_request else 'by the time limit'}")
        if self.lacks_answers and not self.seen:
            rest = "the previous prediction" if self.has_previous else "the prompts"
            lines.append(f"{rest} alone")
        return tuple(lines)
