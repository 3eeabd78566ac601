"""The guard's promises, asked of the real database: who may work, and whose writes count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.db.conftest import Bench
from worker.db.audit import Deed
from worker.db.records import Claim, JobRecord, NewJob, NoClaim
from worker.domain.errors import (
    CredentialInUse,
    CredentialNotFound,
    InvalidState,
    LeaseLost,
    NumberAlreadyImported,
    NumberNotOwned,
    ProviderUnavailable,
    UndoFailed,
)
from worker.domain.job import JobState, StepName, StepState

FIRST, SECOND, *_, LAST = StepName
AtOnce = Callable[[int, Callable[[int], Any]], list[Any]]


def test_a_job_runs_from_queued_to_active(bench: Bench) -> None:
    job_id = bench.submit()
    assert bench.get(job_id).state is JobState.QUEUED
    claim = bench.run_to(job_id, LAST)
    assert bench.get(job_id).state is JobState.RUNNING
    assert bench.finish(claim) is None
    job = bench.get(job_id)
    assert (job.state, job.step, job.lease_until) == (JobState.ACTIVE, None, None)
    assert {record.state for record in job.steps.values()} == {StepState.DONE}
    assert job.finished_at is not None


def test_one_of_many_copies_gets_the_step(bench: Bench, at_once: AtOnce) -> None:
    job_id = bench.submit()
    results = at_once(
        8, lambda _: bench.claims.begin_step(job_id, FIRST, attempts=3, lease_seconds=30)
    )
    assert sum(isinstance(result, Claim) for result in results) == 1
    assert results.count(NoClaim.NOT_OURS) == 7
    assert bench.get(job_id).steps[FIRST].attempts == 1


def test_a_finished_step_is_passed_and_a_later_one_waits(bench: Bench) -> None:
    job_id = bench.submit()
    bench.finish(bench.begin(job_id, FIRST))
    assert bench.claims.begin_step(job_id, FIRST, attempts=3, lease_seconds=30) is NoClaim.PASSED
    assert bench.claims.begin_step(job_id, LAST, attempts=3, lease_seconds=30) is NoClaim.NOT_OURS


def test_a_dead_workers_step_is_taken_over_and_its_late_writes_change_nothing(
    bench: Bench,
) -> None:
    job_id = bench.submit()
    dead = bench.begin(job_id, FIRST)
    bench.expire_lease(job_id)
    successor = bench.begin(job_id, FIRST)
    assert (successor.attempt, successor.fence) == (2, dead.fence + 1)
    with pytest.raises(LeaseLost):
        bench.claims.record_objects(dead, {"trunk": "late"})
    with pytest.raises(LeaseLost):
        bench.finish(dead)
    with pytest.raises(LeaseLost):
        bench.claims.fail(dead, NumberNotOwned(), settle=None)
    with pytest.raises(LeaseLost):
        bench.claims.retry_later(dead, ProviderUnavailable(), delay=1, by_sweep=False, settle=None)
    assert bench.claims.heartbeat(
        [(job_id, dead.fence), (job_id, successor.fence)], lease_seconds=30
    ) == {(job_id, successor.fence)}
    bench.claims.record_objects(successor, {"trunk": "TK1"})
    assert bench.finish(successor) is SECOND
    assert bench.get(job_id).steps[FIRST].objects == {"trunk": "TK1"}


def test_a_step_that_kills_its_worker_runs_out_of_attempts(bench: Bench) -> None:
    job_id = bench.submit()
    for _ in range(3):
        bench.begin(job_id, FIRST)
        bench.expire_lease(job_id)
    assert bench.claims.begin_step(job_id, FIRST, attempts=3, lease_seconds=30) is NoClaim.UNDOING
    job = bench.get(job_id)
    assert (job.state, job.error_code) == (JobState.UNDOING, "internal_error")


def test_nobody_begins_before_the_next_attempt_is_due(bench: Bench) -> None:
    job_id = bench.submit()
    claim = bench.begin(job_id, FIRST)
    error = ProviderUnavailable()
    assert bench.claims.retry_later(claim, error, delay=60, by_sweep=True, settle=None)
    assert bench.claims.begin_step(job_id, FIRST, attempts=3, lease_seconds=1) is NoClaim.NOT_OURS
    record = bench.get(job_id).steps[FIRST]
    assert (record.error_code, record.attempts) == ("provider_unavailable", 1)


def test_a_rate_limited_account_holds_back_all_of_its_jobs_and_no_other(bench: Bench) -> None:
    limited, other = bench.submit(), bench.submit("+12025550123", account_ref="AC2")
    bench.claims.limit_account("twilio", "AC1", seconds=60)
    assert bench.claims.begin_step(limited, FIRST, attempts=3, lease_seconds=1) is NoClaim.NOT_OURS
    assert bench.get(limited).steps == {}
    bench.begin(other, FIRST)


def test_a_shorter_limit_does_not_shorten_a_longer_one(bench: Bench) -> None:
    bench.claims.limit_account("twilio", "AC1", seconds=60)
    bench.claims.limit_account("twilio", "AC1", seconds=0)
    job_id = bench.submit()
    assert bench.claims.begin_step(job_id, FIRST, attempts=3, lease_seconds=1) is NoClaim.NOT_OURS


def _undo_all(bench: Bench, job_id: Any) -> list[StepName]:
    undone = []
    while (step := bench.get(job_id).step) is not None:
        claim = bench.claims.begin_undo(job_id, step, attempts=3, lease_seconds=30)
        assert isinstance(claim, Claim)
        bench.claims.finish_undo(claim)
        undone.append(step)
    return undone


def test_a_failure_is_undone_from_the_failed_step_up(bench: Bench) -> None:
    job_id = bench.submit()
    claim = bench.run_to(job_id, StepName.CONFIGURE_WEBHOOKS)
    bench.claims.fail(claim, NumberNotOwned(), settle=None)
    assert bench.get(job_id).state is JobState.UNDOING
    assert bench.claims.begin_step(job_id, claim.step, attempts=3, lease_seconds=1) is (
        NoClaim.NOT_OURS
    )
    assert _undo_all(bench, job_id) == [
        StepName.CONFIGURE_WEBHOOKS,
        StepName.CHECK_OWNERSHIP,
        StepName.VALIDATE_CREDENTIALS,
    ]
    job = bench.get(job_id)
    assert (job.state, job.error_code, job.error_step) == (
        JobState.FAILED,
        "number_not_owned",
        StepName.CONFIGURE_WEBHOOKS,
    )
    assert bench.sql("SELECT 1 FROM phone_numbers") == []


def test_undo_waits_while_a_lost_write_may_still_land(bench: Bench) -> None:
    job_id = bench.submit()
    claim = bench.begin(job_id, FIRST)
    bench.claims.fail(claim, ProviderUnavailable(outcome_unknown=True), settle=60)
    assert bench.claims.begin_undo(job_id, FIRST, attempts=3, lease_seconds=1) is NoClaim.NOT_OURS
    bench.sql("UPDATE job_steps SET unsettled_until = now()")
    bench.make_due(job_id)
    assert isinstance(bench.claims.begin_undo(job_id, FIRST, attempts=3, lease_seconds=1), Claim)


def test_a_stuck_job_keeps_its_number_and_can_be_resumed(bench: Bench) -> None:
    job_id = bench.submit()
    bench.claims.fail(bench.begin(job_id, FIRST), NumberNotOwned(), settle=None)
    claim = bench.claims.begin_undo(job_id, FIRST, attempts=3, lease_seconds=30)
    assert isinstance(claim, Claim)
    bench.claims.stick(claim, UndoFailed("the trunk is in use"))
    job = bench.get(job_id)
    assert (job.state, job.undo_error_step, job.undo_error_message) == (
        JobState.STUCK,
        FIRST,
        "the trunk is in use",
    )
    with pytest.raises(NumberAlreadyImported):
        bench.submit()
    assert bench.jobs.retry(job_id) is JobState.UNDOING
    assert _undo_all(bench, job_id) == [FIRST]
    assert bench.get(job_id).state is JobState.FAILED


def test_undo_that_kills_its_worker_ends_stuck(bench: Bench) -> None:
    job_id = bench.submit()
    bench.claims.fail(bench.begin(job_id, FIRST), NumberNotOwned(), settle=None)
    for _ in range(2):
        assert isinstance(
            bench.claims.begin_undo(job_id, FIRST, attempts=2, lease_seconds=1), Claim
        )
        bench.expire_lease(job_id)
    assert bench.claims.begin_undo(job_id, FIRST, attempts=2, lease_seconds=1) is NoClaim.NOT_OURS
    assert bench.get(job_id).state is JobState.STUCK


def test_cancelling_a_queued_job_ends_it_at_once(bench: Bench) -> None:
    job_id = bench.submit()
    bench.jobs.cancel(job_id)
    job = bench.get(job_id)
    assert job.state is JobState.CANCELLED
    assert bench.sql("SELECT due_at FROM import_jobs")[0][0] is None
    assert bench.sql("SELECT 1 FROM phone_numbers") == []
    bench.jobs.cancel(job_id)


def test_cancelling_waits_for_the_worker_that_holds_the_step(bench: Bench) -> None:
    job_id = bench.submit()
    claim = bench.run_to(job_id, SECOND)
    assert bench.jobs.cancel(job_id) is JobState.RUNNING
    assert bench.finish(claim) is None
    assert bench.get(job_id).state is JobState.UNDOING
    assert _undo_all(bench, job_id) == [SECOND, FIRST]
    assert bench.get(job_id).state is JobState.CANCELLED


def test_cancelling_between_two_steps_needs_nobody(bench: Bench) -> None:
    job_id = bench.submit()
    bench.finish(bench.begin(job_id, FIRST))
    assert bench.jobs.cancel(job_id) is JobState.UNDOING


def test_cancelling_the_last_step_undoes_the_whole_import(bench: Bench) -> None:
    job_id = bench.submit()
    claim = bench.run_to(job_id, LAST)
    bench.jobs.cancel(job_id)
    assert bench.finish(claim) is None
    assert bench.get(job_id).state is JobState.UNDOING


def test_cancelling_after_a_failed_attempt_does_not_try_again(bench: Bench) -> None:
    job_id = bench.submit()
    claim = bench.begin(job_id, FIRST)
    bench.jobs.cancel(job_id)
    waits = bench.claims.retry_later(
        claim, ProviderUnavailable(), delay=1, by_sweep=False, settle=None
    )
    assert not waits
    assert bench.get(job_id).state is JobState.UNDOING


def test_an_active_import_cannot_be_cancelled_nor_retried(bench: Bench) -> None:
    job_id = bench.submit()
    bench.finish(bench.run_to(job_id, LAST))
    with pytest.raises(InvalidState):
        bench.jobs.cancel(job_id)
    with pytest.raises(InvalidState):
        bench.jobs.retry(job_id)


def test_a_failed_import_can_be_tried_again_unless_the_number_is_taken(bench: Bench) -> None:
    job_id = bench.submit()
    bench.claims.fail(bench.begin(job_id, FIRST), NumberNotOwned(), settle=None)
    _undo_all(bench, job_id)
    other = bench.submit()
    with pytest.raises(NumberAlreadyImported):
        bench.jobs.retry(job_id)
    assert bench.get(job_id).state is JobState.FAILED
    bench.jobs.cancel(other)
    assert bench.jobs.retry(job_id) is JobState.QUEUED
    job = bench.get(job_id)
    assert (job.steps, job.error_code, job.finished_at) == ({}, None, None)
    bench.finish(bench.run_to(job_id, LAST))
    assert bench.get(job_id).state is JobState.ACTIVE


def test_one_number_is_claimed_once_in_the_whole_system(bench: Bench, at_once: AtOnce) -> None:
    elsewhere = bench.directory.create_organization("Other")
    results = at_once(
        8,
        lambda i: bench.jobs.submit(
            bench.new_job(organization_id=elsewhere if i % 2 else bench.organization_id), None
        ),
    )
    assert sum(isinstance(result, JobRecord) for result in results) == 1
    assert sum(isinstance(result, NumberAlreadyImported) for result in results) == 7
    assert bench.sql("SELECT count(*) FROM import_jobs")[0][0] == 1


def test_an_asserted_claim_never_blocks_the_proven_owner(bench: Bench) -> None:
    job = bench.new_job()
    asserted = bench.new_job(request={**job.request, "ownership": "asserted"})
    assert bench.jobs.submit(asserted, None)
    assert bench.jobs.submit(job, None)


def test_one_key_makes_one_job(bench: Bench, at_once: AtOnce) -> None:
    results = at_once(8, lambda _: bench.jobs.submit(bench.new_job(idempotency_key="k"), None))
    assert sum(isinstance(result, JobRecord) for result in results) == 1
    assert results.count(None) == 7
    assert bench.sql("SELECT count(*) FROM import_jobs")[0][0] == 1


def test_an_import_is_audited_where_it_is_stored_and_nowhere_else(bench: Bench) -> None:
    def submit(job: NewJob) -> JobRecord | None:
        deed = Deed(
            organization_id=job.organization_id,
            actor="key",
            action="import.submit",
            subject=str(job.id),
        )
        return bench.jobs.submit(job, None, deed)

    kept = submit(bench.new_job(idempotency_key="k"))
    assert kept is not None
    assert kept == bench.get(kept.id)
    assert submit(bench.new_job("+14155550101", idempotency_key="k")) is None
    with pytest.raises(NumberAlreadyImported):
        submit(bench.new_job())
    assert bench.sql("SELECT subject FROM audit_log") == [(str(kept.id),)]


def test_a_credential_cannot_go_while_a_job_that_needs_it_is_stored(bench: Bench) -> None:
    bench.directory.delete_credential(bench.credential_id)
    with pytest.raises(CredentialNotFound):
        bench.jobs.submit(bench.new_job(), None)
    assert bench.sql("SELECT 1 FROM import_jobs UNION SELECT 1 FROM phone_numbers") == []


def test_a_credential_in_use_cannot_go(bench: Bench) -> None:
    job_id = bench.submit()
    with pytest.raises(CredentialInUse):
        bench.directory.delete_credential(bench.credential_id)
    bench.jobs.cancel(job_id)
    bench.directory.delete_credential(bench.credential_id)
    with pytest.raises(CredentialNotFound):
        bench.jobs.retry(job_id)


def test_a_dead_workers_late_activation_changes_nothing(bench: Bench) -> None:
    job_id = bench.submit()
    dead = bench.run_to(job_id, LAST)
    bench.expire_lease(job_id)
    bench.jobs.cancel(job_id)
    with pytest.raises(LeaseLost):
        bench.finish(dead)
    assert bench.sql("SELECT status FROM phone_numbers")[0][0] == "pending"
    assert len(_undo_all(bench, job_id)) == len(StepName)
    assert bench.sql("SELECT 1 FROM phone_numbers") == []


def test_a_dead_workers_late_deactivation_changes_nothing(bench: Bench) -> None:
    job_id = bench.submit()
    claim = bench.run_to(job_id, LAST)
    bench.jobs.cancel(job_id)
    bench.finish(claim)
    dead = bench.claims.begin_undo(job_id, LAST, attempts=3, lease_seconds=30)
    assert isinstance(dead, Claim)
    bench.expire_lease(job_id)
    _undo_all(bench, job_id)
    bench.jobs.retry(job_id)
    claim = bench.run_to(job_id, LAST)
    bench.finish(claim)
    with pytest.raises(LeaseLost):
        bench.numbers.deactivate(job_id, fence=dead.fence)
    assert bench.get(job_id).state is JobState.ACTIVE
    assert bench.sql("SELECT status FROM phone_numbers") == [("active",)]


def test_a_late_activation_after_a_takeover_changes_nothing(bench: Bench) -> None:
    job_id = bench.submit()
    dead = bench.run_to(job_id, LAST)
    bench.expire_lease(job_id)
    successor = bench.begin(job_id, LAST)
    with pytest.raises(LeaseLost):
        bench.finish(dead, country="late")
    bench.finish(successor, country="US")
    assert bench.sql("SELECT status, country FROM phone_numbers") == [("active", "US")]
