"""What one release makes of rows that another one wrote."""

from __future__ import annotations

from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from tests.integration.db.conftest import Bench
from worker.db import moves
from worker.db.records import Claim, JobRecord, NewChange, NoClaim
from worker.domain import job as words
from worker.domain.errors import InvalidState, WebhookSetupFailed
from worker.domain.job import JobKind, JobState, StepName, StepState

FIRST, SECOND, *_, LAST = StepName
#: Something that a newer release might write → the row of a running job that it would be in.
UNKNOWN = {
    "the cursor": "UPDATE import_jobs SET step = 'reserve_channel'",
    "a step": "UPDATE job_steps SET step = 'reserve_channel'",
    "a field of the request": """UPDATE import_jobs SET request = request || '{"tone": "low"}'""",
    "the kind": "UPDATE import_jobs SET kind = 'port'",
    "the state": "UPDATE import_jobs SET state = 'paused'",
    "a step's state": "UPDATE job_steps SET state = 'skipped'",
}


@pytest.fixture
def running(bench: Bench) -> UUID:
    """A job that has done its first step; a newer schema's constraints would be wider."""
    for table, name in (("import_jobs", "kind"), ("import_jobs", "state"), ("job_steps", "state")):
        bench.sql(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{name}")
    job_id = bench.submit()
    bench.finish(bench.begin(job_id, FIRST))
    return job_id


@pytest.mark.parametrize("change", UNKNOWN)
def test_a_job_that_is_not_understood_is_shown_and_left_alone(
    bench: Bench, running: UUID, change: str
) -> None:
    bench.sql(UNKNOWN[change])
    job = bench.get(running)
    assert not job.is_understood
    assert [one.id for one in bench.jobs.list_jobs(bench.organization_id, limit=9)] == [running]
    before = bench.sql("SELECT * FROM import_jobs")
    for step in StepName:
        claims = bench.claims
        done = claims.begin_step(running, step, attempts=3, lease_seconds=30)
        undone = claims.begin_undo(running, step, attempts=3, lease_seconds=30)
        assert (done, undone) == (NoClaim.NOT_OURS, NoClaim.NOT_OURS)
    assert bench.sql("SELECT * FROM import_jobs") == before


@pytest.mark.parametrize(
    "change", sorted(UNKNOWN.keys() - {"a field of the request", "a step's state"})
)
def test_the_sweep_leaves_it_to_the_release_that_knows(
    bench: Bench, running: UUID, change: str
) -> None:
    bench.make_due(running)
    bench.sql(UNKNOWN[change])
    assert bench.sweeps.take_due(limit=10) == {}
    assert bench.jobs.count_of_newer_release() == 1


def test_to_cancel_it_is_noted_for_the_release_that_can(bench: Bench, running: UUID) -> None:
    bench.sql(UNKNOWN["a step"])
    assert bench.jobs.cancel(running) is JobState.RUNNING
    assert bench.get(running).cancel_requested_at is not None
    # Now it is known what there is to undo.
    bench.sql("UPDATE job_steps SET step = :step", step=FIRST)
    done = bench.claims.begin_step(running, SECOND, attempts=3, lease_seconds=30)
    assert (done, bench.get(running).step) == (NoClaim.UNDOING, FIRST)


def test_a_kind_that_is_not_known_is_not_retried(bench: Bench, running: UUID) -> None:
    bench.sql("UPDATE import_jobs SET kind = 'port', state = 'failed'")
    with pytest.raises(InvalidState, match="newer release"):
        bench.jobs.retry(running)


def test_a_queued_job_begins_where_this_release_begins(bench: Bench) -> None:
    job_id = bench.submit()
    # The first step of the release before.
    bench.sql("UPDATE import_jobs SET step = :step", step=SECOND)
    begun = bench.claims.begin_step(job_id, SECOND, attempts=3, lease_seconds=30)
    assert (begun, bench.get(job_id).step) == (NoClaim.MOVED, FIRST)
    assert bench.begin(job_id, FIRST).step is FIRST


def test_undo_begins_at_the_last_step_that_began_wherever_the_cursor_is(bench: Bench) -> None:
    job = _release(bench, bench.activate())
    # Asked for by the API of a release that had no such last step.
    bench.sql("UPDATE import_jobs SET step = :step WHERE id = :id", step=SECOND, id=job.id)
    begun = bench.claims.begin_undo(job.id, SECOND, attempts=3, lease_seconds=30)
    assert (begun, bench.get(job.id).step) == (NoClaim.MOVED, LAST)


def test_a_release_of_a_number_without_the_newest_step_begins_before_it(bench: Bench) -> None:
    imported = bench.activate()
    bench.sql("DELETE FROM job_steps WHERE step = :step", step=LAST)
    job = _release(bench, imported)
    before = list(StepName)[-2]
    begun = bench.claims.begin_undo(job.id, LAST, attempts=3, lease_seconds=30)
    assert (begun, bench.get(job.id).step) == (NoClaim.MOVED, before)


def test_what_a_failed_repair_made_in_a_step_new_to_the_number_is_kept(bench: Bench) -> None:
    imported = bench.activate()
    bench.sql("DELETE FROM job_steps WHERE step = :step", step=SECOND)
    repair = NewChange(
        id=uuid7(),
        kind=JobKind.REPAIR,
        organization_id=bench.organization_id,
        api_key_id=None,
        phone_number_id=_number(imported),
    )
    bench.jobs.submit_change(repair)
    bench.finish(bench.begin(repair.id, FIRST))
    claim = bench.begin(repair.id, SECOND)
    bench.claims.record_objects(claim, {"trunk": "TK1"})
    bench.claims.fail(claim, WebhookSetupFailed(), settle=None)
    kept = bench.get(imported.id).steps[SECOND]
    assert (kept.objects, kept.state) == ({"trunk": "TK1"}, StepState.DONE)
    # So the release of the number finds it.
    assert _release(bench, imported).steps[SECOND].objects == {"trunk": "TK1"}


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> str:
    """A step whose rows still carry the name that the release before gave it."""
    former = {"create_rule": StepName.CREATE_DISPATCH_RULE}
    monkeypatch.setattr(words, "FORMER_NAMES", former)
    monkeypatch.setattr(moves, "FORMER_NAMES", former)
    return "create_rule"


def test_a_renamed_step_is_one_step(bench: Bench, renamed: str) -> None:
    imported = bench.activate()
    now = StepName.CREATE_DISPATCH_RULE
    bench.sql("UPDATE job_steps SET step = :former WHERE step = :now", former=renamed, now=now)
    assert bench.get(imported.id).steps[now].output == {"found": now}
    job = _release(bench, imported)
    bench.sql("UPDATE import_jobs SET step = :step WHERE id = :id", step=renamed, id=job.id)
    bench.sql(
        "UPDATE job_steps SET state = 'undone' WHERE job_id = :id AND step IN (:a, :b)",
        id=job.id,
        a=StepName.ROUTE_NUMBER,
        b=StepName.PERSIST_NUMBER,
    )
    claim = bench.claims.begin_undo(job.id, now, attempts=3, lease_seconds=30)
    assert isinstance(claim, Claim), claim
    assert bench.claims.finish_undo(claim) is StepName.PROVISION_TRUNKS
    found = bench.sql("SELECT step FROM job_steps WHERE job_id = :id", id=job.id)
    assert sorted(row.step for row in found) == sorted(StepName)


def _number(job: JobRecord) -> UUID:
    assert job.phone_number_id is not None
    return job.phone_number_id


def _release(bench: Bench, imported: JobRecord) -> JobRecord:
    change = NewChange(
        id=uuid7(),
        kind=JobKind.RELEASE,
        organization_id=bench.organization_id,
        api_key_id=None,
        phone_number_id=_number(imported),
    )
    bench.jobs.submit_change(change)
    return bench.get(change.id)
