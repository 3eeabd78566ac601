"""Jobs on an active number: release, repair and rebinding, one at a time, each with what was left.

Nothing outside is called here; what a release puts back is in the end-to-end tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from tests.integration.db.conftest import Bench
from worker.db.audit import Deed
from worker.db.records import Claim, JobRecord, NewChange, NoClaim, NumberFacts
from worker.domain.errors import (
    InternalError,
    InvalidState,
    LiveKitUnavailable,
    NotFound,
    NumberAlreadyImported,
    NumberBusy,
    TrunkConflict,
)
from worker.domain.job import JOB_QUEUES, PLANS, JobKind, JobState, StepName, StepState
from worker.domain.values import NumberStatus


def change(bench: Bench, imported: JobRecord, kind: JobKind, **values: Any) -> UUID:
    assert imported.phone_number_id is not None
    new = NewChange(
        id=uuid7(),
        kind=kind,
        organization_id=bench.organization_id,
        api_key_id=None,
        phone_number_id=imported.phone_number_id,
        **values,
    )
    bench.jobs.submit_change(new)
    return new.id


def undo_all(bench: Bench, job_id: UUID) -> list[StepName]:
    undone = []
    while (step := bench.get(job_id).step) is not None:
        claim = bench.claims.begin_undo(job_id, step, attempts=3, lease_seconds=30)
        assert isinstance(claim, Claim), claim
        undone.append(step)
        bench.claims.finish_undo(claim)
    return undone


def number_status(bench: Bench, imported: JobRecord) -> NumberStatus:
    assert imported.phone_number_id is not None
    number = bench.numbers.get(imported.phone_number_id)
    assert number is not None
    return number.status


def run_all(bench: Bench, job_id: UUID, kind: JobKind) -> None:
    for step in PLANS[kind]:
        claim = bench.begin(job_id, step)
        bench.finish(claim)


def test_release_undoes_every_step_with_what_its_import_left(bench: Bench) -> None:
    imported = bench.activate()
    job_id = change(bench, imported, JobKind.RELEASE)
    job = bench.get(job_id)
    assert (job.state, job.kind, job.brought_in_by) == (
        JobState.UNDOING,
        JobKind.RELEASE,
        imported.id,
    )
    assert number_status(bench, imported) is NumberStatus.RELEASING
    for step in StepName:
        assert job.steps[step].objects == {f"{step}_object": f"{step}-1"}
        assert job.steps[step].output == {"found": step}
        assert job.steps[step].sealed == imported.steps[step].sealed
    assert undo_all(bench, job_id) == list(reversed(StepName))
    ended = bench.get(job_id)
    assert (ended.state, ended.error_code) == (JobState.RELEASED, None)
    assert {step.state for step in ended.steps.values()} == {StepState.UNDONE}
    assert number_status(bench, imported) is NumberStatus.RELEASED
    # The import remains what it was: a success of its time.
    assert bench.get(imported.id).state is JobState.ACTIVE


def test_a_released_number_can_be_imported_and_released_again(bench: Bench) -> None:
    first = bench.activate()
    undo_all(bench, change(bench, first, JobKind.RELEASE))
    second = bench.activate()
    assert second.phone_number_id != first.phone_number_id
    undo_all(bench, change(bench, second, JobKind.RELEASE))
    assert number_status(bench, second) is NumberStatus.RELEASED
    with pytest.raises(NotFound):
        change(bench, second, JobKind.RELEASE)


def test_a_number_on_its_way_out_can_neither_be_imported_nor_changed(bench: Bench) -> None:
    imported = bench.activate()
    change(bench, imported, JobKind.RELEASE)
    with pytest.raises(NumberAlreadyImported):
        bench.submit()
    for kind in JobKind.RELEASE, JobKind.REPAIR, JobKind.REBIND:
        with pytest.raises(NumberBusy):
            change(bench, imported, kind)


@pytest.mark.parametrize("kind", [JobKind.RELEASE, JobKind.REPAIR, JobKind.REBIND])
def test_of_jobs_submitted_at_the_same_time_one_is_stored(
    bench: Bench, kind: JobKind, at_once: Callable[..., list[Any]]
) -> None:
    imported = bench.activate()
    results = at_once(8, lambda _: change(bench, imported, kind))
    stored = [result for result in results if isinstance(result, UUID)]
    assert len(stored) == 1
    assert {type(result) for result in results} == {UUID, NumberBusy}
    working = bench.jobs.open_job(imported.phone_number_id)  # type: ignore[arg-type]
    assert working is not None
    assert working.id == stored[0]


def test_release_that_gives_up_is_stuck_and_goes_on_when_retried(bench: Bench) -> None:
    imported = bench.activate()
    job_id = change(bench, imported, JobKind.RELEASE)
    claim = bench.claims.begin_undo(job_id, StepName.PERSIST_NUMBER, attempts=3, lease_seconds=30)
    assert isinstance(claim, Claim)
    bench.claims.finish_undo(claim)
    claim = bench.claims.begin_undo(job_id, StepName.ROUTE_NUMBER, attempts=3, lease_seconds=30)
    assert isinstance(claim, Claim)
    bench.claims.stick(claim, TrunkConflict("a trunk is left"))
    stuck = bench.get(job_id)
    assert (stuck.state, stuck.undo_error_step) == (JobState.STUCK, StepName.ROUTE_NUMBER)
    assert number_status(bench, imported) is NumberStatus.RELEASING
    bench.jobs.retry(job_id)
    assert undo_all(bench, job_id)[0] is StepName.ROUTE_NUMBER
    assert bench.get(job_id).state is JobState.RELEASED


@pytest.mark.parametrize("kind", [JobKind.REPAIR, JobKind.REBIND])
def test_a_change_does_its_own_steps_and_becomes_what_the_next_job_begins_with(
    bench: Bench, kind: JobKind
) -> None:
    imported = bench.activate()
    job_id = change(bench, imported, kind)
    queued = bench.get(job_id)
    assert (queued.state, queued.step) == (JobState.QUEUED, PLANS[kind][0])
    assert {step.state for step in queued.steps.values()} == {StepState.WAITING}
    assert number_status(bench, imported) is NumberStatus.ACTIVE
    for step in PLANS[kind]:
        claim = bench.begin(job_id, step)
        assert claim.attempt == 1
        bench.claims.record_objects(claim, {"made_by": kind})
        number = NumberFacts() if step is StepName.PERSIST_NUMBER else None
        bench.claims.finish_step(claim, output={"found": "anew"}, sealed=b"new", number=number)
    assert bench.get(job_id).state is JobState.ACTIVE
    release = bench.get(change(bench, imported, JobKind.RELEASE))
    assert release.brought_in_by == imported.id
    for step in StepName:
        again = step in PLANS[kind]
        assert release.steps[step].objects.get("made_by") == (kind if again else None)
        assert release.steps[step].objects[f"{step}_object"] == f"{step}-1"
        assert release.steps[step].output["found"] == ("anew" if again else step)


def test_a_change_brings_its_request_and_a_failed_one_leaves_none(bench: Bench) -> None:
    imported = bench.activate()
    wanted = {**imported.request, "friendly_name": "Back office"}
    agent = uuid7()
    deed = Deed(organization_id=bench.organization_id, actor="t", action="agent.create", subject="")
    bench.directory.create_agent(deed, agent, name="a", dispatch_name="agent-a")
    rebind = {"request": wanted, "sealed": b"new", "agent_id": agent, "notify": True}
    failed = change(bench, imported, JobKind.REBIND, **rebind)
    claim = bench.begin(failed, StepName.CREATE_DISPATCH_RULE)
    assert claim.agent_dispatch_name == "agent-a"
    bench.claims.fail(claim, TrunkConflict(), settle=None)
    ended = bench.get(failed)
    assert (ended.state, ended.error_code) == (JobState.FAILED, "trunk_conflict")
    assert ended.step is None
    assert number_status(bench, imported) is NumberStatus.ACTIVE
    following = bench.get(change(bench, imported, JobKind.REPAIR))
    assert (following.request, following.agent_id) == (imported.request, None)


def test_a_failed_change_is_checked_soon_and_can_be_retried(bench: Bench) -> None:
    imported = bench.activate()
    job_id = change(bench, imported, JobKind.REPAIR)
    claim = bench.begin(job_id, StepName.VALIDATE_CREDENTIALS)
    bench.claims.fail(claim, InternalError(), settle=None)
    due = bench.sql("SELECT check_due_at - now() < interval '2 min' FROM phone_numbers")
    assert due == [(True,)]
    bench.jobs.retry(job_id)
    assert bench.get(job_id).state is JobState.QUEUED
    run_all(bench, job_id, JobKind.REPAIR)
    assert bench.get(job_id).state is JobState.ACTIVE


def fail_after_activation(bench: Bench, job_id: UUID, kind: JobKind) -> None:
    """Lets every worker of the release before die between the last step's two writes."""
    *earlier, last = PLANS[kind]
    for step in earlier:
        bench.finish(bench.begin(job_id, step))
    for _ in range(3):
        bench.write_down_first(bench.begin(job_id, last))
        bench.expire_lease(job_id)
    refused = bench.claims.begin_step(job_id, last, attempts=3, lease_seconds=30)
    assert refused is NoClaim.UNDOING
    assert bench.get(job_id).state is JobState.FAILED


