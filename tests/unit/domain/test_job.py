from __future__ import annotations

import time

import pytest

from worker.domain.errors import LeaseLost
from worker.domain.job import FINAL, TRANSITIONS, Attempt, JobState, Lease, Retry, StepName


@pytest.mark.parametrize(
    ("attempt", "shortest", "longest"),
    [(1, 1, 2), (2, 2, 4), (3, 4, 8), (6, 30, 60), (20, 30, 60)],
)
def test_waits_double_up_to_a_limit(attempt: int, shortest: float, longest: float) -> None:
    retry = Retry(attempts=9, first_delay=2, longest_delay=60)
    assert retry.delay(attempt, spread=0.0) == shortest
    assert retry.delay(attempt, spread=1.0) == longest


def test_every_state_can_be_reached_and_only_final_ones_rest() -> None:
    reached = {state for following in TRANSITIONS.values() for state in following}
    assert reached == set(JobState)
    assert {state for state in JobState if state not in FINAL} == {
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.UNDOING,
    }


def test_a_lease_refuses_a_call_that_could_outlive_it() -> None:
    lease = Lease(seconds=10)
    lease.require(5)
    with pytest.raises(LeaseLost):
        lease.require(11)
    lease.extend(seconds=10, granted_at=time.monotonic() + 5)
    lease.require(11)
    lease.revoke()
    with pytest.raises(LeaseLost):
        lease.require(0)


def test_a_lease_asks_once_more_before_it_gives_up() -> None:
    def renew() -> None:
        lease.extend(seconds=10, granted_at=time.monotonic())

    lease = Lease(seconds=1, renew=renew)
    lease.require(5)


def test_an_attempt_names_itself_for_vendors() -> None:
    attempt = Attempt(
        import_id="imp_1", step=StepName.ROUTE_NUMBER, number=2, lease=Lease(seconds=1), undo=True
    )
    assert str(attempt) == "imp_1/route_number.undo/2"
