"""Whole parts of the product go away under running imports."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from tests.faults.scenes import Scene, verdict
from tests.rig import Customer, Rig

WEBHOOK = Scene(mode="webhook", fails=False)


def _submit(rig: Rig, copies: int) -> dict[str, Customer]:
    """Starts imports that take about two seconds each."""
    customers = [rig.customer() for _ in range(copies)]
    for customer in customers:
        rig.fault(account=customer.sid, write=True, action="delay", seconds=0.4, times=None)
    return {rig.submit(customer)["id"]: customer for customer in customers}


@pytest.mark.timeout(120)
def test_every_import_ends_though_redis_is_emptied(rig: Rig) -> None:
    rig.stack.workers[0].start()
    customers = _submit(rig, 20)
    broker = redis.Redis.from_url(rig.stack.redis.url)
    for _ in range(3):
        time.sleep(0.4)
        broker.flushall()
    broker.close()
    rig.wait(customers, seconds=60)
    rig.stack.workers[0].stop()
    assert not verdict(rig, WEBHOOK, customers)


@pytest.mark.timeout(120)
def test_submit_answers_without_redis_and_the_sweep_sends_later(rig: Rig) -> None:
    rig.stack.redis.stop()
    started = time.monotonic()
    customers = _submit(rig, 5)
    assert time.monotonic() - started < 5
    rig.stack.redis.start()
    rig.stack.workers[0].start()
    rig.wait(customers, seconds=60)
    rig.stack.workers[0].stop()
    assert not verdict(rig, WEBHOOK, customers)


@pytest.mark.timeout(120)
def test_submit_answers_though_redis_hangs(rig: Rig) -> None:
    warm = _submit(rig, 1)  # the API has a connection by now
    redis_pid = rig.stack.redis.pid
    assert redis_pid is not None
    os.kill(redis_pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        customers = warm | _submit(rig, 5)
        assert time.monotonic() - started < 8
    finally:
        os.kill(redis_pid, signal.SIGCONT)
    rig.stack.workers[0].start()
    rig.wait(customers, seconds=60)
    rig.stack.workers[0].stop()
    assert not verdict(rig, WEBHOOK, customers)


@pytest.mark.timeout(120)
def test_many_submits_at_once_are_answered_though_redis_hangs(rig: Rig) -> None:
    # More than the API has connections to the broker: some find none free while the rest wait.
    customers = [rig.customer() for _ in range(14)]
    redis_pid = rig.stack.redis.pid
    assert redis_pid is not None
    os.kill(redis_pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(len(customers)) as pool:
            answers = list(
                pool.map(lambda one: rig.api.post("/v1/imports", json=one.request), customers)
            )
    finally:
        os.kill(redis_pid, signal.SIGCONT)
    assert [answer.status_code for answer in answers] == [202] * len(customers)
    rig.stack.workers[0].start()
    rig.wait([answer.json()["id"] for answer in answers], seconds=60)
    rig.stack.workers[0].stop()


@pytest.mark.timeout(120)
def test_the_leases_of_a_killed_worker_run_out_by_themselves(rig: Rig) -> None:
    worker = rig.stack.workers[0]
    worker.start()
    customers = _submit(rig, 20)
    time.sleep(0.8)
    worker.kill()
    worker.start()
    restarted = time.monotonic()
    rig.wait(customers, seconds=60)
    # The lease (3 s), the sweep (0.3 s) and the work that was left (about 2 s).
    assert time.monotonic() - restarted < 12
    worker.stop()
    assert not verdict(rig, WEBHOOK, customers)