@pytest.mark.parametrize("kind", [JobKind.REPAIR, JobKind.REBIND])
def test_a_change_that_failed_after_its_last_write_keeps_what_it_knows_when_retried(
    bench: Bench, kind: JobKind
) -> None:
    imported = bench.activate()
    failed = change(bench, imported, kind)
    fail_after_activation(bench, failed, kind)
    bench.jobs.retry(failed)
    queued = bench.get(failed)
    assert {step.state for step in queued.steps.values()} == {StepState.WAITING}
    assert {step.attempts for step in queued.steps.values()} == {0}
    of_import = imported.steps[StepName.CHECK_OWNERSHIP].sealed
    if kind is JobKind.REBIND:  # a repair reads the routing anew
        assert queued.steps[StepName.CHECK_OWNERSHIP].sealed == of_import
    run_all(bench, failed, kind)
    release = bench.get(change(bench, imported, JobKind.RELEASE))
    for step in StepName:
        assert release.steps[step].objects == {f"{step}_object": f"{step}-1"}
    assert undo_all(bench, release.id) == list(reversed(StepName))


def test_renaming_beside_a_retry_waits_for_it_in_no_circle(
    bench: Bench, at_once: Callable[..., list[Any]]
) -> None:
    for number in range(100, 112):
        imported = bench.activate(f"+1415555{number:04}")
        failed = change(bench, imported, JobKind.REBIND)
        fail_after_activation(bench, failed, JobKind.REBIND)
        found = bench.numbers.get(imported.phone_number_id)  # type: ignore[arg-type]
        assert found is not None
        renamed = {"request": imported.request, "sealed": imported.sealed, "notify": False}

        def act(
            place: int, *, failed: UUID = failed, found: Any = found, renamed: Any = renamed
        ) -> Any:
            if place:
                return bench.jobs.retry(failed)
            return bench.numbers.describe(found, friendly_name="x", details={}, **renamed)

        renaming, retrying = at_once(2, act)
        assert renaming is None or isinstance(renaming, NumberBusy), renaming
        assert retrying is JobState.QUEUED, retrying


