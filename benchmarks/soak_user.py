"""A random user of a server: what `benchmarks.soak` starts many of.

    python -m benchmarks.soak_user URL SEED JOURNAL

It imports little, as a user is to be at work soon after another one was killed.
"""

import hashlib
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import httpx
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession

    from gamt import Session

LARGE_SHARE, LARGE = 0.04, 3
"""Share of the images that are large, and how much longer all their sides are."""

READ_SECONDS = 600.0
"""How long a user waits for an answer; longer than others, who give up after a minute."""

Kind = Literal["point", "box", "scribble", "lasso", "initial", "predict", "undo", "reset"]

KINDS: tuple[Kind, ...] = ("point", "box", "scribble", "lasso", "undo", "initial", "reset")
ODDS = (0.45, 0.1, 0.15, 0.1, 0.1, 0.05, 0.05)
"""Of the kinds."""

Bounds = list[list[int]]
Mask: TypeAlias = npt.NDArray[np.bool_]
AnySession: TypeAlias = "Session | nnInteractiveRemoteInferenceSession"
"""They have the same methods, but for the one that predicts what was only noted so far."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that a user does.

    Attributes:
        kind: what.
        positive: whether a prompt marks the target.
        predicts: whether it is predicted from at once.
        bounds: half-open, of a prompt; a point's is one voxel.
        mask: a drawing within the bounds, or an initial segmentation.
    """

    kind: Kind
    positive: bool = True
    predicts: bool = True
    bounds: Bounds = field(default_factory=list)
    mask: Mask | None = None

    def apply(self, session: AnySession) -> None:
        """Does it."""
        match self.kind:
            case "point":
                voxel = [low for low, _ in self.bounds]
                session.add_point_interaction(voxel, self.positive, self.predicts)
            case "box":
                session.add_bbox_interaction(self.bounds, self.positive, self.predicts)
            case "scribble" | "lasso":
                add = getattr(session, f"add_{self.kind}_interaction")
                drawing = np.asarray(self.mask).view(np.uint8)
                add(drawing, self.positive, self.predicts, interaction_bbox=self.bounds)
            case "initial":
                session.add_initial_seg_interaction(np.asarray(self.mask).view(np.uint8))
            case "predict":
                in_process = hasattr(session, "run_prediction")
                getattr(session, "run_prediction" if in_process else "_predict")()
            case "undo":
                session.undo()
            case "reset":
                session.reset_interactions()


@dataclass(frozen=True, slots=True)
class Visit:
    """What a user does with one image; all of it follows from a seed.

    Attributes:
        image: (z, y, x) int16 or uint8.
        spacing_mm: (z, y, x).
        steps: what follows.
    """

    image: npt.NDArray[Any]
    spacing_mm: tuple[float, float, float]
    steps: tuple[Step, ...]

    def answers(self, session: AnySession) -> Iterator[tuple[str, float]]:
        """Does everything in a session; yields what came of each step.

        Yields:
            The digest of the mask, or "refused" where the session, or the server, called the
            step an error of the user's; and the seconds that it took.
        """
        found = np.zeros(self.image.shape, np.uint8)
        session.set_image(self.image[None], {"spacing": self.spacing_mm})
        session.set_target_buffer(found)
        for step in self.steps:
            start = time.perf_counter()
            try:
                step.apply(session)
                answer = hashlib.sha256(found.tobytes()).hexdigest()[:16]
            except ValueError:
                answer = "refused"
            except httpx.HTTPStatusError as error:
                if error.response.status_code != HTTPStatus.BAD_REQUEST:
                    raise
                answer = "refused"
            except httpx.TransportError as error:
                raise ConnectionError(f"{step.kind}: {error!r}") from error
            yield answer, time.perf_counter() - start


