"""Which jobs of a batch may go, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from tests.integration.db.conftest import Bench
from worker.db.batches import Batches, NewBatch, NewRow
from worker.db.places import Places
from worker.domain.errors import NumberNotOwned
from worker.domain.job import StepName

FIRST, *_, LAST = StepName
AtOnce = Callable[[int, Callable[[int], Any]], list[Any]]
_numbers = iter(range(10_000))


@pytest.fixture
def batches(bench: Bench) -> Batches:
    return Batches(bench.engine, resend_after_seconds=2)


@pytest.fixture
def places(bench: Bench) -> Places:
    return Places(bench.engine, resend_after_seconds=2)


def store(bench: Bench, batches: Batches, count: int, **job: Any) -> list[UUID]:
    """Stores a batch of one account; returns its jobs in their order."""
    batch_id = uuid7()
    jobs = [
        bench.new_job(f"+1415555{next(_numbers):04}", batch_id=batch_id, **job)
        for _ in range(count)
    ]
    rows = [
        NewRow(line=line, e164=job.e164, job=job, error=None)
        for line, job in enumerate(jobs, start=1)
    ]
    assert batches.submit(
        NewBatch(
            id=batch_id,
            organization_id=jobs[0].organization_id,
            api_key_id=None,
            idempotency_key=None,
            sealed=bench.vault.seal({"fingerprint": "f"}),
            rows=rows,
            credentials=[],
        )
    )
    return [job.id for job in jobs]


def end(bench: Bench, job_id: UUID) -> None:
    """Lets a job fail and be undone."""
    claim = bench.begin(job_id, FIRST)
    bench.claims.fail(claim, NumberNotOwned(), settle=None)
    undo = bench.claims.begin_undo(job_id, FIRST, attempts=3, lease_seconds=30)
    bench.claims.finish_undo(undo)  # type: ignore[arg-type]


def test_jobs_of_a_batch_are_held_back_until_they_are_let_go(
    bench: Bench, batches: Batches, places: Places
) -> None:
    jobs = store(bench, batches, 5)
    assert list(bench.sweeps.take_due(limit=10)) == []

    assert places.take_held(per_organization=99, per_account=3, limit=10) == jobs[:3]
    assert places.take_held(per_organization=99, per_account=3, limit=10) == []
    # A message that was lost is sent again like any other.
    bench.make_due(jobs[0])
    assert list(bench.sweeps.take_due(limit=10)) == [jobs[0]]


def test_a_job_that_ends_gives_its_place_to_the_next_of_its_account(
    bench: Bench, batches: Batches, places: Places
) -> None:
    jobs = store(bench, batches, 4)
    others = store(bench, batches, 2, account_ref="AC2")
    assert sorted(places.take_held(per_organization=99, per_account=2, limit=4)) == sorted(
        [*jobs[:2], *others]
    )

    assert places.take_held(per_organization=99, per_account=2, limit=10, after=jobs[0]) == [], (
        "it has not ended"
    )
    end(bench, jobs[0])
    end(bench, others[0])
    assert places.take_held(per_organization=99, per_account=2, limit=10, after=jobs[0]) == [
        jobs[2]
    ]
    assert places.take_held(per_organization=99, per_account=2, limit=10, after=jobs[0]) == []


def test_single_imports_never_wait_and_count(
    bench: Bench, batches: Batches, places: Places
) -> None:
    jobs = store(bench, batches, 4)
    singles = [bench.submit(f"+1202555{place:04}") for place in range(2)]

    assert places.take_held(per_organization=99, per_account=3, limit=10) == jobs[:1]
    third = bench.submit("+12025559999")
    bench.begin(third, FIRST)
    assert places.take_held(per_organization=99, per_account=3, limit=10) == []
    for job_id in singles:
        end(bench, job_id)
    assert places.take_held(per_organization=99, per_account=3, limit=10) == jobs[1:2]
    # Where one of its organisation has ended, the next may go, whatever kind each is.
    assert (
        places.take_held(per_organization=99, per_account=9, limit=1, after=singles[0]) == jobs[2:3]
    )


def test_a_limited_account_gets_nothing_while_another_goes_on(
    bench: Bench, batches: Batches, places: Places
) -> None:
    limited = store(bench, batches, 3)
    free = store(bench, batches, 3, account_ref="AC2")
    bench.claims.limit_account("twilio", "AC1", seconds=60)

    assert places.take_held(per_organization=99, per_account=8, limit=10) == free
    bench.sql("UPDATE provider_limits SET until = now() - interval '1 s'")
    assert places.take_held(per_organization=99, per_account=8, limit=10) == limited


def test_organisations_take_turns(bench: Bench, batches: Batches, places: Places) -> None:
    for account in range(10):
        store(bench, batches, 3, account_ref=f"AC1{account}")
    other = bench.directory.create_organization("Other")
    credential = bench.directory.create_credential(
        other, provider="twilio", account_ref="AC9", label="", sealed=bench.vault.seal({})
    )
    late = store(
        bench, batches, 3, account_ref="AC9", organization_id=other, credential_id=credential
    )

    let_go = places.take_held(per_organization=99, per_account=8, limit=6)

    assert len(let_go) == 6
    assert set(late) <= set(let_go)


def test_a_stuck_job_takes_no_place(bench: Bench, batches: Batches, places: Places) -> None:
    jobs = store(bench, batches, 2)
    (first,) = places.take_held(per_organization=99, per_account=1, limit=10)
    claim = bench.begin(first, FIRST)
    bench.claims.fail(claim, NumberNotOwned(), settle=None)
    undo = bench.claims.begin_undo(first, FIRST, attempts=3, lease_seconds=30)
    bench.claims.stick(undo, NumberNotOwned())  # type: ignore[arg-type]

    assert places.take_held(per_organization=99, per_account=1, limit=10, after=first) == [jobs[1]]


def test_many_feeders_at_once_never_exceed_an_accounts_places(
    bench: Bench, batches: Batches, places: Places, at_once: AtOnce
) -> None:
    jobs = store(bench, batches, 30)

    taken = at_once(6, lambda _: places.take_held(per_organization=99, per_account=8, limit=16))

    flat = [job_id for one in taken for job_id in one]
    assert flat == jobs[:8]


def test_cancelling_and_feeding_at_once_leave_nothing_held_and_nothing_twice(
    bench: Bench, batches: Batches, places: Places, at_once: AtOnce
) -> None:
    jobs = store(bench, batches, 40)
    (batch_id,) = bench.sql("SELECT id FROM batches")[0]

    def one(place: int) -> list[UUID]:
        if place == 0:
            return batches.cancel(batch_id)
        return places.take_held(per_organization=99, per_account=8, limit=16)

    under_way, *taken = at_once(5, one)

    let_go = {job_id for one in taken for job_id in one}
    assert set(under_way) == let_go
    states = Counter(state for (state,) in bench.sql("SELECT state FROM import_jobs"))
    assert states == Counter(cancelled=len(jobs) - len(let_go), queued=len(let_go))
    assert bench.sql("SELECT count(*) FROM phone_numbers")[0][0] == len(let_go)


def test_a_batch_that_could_not_be_stored_whole_is_not_stored(
    bench: Bench, batches: Batches
) -> None:
    batch_id = uuid7()
    refused = NewRow(line=1, e164=None, job=None, error=NumberNotOwned())
    job = bench.new_job(batch_id=batch_id)
    batch = NewBatch(
        id=batch_id,
        organization_id=bench.organization_id,
        api_key_id=None,
        idempotency_key=None,
        sealed=b"",
        # The same line twice: the last of its statements fails.
        rows=[refused, refused, NewRow(line=2, e164=job.e164, job=job, error=None)],
        credentials=[],
    )

    with pytest.raises(Exception, match="pk_batch_rows"):
        batches.submit(batch)

    for table in ("batches", "batch_rows", "import_jobs", "phone_numbers"):
        assert bench.sql(f"SELECT count(*) FROM {table}")[0][0] == 0  # noqa: S608 -- our own names
