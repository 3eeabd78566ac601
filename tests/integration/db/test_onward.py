"""One statement ends a step and claims the next; whatever hinders it makes it change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import event
from uuid_utils.compat import uuid7

from tests.integration.db.conftest import Bench
from worker.db import onward
from worker.db.engine import one_statement
from worker.db.records import Claim, JobRecord, NewChange, NoClaim, NumberFacts
from worker.db.sweeps import Sweeps
from worker.domain.errors import LeaseLost
from worker.domain.job import JobKind, JobState, StepName, StepState
from worker.metrics import NO_ERROR

FIRST, SECOND, THIRD, *_, LAST = StepName
AtOnce = Callable[[int, Callable[[int], Any]], list[Any]]
#: What the two ways of going on may differ in: the clock, and how often the row was written.
_TIMES = {
    "lease_until",
    "due_at",
    "updated_at",
    "started_at",
    "created_at",
    "finished_at",
    "sent_at",
}
#: Of a statement, in characters: psycopg's MAX_CACHED_STATEMENT_LENGTH, which is private.
LONGEST_TRANSLATED_ONCE = 4096


def _go_on(bench: Bench, claim: Claim, to: StepName = SECOND) -> Claim | None:
    return bench.claims.go_on(
        claim, output={"found": 1}, sealed=b"s", to=to, attempts=3, lease_seconds=30
    )


def _rows(bench: Bench, job_id: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    (job,) = bench.sql("SELECT * FROM import_jobs WHERE id = :id", id=job_id)
    steps = bench.sql("SELECT * FROM job_steps WHERE job_id = :id ORDER BY step", id=job_id)
    keep = {"id", "job_id", "phone_number_id", "version", "sealed", *_TIMES}
    return (
        {name: value for name, value in job._mapping.items() if name not in keep | {"e164"}},
        [{k: v for k, v in step._mapping.items() if k not in keep} for step in steps],
    )


def _of_claim(claim: Claim) -> dict[str, Any]:
    """What a claim says beside its job."""
    return {name: value for name, value in vars(claim).items() if name != "job"}


def test_going_on_leaves_what_ending_a_step_and_claiming_the_next_leave(bench: Bench) -> None:
    at_once, one_by_one = bench.submit(), bench.submit("+14155550101")
    first, other = bench.begin(at_once, FIRST), bench.begin(one_by_one, FIRST)
    for claim in (first, other):
        bench.claims.record_objects(claim, {"trunk": "TK1"})
    following = _go_on(bench, first)
    assert following is not None
    bench.claims.finish_step(other, output={"found": 1}, sealed=b"s")
    expected = bench.begin(one_by_one, SECOND)
    assert _rows(bench, at_once) == _rows(bench, one_by_one)
    assert following.job == bench.get(at_once)
    assert _of_claim(following) == _of_claim(expected)
    assert following.job.steps[FIRST].objects == {"trunk": "TK1"}


def test_a_whole_import_goes_on_to_its_last_step(bench: Bench) -> None:
    job_id = bench.submit()
    claim: Claim | None = bench.begin(job_id, FIRST)
    for step in tuple(StepName)[1:]:
        assert claim is not None
        claim = _go_on(bench, claim, step)
    assert claim is not None
    assert claim.step is LAST
    assert bench.finish(claim) is None
    job = bench.get(job_id)
    assert job.state is JobState.ACTIVE
    assert {step.attempts for step in job.steps.values()} == {1}


def _begin_first(bench: Bench, job: JobRecord) -> Claim | None:
    return bench.claims.begin_first(job.id, lease_seconds=30)


def test_the_first_step_is_claimed_in_one_statement_as_in_a_transaction(bench: Bench) -> None:
    at_once, as_ever = bench.submit(), bench.submit("+14155550101")
    claim = _begin_first(bench, bench.get(at_once))
    assert claim is not None
    expected = bench.begin(as_ever, FIRST)
    assert _rows(bench, at_once) == _rows(bench, as_ever)
    assert claim.job == bench.get(at_once)
    assert _of_claim(claim) == _of_claim(expected)
    assert _go_on(bench, claim) is not None


def test_of_many_that_begin_a_job_one_claims_it(bench: Bench, at_once: AtOnce) -> None:
    job = bench.get(bench.submit())
    claims = at_once(8, lambda _: _begin_first(bench, job))
    assert len([claim for claim in claims if claim is not None]) == 1
    assert [step.attempts for step in bench.get(job.id).steps.values()] == [1]


@pytest.mark.parametrize(
    "hinder",
    [
        lambda bench, job: bench.jobs.cancel(job.id),
        lambda bench, _job: bench.claims.limit_account("twilio", "AC1", seconds=60),
        lambda bench, job: bench.begin(job.id, FIRST),
        lambda bench, job: bench.expire_lease(bench.begin(job.id, FIRST).job.id),
        lambda bench, job: bench.sql(
            "INSERT INTO job_steps (job_id, step, state, attempts, unsettled_until) "
            "VALUES (:id, :step, 'waiting', 1, now() + interval '1 h')",
            id=job.id,
            step=FIRST,
        ),
        lambda bench, job: bench.sql(
            "UPDATE import_jobs SET next_attempt_at = now() + interval '1 h' WHERE id = :id",
            id=job.id,
        ),
        lambda bench, job: bench.sql(
            "UPDATE import_jobs SET step = :step WHERE id = :id", id=job.id, step=SECOND
        ),
        lambda bench, job: bench.sql(
            "UPDATE import_jobs SET request = request || '{\"of_tomorrow\": 1}' WHERE id = :id",
            id=job.id,
        ),
        lambda bench, job: bench.sql(
            "UPDATE import_jobs SET kind = 'repair' WHERE id = :id", id=job.id
        ),
    ],
    ids=[
        *("cancelled", "limited", "claimed", "expired", "unsettled", "postponed"),
        *("elsewhere", "of a newer release", "no import"),
    ],
)
def test_what_hinders_the_first_claim_leaves_all_as_it_was(
    bench: Bench, hinder: Callable[[Bench, JobRecord], object]
) -> None:
    job = bench.get(bench.submit())
    hinder(bench, job)
    before = _rows(bench, job.id)
    assert _begin_first(bench, job) is None
    assert _rows(bench, job.id) == before


def _cancel(bench: Bench, claim: Claim) -> None:
    bench.jobs.cancel(claim.job.id)


def _limit(bench: Bench, _claim: Claim) -> None:
    bench.claims.limit_account("twilio", "AC1", seconds=60)


def _use_up(bench: Bench, claim: Claim) -> None:
    bench.sql(
        "INSERT INTO job_steps (job_id, step, state, attempts) VALUES (:id, :step, 'running', 3)",
        id=claim.job.id,
        step=SECOND,
    )


def _unsettle(bench: Bench, claim: Claim) -> None:
    bench.sql(
        "INSERT INTO job_steps (job_id, step, state, unsettled_until) "
        "VALUES (:id, :step, 'waiting', now() + interval '9 s')",
        id=claim.job.id,
        step=SECOND,
    )


def _take_over(bench: Bench, claim: Claim) -> None:
    bench.expire_lease(claim.job.id)
    bench.begin(claim.job.id, FIRST)


def _turn_round(bench: Bench, claim: Claim) -> None:
    bench.expire_lease(claim.job.id)
    bench.jobs.cancel(claim.job.id)


@pytest.mark.parametrize("hinder", [_cancel, _limit, _use_up, _unsettle, _take_over, _turn_round])
def test_what_hinders_a_job_leaves_it_as_it_is(
    bench: Bench, hinder: Callable[[Bench, Claim], None]
) -> None:
    claim = bench.begin(bench.submit(), FIRST)
    hinder(bench, claim)
    before = _rows(bench, claim.job.id)
    assert _go_on(bench, claim) is None
    assert _rows(bench, claim.job.id) == before


def test_after_a_cancellation_the_long_way_turns_the_job_round(bench: Bench) -> None:
    claim = bench.begin(bench.submit(), FIRST)
    _cancel(bench, claim)
    assert _go_on(bench, claim) is None
    assert bench.finish(claim) is None
    assert bench.get(claim.job.id).state is JobState.UNDOING


def test_a_rate_limit_lets_the_step_end_and_the_next_one_wait(bench: Bench) -> None:
    claim = bench.begin(bench.submit(), FIRST)
    _limit(bench, claim)
    assert _go_on(bench, claim) is None
    assert bench.finish(claim) is SECOND
    job_id = claim.job.id
    assert bench.claims.begin_step(job_id, SECOND, attempts=3, lease_seconds=1) is NoClaim.NOT_OURS
    job = bench.get(job_id)
    assert (job.step, set(job.steps)) == (SECOND, {FIRST})


def test_a_claim_goes_on_once(bench: Bench, at_once: AtOnce) -> None:
    claim = bench.begin(bench.submit(), FIRST)
    results = at_once(8, lambda _: _go_on(bench, claim))
    assert sum(isinstance(result, Claim) for result in results) == 1
    assert results.count(None) == 7
    assert bench.get(claim.job.id).steps[SECOND].attempts == 1
    with pytest.raises(LeaseLost):
        bench.finish(claim)


def _repair(bench: Bench, number_id: UUID) -> UUID:
    change = NewChange(
        id=uuid7(),
        kind=JobKind.REPAIR,
        organization_id=bench.organization_id,
        api_key_id=None,
        phone_number_id=number_id,
    )
    bench.jobs.submit_change(change)
    return change.id


def test_a_step_that_a_repair_took_over_begins_anew(bench: Bench) -> None:
    number_id = bench.activate().phone_number_id
    assert number_id is not None
    claim = bench.begin(_repair(bench, number_id), FIRST)
    assert claim.job.steps[SECOND].attempts == 0
    following = _go_on(bench, claim)
    assert following is not None
    assert (following.attempt, following.job.steps[SECOND].state) == (1, StepState.RUNNING)
    # What the import made is still known.
    assert following.job.steps[SECOND].objects == {f"{SECOND}_object": f"{SECOND}-1"}
    assert following.job.steps[SECOND].started_at > claim.job.created_at


FACTS = NumberFacts(
    friendly_name="Front desk",
    details={"price": None},
    provider_number_id="PN1",
    country="US",
    sms_capable=True,
    inbound_trunk_id="ST_1",
    outbound_trunk_id="ST_2",
    dispatch_rule_id="SDR_1",
    check_in=3600,
)


def _end(bench: Bench, claim: Claim) -> bool | None:
    return bench.claims.end(claim, output={"found": 1}, sealed=b"s", number=FACTS)


def _number(bench: Bench, claim: Claim) -> dict[str, Any]:
    (row,) = bench.sql("SELECT * FROM phone_numbers WHERE import_id = :id", id=claim.job.id)
    times = {"created_at", "updated_at", "check_due_at"}
    own = {"id", "e164", "import_id", "job_id"}
    return {name: value for name, value in row._mapping.items() if name not in times | own}


@pytest.mark.parametrize("notify", [False, True])
def test_the_end_leaves_what_the_long_way_leaves(bench: Bench, *, notify: bool) -> None:
    at_once = bench.run_to(bench.submit(notify=notify), LAST)
    other = bench.run_to(bench.submit("+14155550101", notify=notify), LAST)
    assert _end(bench, at_once) is False
    following = bench.claims.finish_step(other, output={"found": 1}, sealed=b"s", number=FACTS)
    assert following is None
    assert _rows(bench, at_once.job.id) == _rows(bench, other.job.id)
    assert _number(bench, at_once) == _number(bench, other)
    assert bench.get(at_once.job.id).state is JobState.ACTIVE
    numbers = bench.sql(
        "SELECT status, country, check_due_at - now() BETWEEN interval '59 min' AND "
        "interval '61 min', job_id FROM phone_numbers ORDER BY e164"
    )
    jobs = sorted([at_once.job, other.job], key=lambda job: job.e164)
    assert numbers == [("active", "US", True, job.id) for job in jobs]
    told = bench.sql("SELECT type, payload ->> 'status', job_id FROM notifications ORDER BY id")
    both = [("import.active", "active", claim.job.id) for claim in (at_once, other)]
    assert told == (both if notify else [])


def test_the_end_is_counted(bench: Bench) -> None:
    def counted() -> float:
        found = REGISTRY.get_sample_value(
            "trunkline_jobs_ended_total",
            {"kind": "import", "provider": "twilio", "state": "active", "error_code": NO_ERROR},
        )
        return found or 0.0

    before = counted()
    assert _end(bench, bench.run_to(bench.submit(), LAST)) is False
    assert counted() == before + 1


def test_the_end_tells_whether_somebody_waits_for_the_place(bench: Bench) -> None:
    claim = bench.run_to(bench.submit(), LAST)
    waiting = bench.submit("+14155550101")
    bench.sql("UPDATE import_jobs SET due_at = NULL, sent_at = NULL WHERE id = :id", id=waiting)
    assert _end(bench, claim) is True


def _lose_number(bench: Bench, claim: Claim) -> None:
    bench.sql("DELETE FROM phone_numbers WHERE import_id = :id", id=claim.job.id)


def _take_the_last_over(bench: Bench, claim: Claim) -> None:
    bench.expire_lease(claim.job.id)
    bench.begin(claim.job.id, LAST)


@pytest.mark.parametrize("hinder", [_cancel, _take_the_last_over, _turn_round, _lose_number])
def test_what_hinders_the_end_leaves_all_as_it_is(
    bench: Bench, hinder: Callable[[Bench, Claim], None]
) -> None:
    claim = bench.run_to(bench.submit(), LAST)
    hinder(bench, claim)
    before = _rows(bench, claim.job.id), bench.sql("SELECT status FROM phone_numbers")
    assert _end(bench, claim) is None
    assert before == (_rows(bench, claim.job.id), bench.sql("SELECT status FROM phone_numbers"))


def test_a_job_ends_once(bench: Bench, at_once: AtOnce) -> None:
    claim = bench.run_to(bench.submit(notify=True), LAST)
    results = at_once(8, lambda _: _end(bench, claim))
    assert sorted(results, key=str) == [False, *[None] * 7]
    assert len(bench.sql("SELECT 1 FROM notifications")) == 1
    with pytest.raises(LeaseLost):
        bench.finish(claim)


def test_a_sweep_leaves_a_job_alone_whose_lease_was_renewed_from_step_to_step(bench: Bench) -> None:
    claim = bench.begin(bench.submit(), FIRST)
    bench.sql("UPDATE import_jobs SET due_at = now() - interval '1 s'")
    assert _go_on(bench, claim) is not None
    sweeps = Sweeps(bench.engine, resend_after_seconds=5)
    assert sweeps.take_stranded(limit=9) == {}
    assert sweeps.take_due(limit=9) == {}
    bench.sql("UPDATE import_jobs SET lease_until = now() - interval '1 s'")
    assert set(sweeps.take_stranded(limit=9)) == {claim.job.id}


def test_each_move_is_one_statement(bench: Bench) -> None:
    job = bench.get(bench.submit())
    last = bench.run_to(bench.submit("+14155550101"), LAST)
    sent: list[str] = []
    event.listen(
        bench.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, *_: sent.append(statement),
    )
    claim = _begin_first(bench, job)
    assert claim is not None
    assert _go_on(bench, claim) is not None
    assert _end(bench, last) is not None
    assert len(sent) == 3


def test_statements_that_move_a_job_are_prepared_and_stay_so(bench: Bench) -> None:
    for statement in (onward.FIRST, onward.NEXT, onward.LAST):
        assert len(statement.text) <= LONGEST_TRANSLATED_ONCE, "psycopg translates it each time"
    job_id = bench.submit()
    for _ in range(3):
        assert bench.jobs.get(job_id) is not None
        assert bench.directory.get_organization(bench.organization_id) is not None
    with one_statement(bench.engine).connect() as connection:
        found = connection.exec_driver_sql("SELECT statement FROM pg_prepared_statements").all()
    assert any("FROM import_jobs" in row.statement for row in found), found
    assert any("FROM organizations" in row.statement for row in found), found