@pytest.mark.parametrize("again", ["retry", "another"])
def test_a_change_waits_while_a_lost_write_of_the_one_before_may_still_land(
    bench: Bench, again: str
) -> None:
    imported = bench.activate()
    failed = change(bench, imported, JobKind.REBIND)
    step = StepName.CREATE_DISPATCH_RULE
    lost = LiveKitUnavailable(outcome_unknown=True)
    bench.claims.fail(bench.begin(failed, step), lost, settle=60)
    if again == "retry":
        bench.jobs.retry(failed)
        job_id = failed
    else:
        job_id = change(bench, imported, JobKind.REBIND)
    refused = bench.claims.begin_step(job_id, step, attempts=3, lease_seconds=30)
    assert refused is NoClaim.NOT_OURS
    assert bench.get(job_id).steps[step].attempts == 0
    bench.sql("UPDATE job_steps SET unsettled_until = now()")
    bench.make_due(job_id)
    assert list(bench.sweeps.take_due(limit=9, waiting=JOB_QUEUES)) == [job_id]
    run_all(bench, job_id, JobKind.REBIND)
    assert bench.get(job_id).state is JobState.ACTIVE


def test_a_failed_change_cannot_be_retried_beside_another_or_after_the_release(
    bench: Bench,
) -> None:
    imported = bench.activate()
    failed = change(bench, imported, JobKind.REPAIR)
    bench.claims.fail(
        bench.begin(failed, StepName.VALIDATE_CREDENTIALS), InternalError(), settle=None
    )
    other = change(bench, imported, JobKind.REBIND)
    with pytest.raises(NumberBusy):
        bench.jobs.retry(failed)
    assert bench.get(failed).state is JobState.FAILED
    run_all(bench, other, JobKind.REBIND)
    undo_all(bench, change(bench, imported, JobKind.RELEASE))
    with pytest.raises(NotFound):
        bench.jobs.retry(failed)


