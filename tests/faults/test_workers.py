"""Workers whose connection to the broker dies take work again, or are started again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping

import pytest
import redis

from deploy.local.service import Service
from deploy.local.services import Surroundings, worker
from deploy.local.supervisor import Supervisor
from tests.faults.scenes import Scene, verdict
from tests.faults.wire import Wire
from tests.rig import Rig, eventually
from worker.pulse import STALLED_EXIT_CODE

WEBHOOK = Scene(mode="webhook", fails=False)
STALL_SECONDS = 8
STALL = {"TRUNKLINE_STALL_SECONDS": str(STALL_SECONDS)}


def _worker(
    rig: Rig, name: str, concurrency: int, environment: Mapping[str, str], url: str | None = None
) -> Service:
    url = url or rig.stack.redis.url
    around = Surroundings(
        environment={**rig.stack.environment, **environment, "TRUNKLINE_BROKER_URL": url},
        run_dir=rig.stack.run_dir,
        logs_dir=rig.stack.logs_dir,
        broker_url=url,
    )
    return worker(around, name, concurrency)


@pytest.mark.timeout(180)
def test_a_worker_that_never_hears_of_work_again_is_started_again_and_a_busy_one_is_not(
    rig: Rig,
) -> None:
    patient = {"TRUNKLINE_LEASE_SECONDS": "300", "TRUNKLINE_READ_TIMEOUT_SECONDS": "120"}
    busy = _worker(rig, "busy", 2, {**STALL, **patient})
    slow = [rig.customer() for _ in range(2)]
    with Wire(rig.stack.redis.port) as wire:
        deaf = _worker(rig, "deaf", 4, STALL, wire.url)
        busy.start()
        for customer in slow:
            rig.fault(account=customer.sid, write=True, action="delay", seconds=2 * STALL_SECONDS)
        customers = {rig.submit(customer)["id"]: customer for customer in slow}
        eventually(lambda: len(_leased(rig)) == len(slow))
        busy_pid = busy.pid
        deaf.start()
        with Supervisor([busy, deaf]) as supervisor:
            wire.deafen()
            # Redis answers who waits for work at least once a second.
            time.sleep(1.5)
            wire.mend()
            unheard = [rig.customer() for _ in range(3)]
            customers |= {rig.submit(customer)["id"]: customer for customer in unheard}
            rig.wait(customers, seconds=90)
            restarts = [(restart.name, restart.exit_code) for restart in supervisor.restarts]
        assert restarts == [("deaf", STALLED_EXIT_CODE)]
        assert busy.pid == busy_pid
        deaf.stop()
        busy.stop()
    assert not verdict(rig, WEBHOOK, customers)


def _leased(rig: Rig) -> list[tuple[object, ...]]:
    return rig.sql("SELECT id FROM import_jobs WHERE lease_until IS NOT NULL AND step IS NOT NULL")


@pytest.mark.timeout(180)
def test_a_worker_takes_work_again_however_often_redis_is_killed(rig: Rig) -> None:
    alive = _worker(rig, "alive", 16, {})
    alive.start()
    customers = {}
    with Supervisor([alive], first_delay_seconds=0.1):
        for down_seconds in (0.0, 1.0, 2.0):
            for _ in range(5):
                customer = rig.customer()
                rig.fault(account=customer.sid, write=True, action="delay", seconds=0.2, times=None)
                customers[rig.submit(customer)["id"]] = customer
            time.sleep(0.5)
            rig.stack.redis.kill()
            time.sleep(down_seconds)
            rig.stack.redis.start()
            fresh = rig.customer()
            customers[rig.submit(fresh)["id"]] = fresh
            rig.wait(customers, seconds=45)
    alive.stop()
    assert not verdict(rig, WEBHOOK, customers)


@pytest.mark.timeout(180)
def test_a_worker_outlives_a_redis_that_hangs_and_connections_that_are_cut(rig: Rig) -> None:
    alive = _worker(rig, "alive", 16, STALL)
    alive.start()
    pid, redis_pid = alive.pid, rig.stack.redis.pid
    assert redis_pid is not None
    customers = {}
    os.kill(redis_pid, signal.SIGSTOP)
    try:
        # Longer than the watchdog's patience: that Redis is away is not the worker's fault.
        time.sleep(1.5 * STALL_SECONDS)
    finally:
        os.kill(redis_pid, signal.SIGCONT)
    first = rig.customer()
    customers[rig.submit(first)["id"]] = first
    rig.wait(customers, seconds=30)
    broker = redis.Redis.from_url(rig.stack.redis.url)
    for _ in range(3):
        for kind in ("normal", "pubsub"):
            broker.client_kill_filter(_type=kind, skipme=True)
        customer = rig.customer()
        customers[rig.submit(customer)["id"]] = customer
    broker.close()
    rig.wait(customers, seconds=30)
    assert (alive.alive, alive.pid) == (True, pid)
    alive.stop()
    assert not verdict(rig, WEBHOOK, customers)
