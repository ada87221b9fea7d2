"""Progress: what is reported of the slices planned and done."""

from gamt.lifting.progress import Progress


def test_every_change_is_reported_with_both_sums() -> None:
    reported: list[tuple[int, int]] = []
    progress = Progress(lambda done, planned: reported.append((done, planned)))
    progress.plan(7)
    progress.finish(1)
    progress.plan(3)
    progress.finish(9)
    assert reported == [(0, 7), (1, 7), (1, 10), (10, 10)]