def draw_visit(seed: int) -> Visit:
    """Draws an image of three bodies, and what a user does with it."""
    rng = np.random.default_rng(seed)
    times = LARGE if rng.random() < LARGE_SHARE else 1
    shape = tuple(int(n) * times for n in rng.integers((20, 40, 48), (33, 65, 73)))
    spacing = tuple(round(float(mm), 2) for mm in rng.uniform((1, 0.5, 0.5), (4, 1.5, 1.5)))
    image = rng.normal(0, 12, shape)
    bodies = []
    for grey in rng.permutation((60, 120, 180)):
        centre = rng.uniform(0.25, 0.75, 3) * shape
        half = rng.uniform(0.12, 0.3, 3) * shape
        body = _draw_ellipsoid(shape, centre, half)
        image[body] += grey - image[body].mean()
        bodies.append(body)
    dtype = np.uint8 if rng.random() < 0.5 else np.int16
    image = np.clip(image + 40, 0, 255).astype(dtype)
    steps = [_draw_prompt(rng, bodies[-1], "point", positive=True)]
    for _ in range(int(rng.integers(3, 10))):
        kind = KINDS[rng.choice(len(KINDS), p=ODDS)]
        steps.append(_draw_prompt(rng, bodies[-1], kind, positive=bool(rng.random() < 0.6)))
        if not steps[-1].predicts:
            steps.append(Step("predict"))
    z, y, x = spacing
    return Visit(image, (z, y, x), tuple(steps))


def _draw_ellipsoid(
    shape: tuple[int, ...], centre: npt.NDArray[np.float64], half: npt.NDArray[np.float64]
) -> Mask:
    away = (np.moveaxis(np.indices(shape), 0, -1) - centre) / half
    inside: Mask = (away**2).sum(-1) < 1
    return inside


def _draw_prompt(rng: np.random.Generator, body: Mask, kind: Kind, positive: bool) -> Step:
    """Draws a prompt about a body: inside of it if positive, and outside if not."""
    if kind in ("undo", "reset"):
        return Step(kind)
    if kind == "initial":
        return Step(kind, mask=np.roll(body, int(rng.integers(-3, 4)), axis=1))
    inside = np.argwhere(body if positive else ~body)
    centre = inside[rng.integers(len(inside))]
    sides = np.array(body.shape)
    predicts = bool(rng.random() < 0.85)
    size = np.ones(3, int)
    if kind != "point":
        size = rng.integers(3, 14, 3)
    if kind == "lasso" or (kind == "box" and rng.random() < 0.7) or kind == "scribble":
        size[rng.integers(3)] = 1  # on one slice of any plane
    low = np.clip(centre - size // 2, 0, sides - size)
    bounds = [[int(a), int(a + n)] for a, n in zip(low, size, strict=True)]
    mask = None
    if kind == "lasso":
        mask = _draw_ellipsoid(tuple(size.tolist()), (size - 1) / 2, size / 2)
    if kind == "scribble":
        mask = np.zeros(size, np.bool_)
        count = int(size.max())
        ends = np.round(np.linspace((0, 0, 0), size - 1, count)).astype(int)
        mask[tuple(ends.T)] = True
    return Step(kind, positive, predicts, bounds, mask)


def run_user(url: str, seed: int, journal: Path) -> None:
    """Is a user, until asked to end; what came of every step is appended to the journal.

    Of what the protocol lets a server say, a full one is asked again, and a session that has ended
    is begun anew. All else ends the process with an error.
    """
    # The client looks for torch, which takes seconds to import, and does without.
    sys.modules["torch"] = None  # type: ignore[assignment]
    from nnInteractive.inference.remote import (
        ServerAtCapacityError,
        SessionExpiredError,
        nnInteractiveRemoteInferenceSession,
    )

    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    rng = np.random.default_rng(seed)
    with journal.open("a", buffering=1) as lines:
        while not ended.is_set():
            try:
                with nnInteractiveRemoteInferenceSession(url, read_timeout=READ_SECONDS) as session:
                    while not ended.is_set():
                        visit_seed = int(rng.integers(2**31))
                        print(json.dumps({"visit": visit_seed}), file=lines)
                        for answer, seconds in draw_visit(visit_seed).answers(session):
                            print(json.dumps({"answer": answer, "seconds": seconds}), file=lines)
                            if ended.is_set():
                                break
            except ServerAtCapacityError:
                print(json.dumps({"event": "full"}), file=lines)
                ended.wait(1)
            except SessionExpiredError:
                print(json.dumps({"event": "expired"}), file=lines)


if __name__ == "__main__":
    run_user(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
