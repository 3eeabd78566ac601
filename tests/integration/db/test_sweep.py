"""What the sweep finds, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.db.conftest import Bench
from worker.domain.job import StepName

FIRST, *_, LAST = StepName
AtOnce = Callable[[int, Callable[[int], Any]], list[Any]]


def test_a_job_that_was_just_sent_is_left_alone(bench: Bench) -> None:
    bench.submit()
    assert bench.jobs.take_due(limit=10, queue_is_short=True) == []


def test_a_job_whose_sending_failed_is_taken_at_once(bench: Bench) -> None:
    job_id = bench.submit()
    bench.jobs.sending_failed([job_id])
    assert bench.jobs.take_due(limit=10, queue_is_short=False) == [job_id]
    assert bench.jobs.take_due(limit=10, queue_is_short=True) == []


def test_a_lost_message_is_sent_again_only_while_the_queue_is_short(bench: Bench) -> None:
    job_id = bench.submit()
    bench.make_due(job_id)
    assert bench.jobs.take_due(limit=10, queue_is_short=False) == []
    assert bench.jobs.take_due(limit=10, queue_is_short=True) == [job_id]


def test_a_dead_workers_job_is_taken_however_long_the_queue_is(bench: Bench) -> None:
    job_id = bench.submit()
    bench.begin(job_id, FIRST)
    assert bench.jobs.take_due(limit=10, queue_is_short=True) == []
    bench.expire_lease(job_id)
    assert bench.jobs.take_due(limit=10, queue_is_short=False) == [job_id]


def test_a_living_workers_heartbeat_keeps_the_sweep_away(bench: Bench) -> None:
    job_id = bench.submit()
    claim = bench.begin(job_id, FIRST)
    bench.expire_lease(job_id)
    bench.claims.heartbeat([(job_id, claim.fence)], lease_seconds=30)
    assert bench.jobs.take_due(limit=10, queue_is_short=True) == []


def test_a_final_job_is_never_taken(bench: Bench) -> None:
    job_id = bench.submit()
    bench.finish(bench.run_to(job_id, LAST))
    assert bench.sql("SELECT due_at FROM import_jobs")[0][0] is None
    bench.jobs.sending_failed([job_id])
    assert bench.jobs.take_due(limit=10, queue_is_short=True) == []


def test_many_sweeps_at_once_take_each_job_once(bench: Bench, at_once: AtOnce) -> None:
    ids = [bench.submit(f"+1415555{i:04}") for i in range(100, 140)]
    bench.jobs.sending_failed(ids)
    taken = at_once(4, lambda _: bench.jobs.take_due(limit=15, queue_is_short=True))
    flat = [job_id for batch in taken for job_id in batch]
    assert len(flat) == len(set(flat))
    rest = bench.jobs.take_due(limit=100, queue_is_short=True)
    assert sorted(flat + rest) == sorted(ids)


def test_a_message_that_was_overtaken_is_lost_however_long_the_queue_is(bench: Bench) -> None:
    waits, taken = bench.submit("+14155550101"), bench.submit("+14155550102")
    bench.make_due(waits)
    assert bench.jobs.take_due(limit=10, queue_is_short=False) == []

    # Somebody works on a job that was sent long after it, to the same queue.
    bench.begin(taken, FIRST)
    bench.sql("UPDATE import_jobs SET sent_at = now() + interval '9 s' WHERE id = :id", id=taken)
    bench.sql("UPDATE import_jobs SET backlog = true WHERE id = :id", id=taken)
    assert bench.jobs.take_due(limit=10, queue_is_short=False) == [], "in the other queue"
    bench.sql("UPDATE import_jobs SET backlog = false WHERE id = :id", id=taken)
    assert bench.jobs.take_due(limit=10, queue_is_short=False) == [waits]


def test_each_queue_is_judged_by_its_own_length(bench: Bench) -> None:
    alone, beside = bench.submit("+14155550101"), bench.submit("+14155550102")
    bench.sql("UPDATE import_jobs SET backlog = true WHERE id = :id", id=beside)
    for job_id in (alone, beside):
        bench.make_due(job_id)

    taken = bench.jobs.take_due(limit=9, queue_is_short=True, backlog_is_short=False)
    assert taken == [alone]
    taken = bench.jobs.take_due(limit=9, queue_is_short=False, backlog_is_short=True)
    assert taken == [beside]
