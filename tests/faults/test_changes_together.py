"""Release, rebinding and repair at the same moment, without Redis, and while people call."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.faults.held import (
    KINDS,
    WEBHOOKS,
    Held,
    hold,
    journal_of,
    lose_trunk,
    not_given_back,
    rebind,
    release,
)
from tests.rig import Rig, eventually


@pytest.fixture(autouse=True)
def _idle(rig: Rig) -> Iterator[None]:
    """Each test begins and ends without a worker."""
    yield
    rig.stack.workers[0].stop()


@pytest.mark.timeout(400)
def test_of_three_changes_at_the_same_moment_one_is_done(rig: Rig) -> None:
    worker = rig.stack.workers[0]
    worker.start()
    numbers = hold(rig, KINDS)
    worker.stop()
    other = rig.agent("concierge")
    for held in numbers:
        for trunk in rig.state()["livekit"]["outbound_trunks"].values():
            if held.import_id in trunk["name"]:  # so that there is something to repair
                lose_trunk(rig, trunk["sip_trunk_id"])

    def ask(held: Held, client: int) -> httpx.Response:
        match client % 3:
            case 0:
                return rig.api.delete(held.path)
            case 1:
                return rig.api.patch(held.path, json={"agent_id": other})
            case _:
                return rig.api.post(f"{held.path}/check", params={"repair": "true"})

    won: dict[str, Held] = {}
    for shift, held in enumerate(numbers):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n, one=held: ask(one, n), range(shift, shift + 8)))
        assert {answer.status_code for answer in answers} == {202, 409}
        accepted = {a.json()["id"]: a.json() for a in answers if a.status_code == 202}
        assert len(accepted) == 1, "more than one job works on the number"
        codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
        assert codes == {"number_busy"}
        won |= dict.fromkeys(accepted, held)
    worker.start()
    rig.settle()
    released = {}
    for job_id, held in won.items():
        job = rig.job(job_id)
        assert job["status"] == ("released" if job["kind"] == "release" else "active"), job
        released[job_id if job["kind"] == "release" else release(rig, held)] = held
    rig.settle()
    assert not (wrong := not_given_back(rig, released)), "\n".join(wrong)


@pytest.mark.timeout(400)
def test_a_release_that_was_asked_for_without_redis_happens(rig: Rig) -> None:
    rig.stack.workers[0].start()
    numbers = hold(rig, KINDS)
    rig.stack.workers[0].stop()
    rig.stack.redis.stop()
    jobs = {release(rig, held): held for held in numbers}
    rig.stack.redis.start()
    rig.stack.workers[0].start()
    rig.settle()
    assert not (wrong := not_given_back(rig, jobs)), "\n".join(wrong)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("adds", [True, False], ids=["adds a fallback", "takes it away"])
def test_every_call_reaches_an_agent_though_the_worker_is_killed_in_a_rebinding(
    rig: Rig, *, adds: bool
) -> None:
    worker = rig.stack.workers[0]
    worker.start()
    fallback = {"inbound": {"fallback_agent_id": rig.agent("night-shift")}}
    request = {"agent_id": rig.agent("receptionist"), **({} if adds else fallback)}
    none = {"inbound": {"fallback_agent_id": None}}
    change = {"agent_id": rig.agent("concierge"), **(fallback if adds else none)}
    (first,) = hold(rig, WEBHOOKS[:1], request)
    undisturbed = rebind(rig, first, change)
    rig.settle()
    calls = journal_of(rig, undisturbed)
    assert len([call for call in calls if call.write]) == 3
    points = list(itertools.product(calls, ("before", "after")))
    # What a rebinding does is the same at every vendor; how a call gets there is not.
    kinds = list(itertools.islice(itertools.cycle(WEBHOOKS), len(points)))
    numbers = hold(rig, kinds, request)
    worker.stop()

    def reached(seen: set[str]) -> None:
        for held in numbers:
            trace = rig.call(held.order.vendor, held.order.account, held.order.number)
            assert trace["outcome"] == "agent", (str(held.kind), trace)
            assert not trace["problems"], (str(held.kind), trace)
            seen.add(trace["agent_name"])

    jobs = {}
    for (call, when), held in zip(points, numbers, strict=True):
        job_id = rebind(rig, held, change)
        rig.fault(import_id=job_id, nth=call.nth, action="hold", when=when)
        jobs[job_id] = held
    patient = rig.patient_worker(concurrency=2 * len(points))
    patient.start()
    eventually(lambda: len(rig.holds()) == len(points), seconds=60)
    seen: set[str] = set()
    reached(seen)
    patient.kill()
    rig.control("holds/release", {})
    reached(seen)
    assert seen == {"receptionist", "concierge"}, "none was parked beside the change"
    rig.expire_leases()
    worker.start()
    while rig.sql("SELECT 1 FROM import_jobs WHERE state IN ('queued', 'running')"):
        reached(seen)
    assert seen == {"receptionist", "concierge"}
    assert {rig.job(job_id)["status"] for job_id in jobs} == {"active"}
    last: set[str] = set()
    reached(last)
    assert last == {"concierge"}
    rig.control("agents", {"concierge": "offline"})
    for held in numbers:
        trace = rig.call(held.order.vendor, held.order.account, held.order.number)
        assert trace["agent_name"] == ("night-shift" if adds else "concierge")
        assert trace["outcome"] == ("agent" if adds else "ringing_unanswered"), trace
    rig.control("agents", {"concierge": "online"})


@pytest.mark.timeout(400)
def test_what_was_accepted_at_the_same_moment_is_all_there_in_the_end(rig: Rig) -> None:
    rig.stack.workers[0].start()
    concierge = rig.agent("concierge")
    changes = {
        "agent_id": concierge,
        "friendly_name": "Front desk",
        "price": 2.5,
        "metadata": {"team": "night"},
    }
    accepted = 0
    for held in hold(rig, WEBHOOKS[:1] * 8):
        with ThreadPoolExecutor(len(changes)) as pool:
            answers = pool.map(
                lambda one, to=held: rig.api.patch(to.path, json=one), _each(changes)
            )
        done = dict(zip(changes, answers, strict=True))
        assert {answer.status_code for answer in done.values()} <= {200, 202, 409}
        rig.settle()
        number = rig.api.get(held.path).json()
        for field, answer in done.items():
            if answer.is_success:
                accepted += 1
                assert number[field] == changes[field], f"{field} was accepted and lost"
    assert accepted >= 8


def _each(changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{name: value} for name, value in changes.items()]
