"""What an operator sees in Flower: each step as a task of its own, however it was delivered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis

from tests.rig import FAST, Rig, eventually, running
from worker.domain.job import StepName


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    # A busy machine is no reason to send a message twice here: the messages are counted.
    with running(env={**FAST, "TRUNKLINE_RESEND_AFTER_SECONDS": "30"}) as rig:
        yield rig


@pytest.fixture(scope="module")
def flower(rig: Rig) -> Iterator[httpx.Client]:
    login = (rig.stack.flower_user, rig.stack.flower_password)
    with httpx.Client(base_url=rig.stack.flower_url, auth=login, trust_env=False) as client:
        # Flower tells only of what happened after it had connected.
        eventually(lambda: "worker1@" in client.get("/workers").text)
        yield client


def _tasks(flower: httpx.Client, import_id: str) -> dict[str, dict[str, Any]]:
    found = flower.get("/api/tasks", params={"limit": 500}).json().values()
    return {task["name"]: task for task in found if import_id in (task["args"] or "")}


def test_each_step_is_a_task_with_a_time_of_its_own(rig: Rig, flower: httpx.Client) -> None:
    customer = rig.customer()
    rig.fault(account=customer.sid, step="route_number", write=True, action="delay", seconds=0.7)
    import_id = rig.submit(customer)["id"]
    assert rig.wait([import_id])[import_id]["status"] == "active"
    steps = {f"imports.{step}" for step in StepName}

    eventually(lambda: _tasks(flower, import_id).keys() == {"imports.start", *steps})
    eventually(
        lambda: {task["state"] for task in _tasks(flower, import_id).values()} == {"SUCCESS"}
    )
    tasks = _tasks(flower, import_id)
    start = tasks["imports.start"]
    assert tasks["imports.route_number"]["runtime"] >= 0.7
    assert tasks["imports.validate_credentials"]["runtime"] <= start["runtime"] - 0.7
    assert start["runtime"] >= sum(tasks[step]["runtime"] for step in steps)
    assert {tasks[step]["root_id"] for step in steps} == {start["uuid"]}


def test_the_sweeps_do_not_crowd_out_the_imports(rig: Rig, flower: httpx.Client) -> None:
    before = rig.sql("SELECT swept_at FROM sweeps")
    eventually(lambda: rig.sql("SELECT swept_at FROM sweeps") != before)
    found = flower.get("/api/tasks", params={"limit": 500}).json().values()
    assert found, "the import of the test before is there"
    assert {task["name"] for task in found}.isdisjoint({"imports.sweep", "workers.pulse"})


def test_an_import_that_nothing_holds_up_is_one_message(rig: Rig) -> None:
    broker = redis.Redis.from_url(rig.stack.redis.url)
    customer = rig.customer()
    with broker.monitor() as monitor:  # type: ignore[no-untyped-call]
        commands = monitor.listen()
        next(commands)
        import_id = rig.submit(customer)["id"]
        assert rig.wait([import_id])[import_id]["status"] == "active"
        broker.set("marker", "end")
        pushed = []
        for entry in commands:
            if entry["command"].startswith("SET marker"):
                break
            if (
                entry["command"].startswith("LPUSH imports.twilio ")
                and import_id in entry["command"]
            ):
                pushed.append(entry["command"])
    broker.close()
    assert len(pushed) == 1
    # A step's place is in the row; a message that carried the rest of the way would be larger.
    assert len(pushed[0]) < 2500


def test_a_retried_step_keeps_its_task_and_ends_well(rig: Rig, flower: httpx.Client) -> None:
    customer = rig.customer()
    # More often than one attempt asks again by itself.
    refused = {"action": "status", "status": 503, "times": 4}
    rig.fault(account=customer.sid, step="check_ownership", **refused)
    import_id = rig.submit(customer)["id"]
    assert rig.wait([import_id])[import_id]["status"] == "active"

    def ended() -> bool:
        return _tasks(flower, import_id).get("imports.persist_number", {}).get("state") == "SUCCESS"

    eventually(ended)
    again = _tasks(flower, import_id)["imports.check_ownership"]
    assert again["state"] == "SUCCESS"
    assert again["retried"] is not None
    assert again["exception"] == "provider_unavailable"


def test_a_failed_step_shows_its_code_and_no_internals(rig: Rig, flower: httpx.Client) -> None:
    customer = rig.customer(owns=False)
    import_id = rig.submit(customer)["id"]
    assert rig.wait([import_id])[import_id]["status"] == "failed"

    def failed() -> bool:
        return (
            _tasks(flower, import_id).get("imports.check_ownership", {}).get("state") == "FAILURE"
        )

    eventually(failed)
    task = _tasks(flower, import_id)["imports.check_ownership"]
    assert task["exception"] == "number_not_owned"
    assert task["traceback"].startswith("number_not_owned: The provider account does not own")
    assert "File " not in task["traceback"]
    eventually(
        lambda: (
            _tasks(flower, import_id).get("imports.check_ownership.undo", {}).get("state")
            == "SUCCESS"
        )
    )


def test_a_step_that_celery_itself_retries_and_fails_tells_no_more(
    rig: Rig, flower: httpx.Client
) -> None:
    """The way of a job that has waited: each step is a message of its own then."""
    customer = rig.customer(owns=False)
    refused = {"action": "status", "status": 503, "times": 8}
    rig.fault(account=customer.sid, step="check_ownership", **refused)
    import_id = rig.submit(customer)["id"]
    assert rig.wait([import_id])[import_id]["status"] == "failed"
    eventually(
        lambda: (
            _tasks(flower, import_id).get("imports.check_ownership", {}).get("state") == "FAILURE"
        )
    )
    task = _tasks(flower, import_id)["imports.check_ownership"]
    assert task["retried"] is not None
    assert task["exception"] == "number_not_owned"
    assert task["traceback"].startswith("number_not_owned: The provider account does not own")
    assert "File " not in task["traceback"]
