from __future__ import annotations

from uuid import UUID

import pytest

from tests.chaos.history import Change, Kill, double_claims, kills_of, spread, undisturbed

A, B = UUID(int=1), UUID(int=2)


def change(at: float, job: UUID, fence: int, who: str, **more: object) -> Change:
    values: dict[str, object] = {"state": "running", "leased": True, "left_of_old_lease": None}
    return Change(at=at, job=job, fence=fence, who=who, **{**values, **more})  # type: ignore[arg-type]


def test_the_jobs_of_a_killed_worker_are_those_that_it_held() -> None:
    changes = [
        change(1, A, 1, "worker1"),
        change(1, B, 1, "worker2"),
        change(2, B, 1, "worker2", leased=False),
        change(14, A, 2, "worker2"),
        change(15, B, 2, "worker1"),
    ]
    (kill,) = kills_of(changes, [("worker1", 3.0)])
    assert kill.taken_over == {A: 11.0}
    assert kill.seconds == 11.0
    assert kill.lost == []
    assert kills_of(changes, [("worker2", 3.0)])[0].taken_over == {}


def test_what_a_worker_finished_with_its_last_breath_was_not_held() -> None:
    changes = [change(1, A, 1, "worker1"), change(3.1, A, 1, "worker1", leased=False)]
    assert kills_of(changes, [("worker1", 3.0)])[0].taken_over == {}


def test_a_job_that_nobody_took_over_is_lost() -> None:
    (kill,) = kills_of([change(1, A, 1, "worker1")], [("worker1", 3.0)])
    assert kill.lost == [A]
    assert kill.seconds is None


def test_a_kill_counts_until_the_last_of_its_jobs() -> None:
    changes = [
        change(1, A, 1, "worker1"),
        change(1, B, 1, "worker1"),
        change(9, A, 2, "worker2"),
        change(10, B, 1, "api", state="cancelled", leased=False),
    ]
    assert kills_of(changes, [("worker1", 3.0)])[0].seconds == 7.0


@pytest.mark.parametrize(
    ("blow", "calm"),
    [((1.0, 3.0), True), ((5.0, 6.0), False), ((1.0, 3.5), False), ((20, 21), True)],
)
def test_a_recovery_is_undisturbed_if_nothing_else_was_down(
    blow: tuple[float, float], *, calm: bool
) -> None:
    kill = Kill(worker="worker1", at=3.0, taken_over={A: 10.0})
    assert bool(undisturbed([kill], [blow])) == calm


def test_a_claim_on_a_living_lease_is_seen() -> None:
    fair = [change(1, A, 1, "worker1"), change(12, A, 2, "worker2", left_of_old_lease=-1.0)]
    assert double_claims(fair) == []
    early = change(5, A, 2, "worker2", left_of_old_lease=6.0)
    assert double_claims([change(1, A, 1, "worker1"), early]) == [early]


def test_the_spread_of_nothing_is_none() -> None:
    assert spread([]) is None
    assert spread([1.0, 2.0, 9.0]) == {"median": 2.0, "max": 9.0}