def test_a_change_whose_worker_dies_each_time_fails_and_undoes_nothing(bench: Bench) -> None:
    imported = bench.activate()
    job_id = change(bench, imported, JobKind.REBIND)
    step = StepName.CREATE_DISPATCH_RULE
    for _ in range(3):
        bench.begin(job_id, step)
        bench.expire_lease(job_id)
    refused = bench.claims.begin_step(job_id, step, attempts=3, lease_seconds=30)
    assert refused is NoClaim.UNDOING
    assert bench.get(job_id).state is JobState.FAILED
    assert number_status(bench, imported) is NumberStatus.ACTIVE


@pytest.mark.parametrize("kind", [JobKind.RELEASE, JobKind.REPAIR, JobKind.REBIND])
def test_only_an_import_can_be_cancelled(bench: Bench, kind: JobKind) -> None:
    imported = bench.activate()
    job_id = change(bench, imported, kind)
    with pytest.raises(InvalidState):
        bench.jobs.cancel(job_id)


def test_a_dead_workers_change_writes_nothing_after_its_successor(bench: Bench) -> None:
    imported = bench.activate()
    job_id = change(bench, imported, JobKind.REBIND)
    bench.finish(bench.begin(job_id, StepName.CREATE_DISPATCH_RULE))
    dead = bench.begin(job_id, StepName.PERSIST_NUMBER)
    bench.expire_lease(job_id)
    bench.begin(job_id, StepName.PERSIST_NUMBER)
    with pytest.raises(Exception, match="lease_lost"):
        bench.finish(dead, friendly_name="late")


def test_the_end_of_a_job_is_told_in_the_transaction_that_ends_it(bench: Bench) -> None:
    imported = bench.activate(notify=True)
    undo_all(bench, change(bench, imported, JobKind.RELEASE))
    rows = bench.sql("SELECT type, state, payload FROM notifications ORDER BY id")
    assert [(row.type, row.state) for row in rows] == [
        ("import.active", "pending"),
        ("release.released", "pending"),
    ]
    assert rows[0].payload["status"] == "active"
    assert rows[0].payload["phone_number"] == imported.e164


def test_a_number_that_is_renamed_keeps_its_name_through_the_next_job(bench: Bench) -> None:
    imported = bench.activate()
    number = bench.numbers.get(imported.phone_number_id)  # type: ignore[arg-type]
    assert number is not None
    renamed = {**imported.request, "friendly_name": "Back office"}
    new = {"request": renamed, "sealed": imported.sealed, "notify": False}
    bench.numbers.describe(number, friendly_name="Back office", details={}, **new)  # type: ignore[arg-type]
    repair = change(bench, imported, JobKind.REPAIR)
    assert bench.get(repair).request["friendly_name"] == "Back office"
    with pytest.raises(NumberBusy):
        bench.numbers.describe(number, friendly_name="x", details={}, **new)  # type: ignore[arg-type]
