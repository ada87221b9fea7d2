import threading

import pytest

from gamt.server.leases import FullError, LeaseError, Leases


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(clock: Clock) -> Leases[str]:
    """Two places, an idle time of 600 s, signs of life every 60 s."""
    return Leases(2, 600, 60, clock)


def test_a_lease_holds_what_was_made_for_it(leases: Leases[str]) -> None:
    lease = leases.claim(lambda: "mine")
    assert leases.touch(lease.token).held == "mine"


def test_tokens_differ(leases: Leases[str]) -> None:
    assert leases.claim(str).token != leases.claim(str).token


def test_one_more_claim_than_there_are_places_is_refused(leases: Leases[str]) -> None:
    leases.claim(str)
    leases.claim(str)
    with pytest.raises(FullError):
        leases.claim(lambda: pytest.fail("made something for nobody"))
    assert len(leases.clear()) == 2


def test_a_place_is_free_again_after_release(leases: Leases[str]) -> None:
    leases.claim(str)
    token = leases.claim(lambda: "second").token
    released = leases.release(token)
    assert released is not None
    assert released.held == "second"
    assert leases.release(token) is None
    leases.claim(str)


def test_an_unknown_token_has_no_lease(leases: Leases[str]) -> None:
    for ask in (leases.touch, leases.remaining_seconds):
        with pytest.raises(LeaseError):
            ask("unknown")
    with pytest.raises(LeaseError), leases.act("unknown"):
        pass


def test_a_silent_client_loses_its_lease_after_the_liveness_time(
    leases: Leases[str], clock: Clock
) -> None:
    token = leases.claim(str).token
    clock.seconds += 59
    leases.touch(token)
    clock.seconds += 59.9
    assert leases.expire() == []
    clock.seconds += 0.1
    with pytest.raises(LeaseError):
        leases.touch(token)
    assert [lease.token for lease in leases.expire()] == [token]
    assert leases.clear() == []


def test_signs_of_life_do_not_put_off_the_end_of_an_idle_lease(
    leases: Leases[str], clock: Clock
) -> None:
    token = leases.claim(str).token
    for _ in range(19):  # until 570 s
        clock.seconds += 30
        leases.touch(token)
    assert leases.remaining_seconds(token) == 30
    clock.seconds += 30
    assert len(leases.expire()) == 1


def test_an_action_puts_off_both_ends(leases: Leases[str], clock: Clock) -> None:
    token = leases.claim(str).token
    clock.seconds += 50
    with leases.act(token):
        pass
    clock.seconds += 50
    assert leases.remaining_seconds(token) == 550
    assert leases.expire() == []


def test_a_lease_does_not_end_while_the_server_works_for_it(
    leases: Leases[str], clock: Clock
) -> None:
    token = leases.claim(str).token
    with leases.act(token):
        with leases.act(token):
            clock.seconds += 10_000
        clock.seconds += 10_000
        assert leases.expire() == []
        assert leases.touch(token)
        assert leases.remaining_seconds(token) == 600
    assert leases.remaining_seconds(token) == 600  # the user's time begins at the answer
    clock.seconds += 60
    assert len(leases.expire()) == 1


def test_a_lease_may_be_released_while_the_server_works_for_it(leases: Leases[str]) -> None:
    token = leases.claim(str).token
    with leases.act(token):
        assert leases.release(token)
        with pytest.raises(LeaseError):
            leases.touch(token)


def test_an_action_that_fails_ends_as_others_do(leases: Leases[str], clock: Clock) -> None:
    token = leases.claim(str).token
    with pytest.raises(ZeroDivisionError), leases.act(token):
        raise ZeroDivisionError
    clock.seconds += 60
    assert len(leases.expire()) == 1


def test_asking_for_the_time_left_is_no_sign_of_life(leases: Leases[str], clock: Clock) -> None:
    token = leases.claim(str).token
    clock.seconds += 59
    leases.remaining_seconds(token)
    clock.seconds += 1
    assert len(leases.expire()) == 1


def test_without_a_liveness_time_the_user_alone_counts(clock: Clock) -> None:
    leases: Leases[str] = Leases(1, 600, 0, clock)
    leases.claim(str)
    clock.seconds += 599
    assert leases.expire() == []
    clock.seconds += 1
    assert len(leases.expire()) == 1


def test_all_leases_end_at_once(leases: Leases[str]) -> None:
    token = leases.claim(lambda: "mine").token
    assert [lease.held for lease in leases.clear()] == ["mine"]
    with pytest.raises(LeaseError):
        leases.touch(token)


def test_threads_never_take_more_places_than_there_are() -> None:
    leases: Leases[None] = Leases(3, 600, 60)
    taken, refused = [], []
    start = threading.Barrier(8)

    def claim() -> None:
        start.wait()
        try:
            taken.append(leases.claim(lambda: None))
        except FullError as error:
            refused.append(error)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (3, 5)
