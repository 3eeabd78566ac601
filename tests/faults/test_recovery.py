"""How long jobs stand still, at the default settings: lease 8.5 s, heartbeat 1 s, sweep 1 s."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from celery import Celery

from deploy.local.supervisor import Supervisor
from tests.rig import Rig, eventually, running
from tests.vendors import VENDORS, Order, order_of
from worker.domain.job import StepName
from worker.domain.values import format_id

#: From the kill to the end of the last job that the dead worker held.
GOAL_SECONDS = 15.0
LEASE_SECONDS = 8.5
SWEEP_SECONDS = 1.0
#: A poll of the database and a busy machine, on top of what a sweep may take.
SLACK_SECONDS = 1.0
THREADS = 6


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running(without={"flower"}, env={}, workers=2, worker_concurrency=THREADS) as rig:
        yield rig


def _submit(rig: Rig, copies: int) -> list[str]:
    """Submits imports of every vendor and mode."""
    modes = ("webhook", "sip_trunk")
    orders = [order_of(rig, VENDORS[n % 3], modes[n // 3 % 2]) for n in range(copies)]
    return [_import(rig, order) for order in orders]


def _import(rig: Rig, order: Order) -> str:
    answer = rig.api.post("/v1/imports", json=order.body)
    assert answer.status_code == 202, answer.text
    import_id: str = answer.json()["id"]
    return import_id


def _held(rig: Rig) -> set[str]:
    return {str(row[0]) for row in rig.sql("SELECT id FROM import_jobs WHERE lease_until > now()")}


def _watch_until_final(rig: Rig, jobs: set[str]) -> float:
    """Waits for jobs; returns for how long, at most, one of them ran on an expired lease."""
    named = ",".join(f"'{job}'" for job in jobs)
    waiting = f"SELECT 1 FROM import_jobs WHERE id IN ({named}) AND finished_at IS NULL"  # noqa: S608 -- ours
    expired = (
        "SELECT coalesce(extract(epoch FROM max(now() - lease_until)), 0) FROM import_jobs "
        "WHERE state IN ('running', 'undoing') AND lease_until < now()"
    )
    longest, deadline = 0.0, time.monotonic() + 60
    while rig.sql(waiting):
        assert time.monotonic() < deadline, "they never ended"
        longest = max(longest, float(rig.sql(expired)[0][0]))
        time.sleep(0.1)
    return longest


def _slowest(rig: Rig, named: str) -> str:
    """What the last of these jobs to end did, and when: where its time went."""
    of_them = f"FROM import_jobs WHERE id IN ({named})"
    last = rig.sql(f"SELECT id {of_them} ORDER BY finished_at DESC LIMIT 1")[0][0]
    return repr(rig.job(format_id("imp", last)))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("variant", ["another works on", "all are started again"])
def test_a_killed_workers_jobs_do_not_wait_for_the_backlog(rig: Rig, variant: str) -> None:
    one, other = rig.stack.workers
    rig.fault(write=True, action="delay", seconds=0.1, times=None)
    _submit(rig, 120)
    killed = [one] if variant == "another works on" else [one, other]
    eventually(lambda: len(_held(rig)) >= THREADS)
    with Supervisor(killed if len(killed) > 1 else [], first_delay_seconds=0.2):
        for worker in killed:
            worker.kill()
        died = time.time()
        jobs = _held(rig)
        overdue = _watch_until_final(rig, jobs)
    named = ",".join(f"'{job}'" for job in jobs)
    ended = rig.sql(f"SELECT max(finished_at) FROM import_jobs WHERE id IN ({named})")[0][0]  # noqa: S608 -- ours
    left = rig.sql("SELECT count(*) FROM import_jobs WHERE finished_at IS NULL")[0][0]
    rig.sandbox.delete("/_sandbox/faults")
    rig.settle()
    one.start()
    took = ended.timestamp() - died
    # A machine that is busy with other tests takes longer for each import, above all for the first
    # ones of workers that have just started, since these load the vendors' SDKs: one ends before a
    # thread is free, and another is the rest of the work. That is as long as it takes those that
    # began after the kill, which no sweep has to find.
    usual, cold = rig.sql(
        "SELECT extract(epoch FROM percentile_cont(0.5) WITHIN GROUP "  # noqa: S608 -- ours
        "(ORDER BY finished_at - started_at)), coalesce(extract(epoch FROM "
        f"max(finished_at - started_at) FILTER (WHERE started_at > to_timestamp({died}))), 0) "
        f"FROM import_jobs WHERE id NOT IN ({named})"
    )[0]
    bound = max(GOAL_SECONDS, LEASE_SECONDS + 2 * SWEEP_SECONDS + float(usual) + float(cold))
    print(f"{variant}: {len(jobs)} jobs, {left} behind them, the last after {took:.1f} s")  # noqa: T201
    assert took < bound, f"{left} behind them, {usual} s each; the last: {_slowest(rig, named)}"
    # A thread is free after a step at most, which may be a first one.
    assert overdue < 2 * SWEEP_SECONDS + SLACK_SECONDS + max(float(usual), float(cold))
    assert left > 0, "there was no backlog to wait for: this proved nothing"


@pytest.mark.timeout(90)
def test_a_job_that_was_stored_and_never_sent_starts_within_two_sweeps(rig: Rig) -> None:
    order = order_of(rig, VENDORS[0], "webhook")
    redis_pid, before = rig.stack.redis.pid, _stored(rig)
    assert redis_pid is not None
    os.kill(redis_pid, signal.SIGSTOP)
    try:
        # The API stores the job, and hangs for a second in sending it: there it dies.
        caller = threading.Thread(target=_call_in_vain, args=(rig, order))
        caller.start()
        while _stored(rig) == before:
            time.sleep(0.01)
        rig.stack.api.kill()
        caller.join()
    finally:
        os.kill(redis_pid, signal.SIGCONT)
    assert rig.sql("SELECT count(*) FROM import_jobs WHERE sent_at IS NULL") == [(0,)]
    heard = time.time()
    rig.stack.api.start()
    rig.settle(seconds=30)
    begun = rig.sql("SELECT started_at FROM import_jobs ORDER BY created_at DESC LIMIT 1")[0][0]
    assert begun.timestamp() - heard < 2 * SWEEP_SECONDS + SLACK_SECONDS


def _stored(rig: Rig) -> int:
    count: int = rig.sql("SELECT count(*) FROM import_jobs")[0][0]
    return count


def _call_in_vain(rig: Rig, order: Order) -> None:
    with pytest.raises(httpx.TransportError):
        rig.api.post("/v1/imports", json=order.body)


@pytest.mark.timeout(90)
def test_messages_that_come_three_times_change_nothing(rig: Rig) -> None:
    """At two workers, of the start and of every step, while the jobs run."""
    alone = _submit(rig, 3)
    rig.settle()
    expected = [_writes(rig, import_id) for import_id in alone]
    tasks = ["imports.start", *(f"imports.{step}" for step in StepName)]
    many = _submit(rig, 3)
    with Celery(set_as_current=False) as sender:
        sender.conf.broker_write_url = rig.stack.redis.url
        for task in tasks * 3:
            for import_id in many:
                sender.send_task(task, args=[import_id], queue="imports")
    rig.settle()
    assert [_writes(rig, import_id) for import_id in many] == expected
    assert {rig.job(import_id)["status"] for import_id in many} == {"active"}


def _writes(rig: Rig, import_id: str) -> Counter[tuple[str, str]]:
    return Counter(
        (entry["step"], entry["operation"]) for entry in rig.journal(import_id) if entry["write"]
    )
