"""One user's session, through whatever has the methods of nnInteractive's session.

``python -m tests.server.scenario URL FILE`` goes through it with the client that is found first on
the path, and writes what came of each step.
"""

import importlib.metadata
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

SHAPE = (12, 30, 43)
SPACING_MM = (3.0, 1.0, 0.8)

Step = tuple[Any, npt.NDArray[np.uint8]]
"""What a call returned, and the target buffer after it."""


def draw_image() -> npt.NDArray[np.int16]:
    """Returns (1, z, y, x): two ellipsoids in noise, the second one apart from the first."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    image = np.random.default_rng(3).normal(0, 8, SHAPE)
    image[((z - 6) / 4) ** 2 + ((y - 13) / 8) ** 2 + ((x - 14) / 9) ** 2 <= 1] += 100
    image[((z - 5) / 3) ** 2 + ((y - 17) / 6) ** 2 + ((x - 34) / 5) ** 2 <= 1] += 100
    return image.round().astype(np.int16)[None]


def go_through(session: Any) -> list[Step]:
    """Prompts and steps of all kinds, one after the other.

    Args:
        session: a client, or a session in process.
    """
    image = draw_image()
    target = np.zeros(SHAPE, np.uint8)
    steps: list[Step] = []

    def note(returned: Any) -> None:
        steps.append((returned, target.copy()))

    session.set_image(image, {"spacing": SPACING_MM})
    session.set_target_buffer(target)
    note(session.reset_interactions())
    note(session.add_bbox_interaction([[6, 7], [5, 22], [5, 24]], True))
    note(session.add_point_interaction([6, 13, 14], True))
    note(session.add_point_interaction((6, 5, 14), False))
    note(session.undo())
    note(session.undo())
    note(session.reset_interactions())

    lasso = np.ones((1, 9, 11), np.uint8)
    note(session.add_lasso_interaction(lasso, True, interaction_bbox=[[5, 6], [9, 18], [9, 20]]))
    note(session.reset_interactions())

    line = np.zeros(SHAPE, np.uint8)
    line[6, 9:18, 14] = 1
    note(session.add_scribble_interaction(line, True))
    note(session.add_point_interaction([5, 17, 34], True, run_prediction=False))
    note(session.add_point_interaction([11, 29, 42], False))

    both = (image[0] > 50).astype(np.uint8)
    note(session.add_initial_seg_interaction(both))
    note(session.add_point_interaction([5, 17, 34], False))
    note(session.add_bbox_interaction([[2, 9], [9, 25], [28, 41]], False))
    for _ in range(3):
        note(session.undo())
    return steps


def connect(url: str) -> Any:
    """Returns a client of the server at `url`, and checks what it is told."""
    from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession

    client = nnInteractiveRemoteInferenceSession(url)
    client.set_do_autozoom(True)
    assert client.ping()
    assert 0 < client.heartbeat() <= client.lease_status()["idle_timeout_seconds"]
    assert client.supports_undo
    return client


def _main(url: str, path: str) -> None:
    with connect(url) as client:
        steps = go_through(client)
    np.savez(
        path,
        version=importlib.metadata.version("nninteractive-client"),
        returned=[repr(returned) for returned, _ in steps],
        targets=[target for _, target in steps],
    )


if __name__ == "__main__":
    _main(*sys.argv[1:])
