"""What the sweep finds, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.db.conftest import Bench
from worker.domain.job import JOB_QUEUES, JobQueue, StepName

FIRST, *_, LAST = StepName
SINGLES = [queue for queue in JOB_QUEUES if not queue.backlog]
BATCHES = [queue for queue in JOB_QUEUES if queue.backlog]
AtOnce = Callable[[int, Callable[[int], Any]], list[Any]]


def test_a_job_that_was_just_sent_is_left_alone(bench: Bench) -> None:
    bench.submit()
    assert list(bench.sweeps.take_due(limit=10)) == []


def test_a_job_whose_sending_failed_is_taken_at_once(bench: Bench) -> None:
    job_id = bench.submit()
    bench.jobs.sending_failed([job_id])
    assert list(bench.sweeps.take_due(limit=10, waiting=JOB_QUEUES)) == [job_id]
    assert list(bench.sweeps.take_due(limit=10)) == []


def test_a_lost_message_is_sent_again_only_while_the_queue_is_short(bench: Bench) -> None:
    job_id = bench.submit()
    bench.make_due(job_id)
    assert list(bench.sweeps.take_due(limit=10, waiting=JOB_QUEUES)) == []
    assert list(bench.sweeps.take_due(limit=10)) == [job_id]


def test_a_dead_workers_job_is_taken_however_long_the_queue_is(bench: Bench) -> None:
    job_id = bench.submit()
    bench.begin(job_id, FIRST)
    assert list(bench.sweeps.take_due(limit=10)) == []
    bench.expire_lease(job_id)
    assert list(bench.sweeps.take_due(limit=10, waiting=JOB_QUEUES)) == [job_id]


def test_a_living_workers_heartbeat_keeps_the_sweep_away(bench: Bench) -> None:
    job_id = bench.submit()
    claim = bench.begin(job_id, FIRST)
    bench.expire_lease(job_id)
    bench.claims.heartbeat([(job_id, claim.fence)], lease_seconds=30)
    assert list(bench.sweeps.take_due(limit=10)) == []


def test_a_final_job_is_never_taken(bench: Bench) -> None:
    job_id = bench.submit()
    bench.finish(bench.run_to(job_id, LAST))
    assert bench.sql("SELECT due_at FROM import_jobs")[0][0] is None
    bench.jobs.sending_failed([job_id])
    assert list(bench.sweeps.take_due(limit=10)) == []


def test_many_sweeps_at_once_take_each_job_once(bench: Bench, at_once: AtOnce) -> None:
    ids = [bench.submit(f"+1415555{i:04}") for i in range(100, 140)]
    bench.jobs.sending_failed(ids)
    taken = at_once(4, lambda _: bench.sweeps.take_due(limit=15))
    flat = [job_id for batch in taken for job_id in batch]
    assert len(flat) == len(set(flat))
    rest = list(bench.sweeps.take_due(limit=100))
    assert sorted(flat + rest) == sorted(ids)


def test_a_message_of_a_sweep_that_led_to_nothing_is_told_from_the_first(bench: Bench) -> None:
    job_id = bench.submit()
    bench.make_due(job_id)
    assert bench.sweeps.take_due(limit=10) == {job_id: False}
    # As after two seconds, which is when the bench's sweep sends again.
    bench.sql("UPDATE import_jobs SET updated_at = updated_at - interval '2 s', due_at = now()")
    assert bench.sweeps.take_due(limit=10) == {job_id: True}
    bench.sql("UPDATE import_jobs SET due_at = now()")
    bench.expire_lease(bench.begin(job_id, FIRST).job.id)
    assert bench.sweeps.take_due(limit=10) == {job_id: False}


def test_a_message_that_was_overtaken_is_lost_however_long_the_queue_is(bench: Bench) -> None:
    waits, taken = bench.submit("+14155550101"), bench.submit("+14155550102")
    bench.make_due(waits)
    assert bench.sweeps.take_due(limit=10, waiting=JOB_QUEUES) == {}

    # Somebody works on a job that was sent long after it, to the same queue.
    bench.begin(taken, FIRST)
    bench.sql("UPDATE import_jobs SET sent_at = now() + interval '9 s' WHERE id = :id", id=taken)
    bench.sql("UPDATE import_jobs SET backlog = true WHERE id = :id", id=taken)
    assert bench.sweeps.take_due(limit=10, waiting=JOB_QUEUES) == {}, "in the other queue"
    bench.sql("UPDATE import_jobs SET backlog = false WHERE id = :id", id=taken)
    assert bench.sweeps.take_due(limit=10, waiting=JOB_QUEUES) == {waits: False}


def test_each_queue_is_judged_by_its_own_length(bench: Bench) -> None:
    alone, beside = bench.submit("+14155550101"), bench.submit("+14155550102")
    bench.sql("UPDATE import_jobs SET backlog = true WHERE id = :id", id=beside)
    for job_id in (alone, beside):
        bench.make_due(job_id)

    taken = bench.sweeps.take_due(limit=9, waiting=BATCHES)
    assert list(taken) == [alone]
    taken = bench.sweeps.take_due(limit=9, waiting=SINGLES)
    assert list(taken) == [beside]


def test_a_long_queue_of_one_provider_tells_nothing_of_anothers(bench: Bench) -> None:
    twilio, plivo = bench.submit("+14155550101"), bench.submit("+14155550102")
    taken = bench.submit("+14155550103")
    bench.sql("UPDATE import_jobs SET provider = 'plivo' WHERE id IN (:a, :b)", a=plivo, b=taken)
    # Somebody works on a job of Plivo's queue that was sent long after these.
    bench.begin(taken, FIRST)
    bench.sql("UPDATE import_jobs SET sent_at = now() + interval '9 s' WHERE id = :id", id=taken)
    for job_id in (twilio, plivo):
        bench.make_due(job_id)

    assert bench.sweeps.take_due(limit=9, waiting=JOB_QUEUES) == {plivo: False}
    assert bench.sweeps.take_due(limit=9, waiting=[JobQueue("plivo", backlog=False)]) == {
        twilio: False
    }
