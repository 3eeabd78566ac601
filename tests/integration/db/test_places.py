"""Who starts at once, who is held, and who goes next."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from uuid_utils.compat import uuid7

from tests.integration.db.conftest import Bench
from worker.db.batches import Batches, NewBatch, NewRow
from worker.db.places import EXPRESS_PLACES, UNDO_PLACES, Places
from worker.db.records import NewChange
from worker.db.repository import JobRepository
from worker.domain.errors import NumberNotOwned
from worker.domain.job import JOB_QUEUES, JobKind, JobState, StepName

FIRST, *_, LAST = StepName
PLACES = 6
AtOnce = Callable[[int, Callable[[int], Any]], list[Any]]
_numbers = itertools.count()


@pytest.fixture
def jobs(bench: Bench) -> JobRepository:
    return JobRepository(bench.engine, resend_after_seconds=2, organization_concurrency=PLACES)


@pytest.fixture
def places(bench: Bench) -> Places:
    return Places(bench.engine, resend_after_seconds=2)


def submit(bench: Bench, jobs: JobRepository, count: int, **job: Any) -> list[UUID]:
    """Submits imports that come alone; returns them in their order."""
    new = [bench.new_job(f"+1415556{next(_numbers):04}", **job) for _ in range(count)]
    for one in new:
        assert jobs.submit(one, None)
    return [one.id for one in new]


def store(bench: Bench, count: int, *, accounts: int = 1) -> list[UUID]:
    """Stores a batch of so many accounts in turns; returns its jobs in their order."""
    batch_id = uuid7()
    new = [
        bench.new_job(
            f"+1415556{next(_numbers):04}",
            batch_id=batch_id,
            account_ref=f"AC{1 + place % accounts:03}",
        )
        for place in range(count)
    ]
    rows = [NewRow(line=line, e164=job.e164, job=job, error=None) for line, job in enumerate(new)]
    batch = NewBatch(
        id=batch_id,
        organization_id=new[0].organization_id,
        api_key_id=None,
        idempotency_key=None,
        sealed=b"",
        rows=rows,
        credentials=[],
    )
    assert Batches(bench.engine, resend_after_seconds=2).submit(batch)
    return [one.id for one in new]


def other(bench: Bench) -> dict[str, Any]:
    """Another organisation, as a new job names it."""
    organization = bench.directory.create_organization(f"Other {next(_numbers)}")
    credential = bench.directory.create_credential(
        organization, provider="twilio", account_ref="AC9", label="", sealed=b""
    )
    return {"organization_id": organization, "credential_id": credential}


def end(bench: Bench, job_id: UUID) -> None:
    """Lets a job fail and be undone."""
    claim = bench.begin(job_id, FIRST)
    bench.claims.fail(claim, NumberNotOwned(), settle=None)
    undo = bench.claims.begin_undo(job_id, FIRST, attempts=3, lease_seconds=30)
    bench.claims.finish_undo(undo)  # type: ignore[arg-type]


def stick(bench: Bench, job_id: UUID) -> None:
    claim = bench.begin(job_id, FIRST)
    bench.claims.fail(claim, NumberNotOwned(), settle=None)
    undo = bench.claims.begin_undo(job_id, FIRST, attempts=3, lease_seconds=30)
    bench.claims.stick(undo, NumberNotOwned())  # type: ignore[arg-type]


def active(bench: Bench, count: int) -> list[UUID]:
    """Imports numbers to their end; returns them."""
    ended = [bench.activate(f"+1415557{next(_numbers):04}") for _ in range(count)]
    return [job.phone_number_id for job in ended if job.phone_number_id is not None]


def release(jobs: JobRepository, bench: Bench, number: UUID) -> UUID:
    change_id = uuid7()
    jobs.submit_change(
        NewChange(
            id=change_id,
            kind=JobKind.RELEASE,
            organization_id=bench.organization_id,
            api_key_id=None,
            phone_number_id=number,
        )
    )
    return change_id


def held(bench: Bench, ids: list[UUID]) -> list[UUID]:
    return [job_id for job_id in ids if bench.get(job_id).is_held]


def take(places: Places, **changes: Any) -> list[UUID]:
    asked = {"per_organization": PLACES, "per_account": 8, "limit": 16, **changes}
    return places.take_held(**asked)


def test_an_organisation_s_first_jobs_start_at_once_and_the_rest_is_held(
    bench: Bench, jobs: JobRepository, places: Places
) -> None:
    mine = submit(bench, jobs, PLACES + 3)

    assert held(bench, mine) == mine[PLACES:]
    assert {bench.get(job_id).state for job_id in mine} == {JobState.QUEUED}
    lanes = [bench.get(job_id).backlog for job_id in mine]
    assert lanes == [False] * EXPRESS_PLACES + [True] * (PLACES - EXPRESS_PLACES + 3)
    # Nobody else waits for that.
    assert held(bench, submit(bench, jobs, 1, **other(bench))) == []
    assert take(places) == []
    due = bench.sweeps.take_due(limit=99)
    assert not set(due) & set(mine[PLACES:]), "no message of theirs is lost"


def test_a_place_that_is_free_goes_to_the_oldest_and_to_nobody_who_comes_later(
    bench: Bench, jobs: JobRepository, places: Places
) -> None:
    mine = submit(bench, jobs, PLACES + 3)
    assert take(places, after=mine[0]) == [], "it has not ended"
    end(bench, mine[0])

    late = submit(bench, jobs, 1)

    assert held(bench, late) == late, "others have waited longer"
    assert take(places, after=mine[0]) == [mine[PLACES]]
    assert take(places, after=mine[0]) == []
    assert bench.get(mine[PLACES]).backlog


def test_undoing_goes_first_then_single_jobs_then_rows_of_batches(
    bench: Bench, jobs: JobRepository, places: Places
) -> None:
    numbers = active(bench, UNDO_PLACES + 2)
    rows = store(bench, 3)
    mine = submit(bench, jobs, PLACES + 2)
    undoing = [release(jobs, bench, number) for number in numbers]

    # A live number is on its way back: some places are for that alone.
    assert held(bench, undoing) == undoing[UNDO_PLACES:]
    assert {bench.get(job_id).state for job_id in undoing} == {JobState.UNDOING}
    assert take(places) == []
    for job_id in mine[:PLACES]:
        end(bench, job_id)
    # What is undoing has four of the places by now, and takes the next two.
    assert take(places) == undoing[UNDO_PLACES:]
    assert take(places, per_organization=PLACES + 1) == mine[PLACES : PLACES + 1]
    assert take(places, per_organization=PLACES + 3) == [mine[PLACES + 1], rows[0]]


def test_organisations_take_turns(bench: Bench, jobs: JobRepository, places: Places) -> None:
    mine = submit(bench, jobs, PLACES + 10)
    theirs = submit(bench, jobs, PLACES + 3, **other(bench))
    for job_id in (*mine[:PLACES], *theirs[:PLACES]):
        end(bench, job_id)

    going = take(places, limit=6)

    assert sorted(going) == sorted([*mine[PLACES : PLACES + 3], *theirs[PLACES : PLACES + 3]])


def test_nothing_of_an_account_goes_while_its_provider_limits_it(
    bench: Bench, jobs: JobRepository, places: Places
) -> None:
    mine = submit(bench, jobs, PLACES + 2)
    free = submit(bench, jobs, 1, account_ref="AC2")
    for job_id in mine[:PLACES]:
        end(bench, job_id)
    bench.claims.limit_account("twilio", "AC1", seconds=60)

    assert take(places) == free
    bench.sql("UPDATE provider_limits SET until = now() - interval '1 s'")
    assert take(places) == mine[PLACES:]


def test_an_old_message_begins_a_held_job_once(
    bench: Bench, jobs: JobRepository, places: Places
) -> None:
    """It was sent before the job was retried, say; out of turn, and it takes a place."""
    *others, last = submit(bench, jobs, PLACES + 1)

    bench.begin(last, FIRST)

    assert held(bench, [last]) == []
    end(bench, others[0])
    assert take(places) == []


def test_a_held_import_is_cancelled_at_once_and_gives_its_number_back(
    bench: Bench, jobs: JobRepository, places: Places
) -> None:
    *others, last = submit(bench, jobs, PLACES + 1)

    jobs.cancel(last)

    job = bench.get(last)
    assert (job.state, job.steps) == (JobState.CANCELLED, {})
    assert bench.sql("SELECT 1 FROM phone_numbers WHERE import_id = :id", id=last) == []
    end(bench, others[0])
    assert take(places) == []


def test_a_retry_waits_for_a_place_like_everybody(
    bench: Bench, jobs: JobRepository, places: Places
) -> None:
    (failed,) = submit(bench, jobs, 1)
    end(bench, failed)
    (stuck,) = submit(bench, jobs, 1)
    stick(bench, stuck)
    mine = submit(bench, jobs, PLACES)

    jobs.retry(failed)
    jobs.retry(stuck)

    assert held(bench, [failed]) == [failed]
    assert held(bench, [stuck]) == [], "undoing has places of its own"
    end(bench, mine[0])
    end(bench, mine[1])
    assert take(places) == [failed]


def test_a_row_of_a_batch_that_is_held_undoing_is_not_cancelled_with_it(
    bench: Bench, jobs: JobRepository, places: Places
) -> None:
    numbers = active(bench, UNDO_PLACES)
    (row, *_) = store(bench, 2)
    assert take(places, limit=1) == [row]
    stick(bench, row)
    submit(bench, jobs, PLACES)
    for number in numbers:
        release(jobs, bench, number)
    jobs.retry(row)
    assert held(bench, [row]) == [row]
    (batch_id,) = bench.sql("SELECT id FROM batches")[0]

    Batches(bench.engine, resend_after_seconds=2).cancel(batch_id)

    assert bench.get(row).state is JobState.UNDOING, "what it left outside is still to be undone"
    assert take(places, per_organization=PLACES + 2) == [row]


def test_many_feeders_at_once_never_exceed_an_organisation_s_places(
    bench: Bench, jobs: JobRepository, places: Places, at_once: AtOnce
) -> None:
    mine = submit(bench, jobs, PLACES + 20)
    for job_id in mine[:4]:
        end(bench, job_id)

    taken = at_once(6, lambda place: take(places, after=mine[place % 4] if place else None))

    assert sorted(itertools.chain(*taken)) == mine[PLACES : PLACES + 4]


def test_a_feeder_that_dies_before_it_sends_strands_nobody(
    bench: Bench, jobs: JobRepository, places: Places
) -> None:
    mine = submit(bench, jobs, PLACES + 1)
    end(bench, mine[0])
    assert take(places) == [mine[PLACES]]  # and nothing is sent
    bench.make_due(mine[PLACES])

    assert list(bench.sweeps.take_due(limit=9)) == [mine[PLACES]]


def test_accounts_of_a_batch_beyond_those_looked_at_get_their_turn(
    bench: Bench, places: Places
) -> None:
    rows = store(bench, 230, accounts=230)

    assert len(take(places, per_organization=999, limit=999)) == 200
    assert sorted(take(places, per_organization=999, limit=999)) == rows[200:]


# What it costs


@pytest.fixture
def crowd(bench: Bench) -> Callable[[int], None]:
    """Adds jobs that are held: half of them in a batch, half alone, of one account."""

    def add(count: int) -> None:
        (batch_id,) = store(bench, 1)
        bench.sql(
            """
            INSERT INTO import_jobs (id, organization_id, state, provider, e164, credential_id,
                account_ref, request, sealed, batch_id, backlog, step)
            SELECT gen_random_uuid(), organization_id, 'queued', provider, 'x', credential_id,
                account_ref, request, sealed, CASE WHEN n % 2 = 0 THEN batch_id END, true, step
            FROM import_jobs, generate_series(1, :count) AS n WHERE id = :id
            """,
            count=count,
            id=batch_id,
        )
        bench.sql("ANALYZE import_jobs")

    return add


def pages_of(bench: Bench, monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any]) -> int:
    """How many pages the statements of a call read, by the plans that Postgres ran."""
    dialect = type(bench.engine.dialect)
    execute: Callable[..., None] = dialect.do_execute
    pages: list[int] = []

    def explained(self: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if "import_jobs" in statement:
            alone = cursor.connection.autocommit
            cursor.execute("BEGIN" if alone else "SAVEPOINT before")
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", parameters)
            # The first line of its kind is the whole plan's.
            whole = next(row[0] for row in cursor.fetchall() if "Buffers:" in row[0])
            pages.extend(int(number) for number in re.findall(r"(?:hit|read)=(\d+)", whole))
            cursor.execute("ROLLBACK" if alone else "ROLLBACK TO before")
        execute(self, cursor, statement, parameters, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(dialect, "do_execute", explained)
        call()
    assert pages
    return sum(pages)


def test_what_a_submit_and_a_feeding_read_does_not_grow_with_what_is_held(
    bench: Bench,
    jobs: JobRepository,
    places: Places,
    crowd: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = submit(bench, jobs, PLACES)
    end(bench, mine[0])
    later = iter([f"+1415559{place:04}" for place in range(9)])

    def measured() -> dict[str, int]:
        new = bench.new_job(next(later), **other(bench))
        calls: dict[str, Callable[[], Any]] = {
            "submit": lambda: jobs.submit(new, None),
            "sweep": lambda: bench.sweeps.take_due(limit=500, waiting=JOB_QUEUES),
            "feed": lambda: take(places, limit=1),
            "feed after": lambda: take(places, after=mine[0], limit=1),
        }
        for job_id in mine[1:]:
            bench.sql("UPDATE import_jobs SET due_at = now() WHERE id = :id", id=job_id)
        return {name: pages_of(bench, monkeypatch, call) for name, call in calls.items()}

    crowd(1000)
    few = measured()
    crowd(19_000)
    many = measured()

    assert all(many[name] <= 2 * few[name] + 40 for name in many), (few, many)
    assert max(many.values()) < 1000, many


def test_the_sweep_asks_an_index_of_what_is_under_way(
    bench: Bench, crowd: Callable[[int], None]
) -> None:
    crowd(20_000)
    bench.submit()
    with bench.engine.connect() as connection:
        rows = connection.execute(
            text("EXPLAIN SELECT id FROM import_jobs WHERE due_at <= now() ORDER BY due_at")
        ).scalars()
        plan = "\n".join(rows)
    assert "Seq Scan" not in plan, plan
