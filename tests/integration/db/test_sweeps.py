"""Begun jobs go on first, and what was never sent is found at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Final
from uuid import UUID

import pytest
from sqlalchemy import event

from tests.integration.db.conftest import Bench
from worker.db.repository import JobRepository
from worker.db.sweeps import NOTHING
from worker.domain.errors import ProviderUnavailable
from worker.domain.job import JOB_QUEUES, JobQueue, StepName

FIRST, SECOND, *_ = StepName


def numbered(bench: Bench, count: int) -> list[UUID]:
    return [bench.submit(f"+1415555{number:04}") for number in range(200, 200 + count)]


def test_a_dead_workers_jobs_are_all_taken_however_few_places_there_are(bench: Bench) -> None:
    jobs = numbered(bench, 5)
    for job_id in jobs:
        bench.begin(job_id, FIRST)
        bench.expire_lease(job_id)
    assert sorted(bench.sweeps.take_stranded(limit=2)) == sorted(jobs)
    assert bench.sweeps.take_stranded(limit=2) == {}


def test_a_job_between_two_steps_is_taken_when_its_message_is_overdue(bench: Bench) -> None:
    job_id = bench.submit()
    bench.run_to(job_id, SECOND)
    bench.sql("UPDATE import_jobs SET lease_until = NULL")
    assert bench.sweeps.take_stranded(limit=10) == {}
    bench.make_due(job_id)
    assert bench.sweeps.take_stranded(limit=0) == {}
    assert bench.sweeps.take_stranded(limit=10) == {job_id: False}


def test_a_message_that_led_to_nothing_is_told_from_one_that_was_never_sent(bench: Bench) -> None:
    job_id = bench.submit()
    bench.begin(job_id, FIRST)
    bench.expire_lease(job_id)
    assert bench.sweeps.take_stranded(limit=10) == {job_id: False}
    bench.sql("UPDATE import_jobs SET due_at = now(), updated_at = now() - interval '6 s'")
    assert bench.sweeps.take_stranded(limit=10) == {job_id: True}


def test_a_retry_that_is_due_is_taken(bench: Bench) -> None:
    job_id = bench.submit()
    claim = bench.begin(job_id, FIRST)
    bench.claims.retry_later(claim, ProviderUnavailable(), delay=0, by_sweep=True, settle=None)
    assert bench.sweeps.take_stranded(limit=10) == {job_id: False}


def test_a_job_that_has_not_begun_does_not_overtake_those_that_wait(bench: Bench) -> None:
    job_id = bench.submit()
    bench.make_due(job_id)
    assert bench.sweeps.take_stranded(limit=10) == {}


def test_what_was_stored_and_never_sent_is_taken_soon_and_once(bench: Bench) -> None:
    job_id = bench.submit()
    assert bench.sweeps.take_unpublished(limit=10) == {}
    bench.sql("UPDATE import_jobs SET sent_at = sent_at - interval '1 s'")
    assert bench.sweeps.take_unpublished(limit=10) == {job_id: False}
    assert bench.sweeps.take_unpublished(limit=10) == {}


def test_what_is_sent_in_vain_time_and_again_is_for_this_worker_itself(bench: Bench) -> None:
    job_id = bench.submit()
    # A worker of the release before gets each message, and may not work on it.
    bench.sql("UPDATE import_jobs SET updated_at = updated_at - interval '9 s'")
    bench.sql("UPDATE import_jobs SET sent_at = sent_at - interval '1 s'")
    assert bench.sweeps.take_unpublished(limit=10) == {job_id: True}


def test_what_was_never_sent_waits_while_messages_wait_in_its_queue(bench: Bench) -> None:
    job_id = bench.submit()
    bench.sql("UPDATE import_jobs SET sent_at = sent_at - interval '1 s'")
    others = {JobQueue("plivo", backlog=False), JobQueue("twilio", backlog=True)}
    assert bench.sweeps.take_unpublished(limit=10, waiting=JOB_QUEUES) == {}
    assert bench.sweeps.take_unpublished(limit=10, waiting=others) == {job_id: False}


def test_a_job_that_has_begun_is_not_one_that_was_never_sent(bench: Bench) -> None:
    bench.begin(bench.submit(), FIRST)
    bench.sql("UPDATE import_jobs SET sent_at = sent_at - interval '1 h'")
    assert bench.sweeps.take_unpublished(limit=10) == {}


def test_a_sweep_leaves_its_time(bench: Bench) -> None:
    bench.sql("UPDATE sweeps SET swept_at = now() - interval '40 s'")
    assert 40 <= bench.sweeps.age_seconds() < 100
    bench.sweeps.note()
    assert bench.sweeps.age_seconds() < 30


def unpublished(bench: Bench) -> None:
    bench.submit()
    bench.sql("UPDATE import_jobs SET sent_at = sent_at - interval '1 s'")


def dead(bench: Bench) -> None:
    job_id = bench.submit()
    bench.begin(job_id, FIRST)
    bench.expire_lease(job_id)


def to_be_retried(bench: Bench) -> None:
    claim = bench.begin(bench.submit(), FIRST)
    bench.claims.retry_later(claim, ProviderUnavailable(), delay=0, by_sweep=True, settle=None)


def held(bench: Bench) -> None:
    jobs = JobRepository(bench.engine, resend_after_seconds=2, organization_concurrency=0)
    assert jobs.submit(bench.new_job(), None)


def held_in_batch(bench: Bench) -> None:
    held(bench)
    bench.sql(
        "WITH new AS ("
        "  INSERT INTO batches (id, organization_id, sealed)"
        "  SELECT gen_random_uuid(), organization_id, sealed FROM import_jobs RETURNING id"
        ") UPDATE import_jobs SET batch_id = new.id FROM new"
    )


def to_be_checked(bench: Bench) -> None:
    bench.activate()
    bench.sql("UPDATE phone_numbers SET check_due_at = now()")


def to_be_told(bench: Bench) -> None:
    bench.finish(bench.run_to(bench.submit(notify=True), [*StepName][-1]))


#: What there is to do → what a look says of it.
CAUSES: Final[dict[Callable[[Bench], None], dict[str, bool | int]]] = {
    unpublished: {"is_unpublished": True},
    dead: {"is_due": True},
    to_be_retried: {"is_due": True},
    held: {"is_held": True},
    held_in_batch: {"is_held": True},
    to_be_checked: {"is_check_due": True},
    to_be_told: {"letters": 1},
}


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.__name__)
def test_a_look_sees_what_there_is_to_do_and_notes_no_sweep(
    bench: Bench, cause: Callable[[Bench], None]
) -> None:
    bench.sql("UPDATE sweeps SET swept_at = now() - interval '1 h'")
    cause(bench)
    look = bench.sweeps.look(letters=3)
    assert asdict(look) == asdict(NOTHING) | CAUSES[cause]
    assert bench.sweeps.age_seconds() > 3599
    bench.sweeps.note()
    assert bench.sweeps.age_seconds() < 60


def test_a_sweep_that_finds_nothing_is_one_statement_and_is_noted(bench: Bench) -> None:
    bench.sql("UPDATE sweeps SET swept_at = now() - interval '1 h'")
    bench.activate("+14155550301")
    claim = bench.begin(bench.submit(), FIRST)
    bench.sql("UPDATE import_jobs SET due_at = now() - interval '1 s' WHERE due_at IS NOT NULL")
    bench.claims.heartbeat([(claim.job.id, claim.fence)], lease_seconds=30)
    sent: list[str] = []
    event.listen(
        bench.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: sent.append(statement),
    )
    assert bench.sweeps.look(letters=3) == NOTHING
    assert len(sent) == 1
    assert bench.sweeps.age_seconds() < 60


def test_letters_are_counted_up_to_a_number(bench: Bench) -> None:
    to_be_told(bench)
    bench.sql("""INSERT INTO notifications (id, organization_id, job_id, secrets_of, type, payload,
        state, attempts, due_at, created_at) SELECT gen_random_uuid(), organization_id, job_id,
        secrets_of, type, payload, state, attempts, due_at, created_at
        FROM notifications, generate_series(1, 5)""")
    assert bench.sweeps.look(letters=9).letters == 6
    assert bench.sweeps.look(letters=3).letters == 3
