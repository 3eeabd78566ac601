"""RabbitMQ in the place of Redis: imports end active whatever dies, and nothing happens twice."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import amqp.exceptions
import httpx
import pytest

from tests.faults.scenes import Scene, verdict
from tests.rabbitmq import RabbitMQ
from tests.rig import FAST, Customer, Rig, eventually, running
from worker.celery_app import SHARED_QUEUES

WEBHOOK: Final = Scene(mode="webhook", fails=False)
#: The least that there is: a worker that hears of no work ends after about six seconds.
STALL_SECONDS: Final = 5
_AT_WORK: Final = "SELECT count(*) FROM import_jobs WHERE lease_until > now()"


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitMQ]:
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-", ignore_cleanup_errors=True) as directory,
        RabbitMQ(Path(directory)) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def rig(rabbit: RabbitMQ) -> Iterator[Rig]:
    env = {
        **FAST,
        "TRUNKLINE_BROKER_URL": rabbit.url,
        "TRUNKLINE_STALL_SECONDS": str(STALL_SECONDS),
    }
    with running(without={"redis"}, env=env) as rig:
        yield rig


def _submit(rig: Rig, count: int, *, delay_seconds: float = 0.2) -> dict[str, Customer]:
    """Imports whose every outside call takes a while, so that something dies in the midst."""
    customers = {}
    for _ in range(count):
        customer = rig.customer()
        rig.fault(account=customer.sid, action="delay", seconds=delay_seconds, times=None)
        customers[rig.submit(customer)["id"]] = customer
    return customers


def _log(rig: Rig) -> str:
    return rig.stack.workers[0].log_file.read_text()


def test_imports_end_active_through_queues_that_rabbitmq_keeps(rig: Rig, rabbit: RabbitMQ) -> None:
    assert rig.api.get("/readyz").json()["broker"] == "ok"
    customers = {rig.submit(one)["id"]: one for one in (rig.customer() for _ in range(10))}
    retried = rig.customer()
    # More often than one attempt asks again by itself: the next one has a countdown.
    rig.fault(account=retried.sid, step="check_ownership", action="status", status=503, times=4)
    customers[rig.submit(retried)["id"]] = retried
    jobs = rig.wait(customers)
    assert not verdict(rig, WEBHOOK, customers)
    [again] = [job for job in jobs.values() if job["phone_number"] == retried.number]
    assert max(step["attempts"] for step in again["steps"]) > 1
    with rabbit.connect() as connection:
        # A declaration that does not match what is there is refused.
        for name in SHARED_QUEUES:
            connection.channel().queue_declare(
                name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
            )
        # Celery's delayed delivery would be there, and warn of each queue and each countdown.
        with pytest.raises(amqp.exceptions.NotFound):
            connection.channel().queue_declare("celery_delayed_0", passive=True)
    assert "delayed delivery" not in _log(rig)


def test_flower_shows_each_step(rig: Rig) -> None:
    login = (rig.stack.flower_user, rig.stack.flower_password)
    url = rig.stack.flower_url
    with httpx.Client(base_url=url, auth=login, trust_env=False) as flower:
        eventually(lambda: "worker1@" in flower.get("/workers").text)
        customer = rig.customer()
        import_id = rig.submit(customer)["id"]
        rig.wait([import_id])

        def shown() -> set[str]:
            tasks: dict[str, dict[str, Any]] = flower.get("/api/tasks?limit=500").json()
            return {task["name"] for task in tasks.values() if import_id in (task["args"] or "")}

        eventually(lambda: {"imports.start", "imports.persist_number"} <= shown())


def test_a_killed_worker_loses_and_repeats_nothing(rig: Rig, rabbit: RabbitMQ) -> None:
    [one] = rig.stack.workers
    customers = _submit(rig, 10)
    eventually(lambda: rig.sql(_AT_WORK)[0][0] > 3)
    one.kill()
    customers |= _submit(rig, 3)
    assert rig.stack.api.alive
    one.start()
    rig.wait(customers)
    assert not verdict(rig, WEBHOOK, customers)
    _nothing_waits(rabbit)


@pytest.mark.timeout(180)
def test_a_rabbitmq_that_is_restarted_loses_and_repeats_nothing(rig: Rig, rabbit: RabbitMQ) -> None:
    [one] = rig.stack.workers
    pid = one.pid
    customers: dict[str, Customer] = {}
    # The first says farewell to its connections, the second does not.
    for end in (rabbit.stop, rabbit.kill):
        customers |= _submit(rig, 8)
        eventually(lambda: rig.sql(_AT_WORK)[0][0] > 3)
        end()
        # Answered without the broker, and soon: a submit does not wait for it.
        began = time.monotonic()
        customers |= _submit(rig, 3)
        assert time.monotonic() - began < 6
        rabbit.start()
        customers |= _submit(rig, 3)
    rig.wait(customers)
    assert not verdict(rig, WEBHOOK, customers)
    assert (one.alive, one.pid) == (True, pid), _log(rig)[-2000:]
    _nothing_waits(rabbit)


def test_an_idle_worker_hears_itself_and_stops_in_order(rig: Rig) -> None:
    [one] = rig.stack.workers
    # Without beat there is no sweep, which would be a task that begins.
    rig.stack.beat.stop()
    try:
        time.sleep(1.5 * STALL_SECONDS)
        assert one.alive, _log(rig)[-2000:]
        one.stop(10)
        assert one.exit_code == 0
    finally:
        rig.stack.beat.start()
    one.start()
    customers = _submit(rig, 1)
    rig.wait(customers)


def _nothing_waits(rabbit: RabbitMQ) -> None:
    waiting: Mapping[str, int] = {}

    def none() -> bool:
        nonlocal waiting
        waiting = {name: rabbit.waiting(name) for name in SHARED_QUEUES}
        return not any(waiting.values())

    eventually(none)
