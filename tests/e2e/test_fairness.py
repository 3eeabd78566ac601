"""A tenant with many imports, each of them slow, beside one with a single import."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import celery
import httpx
import pytest
import redis

from tests.rig import FAST, FOREIGN_URL, TOKEN, Rig, eventually, running
from worker.celery_app import queue_name
from worker.domain.job import JOB_QUEUES
from worker.settings import ORGANIZATION_CONCURRENCY

MANY: Final = 250
#: The newest of these are then cancelled, while most of them wait; the rest runs to its end.
CANCELLED: Final = 200
_CLIENTS: Final = 6
#: Single imports of the other tenant: before the flood, and beside it.
_BEFORE: Final = 4
_BESIDE: Final = 5
_ALONE: Final = _BEFORE + _BESIDE
SID: Final = f"ACe{1:031x}"
_numbers = [f"+1629{2_000_000 + place:07}" for place in range(MANY)]
#: As long as a start and one message a step take; one message a job takes fewer.
_MESSAGES_A_JOB: Final = 9
_QUEUES: Final = tuple(map(queue_name, JOB_QUEUES))


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running(without={"flower"}, env={**FAST, "TRUNKLINE_SETTLE_SECONDS": "0.5"}) as started:
        yield started


@contextmanager
def tenant(rig: Rig, name: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {rig.stack.bootstrap(name)['api_key']}"}
    with httpx.Client(
        base_url=rig.stack.api_url, headers=headers, timeout=60, trust_env=False
    ) as client:
        yield client


def flood(rig: Rig, client: httpx.Client) -> list[str]:
    """Submits many imports of one account, as fast as the API takes them."""
    held = [{"phone_number": number, "voice_url": FOREIGN_URL} for number in _numbers]
    account = {"sid": SID, "auth_token": TOKEN, "numbers": held}
    rig.control("seed", {"twilio": {"accounts": [account]}})
    rig.fault(account=SID, action="delay", seconds=0.8, times=None)

    def submit(number: str) -> str:
        answer = client.post(
            "/v1/imports",
            json={
                "phone_number": number,
                "provider": "twilio",
                "credentials": {"account_sid": SID, "auth_token": TOKEN},
                "replace_existing_routing": True,
                # Twilio allows 100 trunks: a login of the caller's own needs none.
                "sip": {"address": "sip.example.com", "username": "flood", "password": "p" * 16},
            },
            headers={"Idempotency-Key": number},
        )
        assert answer.status_code == 202, answer.text
        assert answer.json()["status"] in ("queued", "running")
        import_id: str = answer.json()["id"]
        return import_id

    with ThreadPoolExecutor(_CLIENTS) as pool:
        return list(pool.map(submit, _numbers))


@dataclass(kw_only=True)
class Watched:
    """The most that was ever seen at a time."""

    messages: int = 0
    under_way: int = 0
    memory: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def look(self, rig: Rig) -> None:
        broker = redis.Redis.from_url(rig.stack.redis.url)
        while not self._stop.wait(0.2):
            waiting = [int(broker.llen(queue)) for queue in _QUEUES]
            self.messages = max(self.messages, sum(waiting))
            self.memory = max(self.memory, int(broker.info("memory")["used_memory"]))
            ((under_way,),) = rig.sql(
                "SELECT count(*) FROM import_jobs WHERE due_at IS NOT NULL "  # noqa: S608 -- ours
                f"AND account_ref = '{SID}'"
            )
            self.under_way = max(self.under_way, under_way)
        broker.close()


@contextmanager
def watching(rig: Rig) -> Iterator[Watched]:
    watched = Watched()
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(watched.look, rig)
        try:
            yield watched
        finally:
            watched._stop.set()
            looking.result()


def import_alone(client: httpx.Client, request: Mapping[str, Any]) -> float:
    started = time.monotonic()
    answer = client.post("/v1/imports", json=dict(request), headers={"Prefer": "wait=60"})
    assert answer.status_code == 201, answer.text
    return time.monotonic() - started


def messages_taken(rig: Rig) -> int:
    """How many messages of jobs the worker has taken since it started."""
    with celery.Celery(broker=rig.stack.redis.url) as app:
        found = app.control.inspect(timeout=5).stats()
    assert found, "the worker did not answer"
    (stats,) = found.values()
    total: dict[str, int] = stats["total"]
    return sum(
        count
        for task, count in total.items()
        if task.startswith("imports.") and task != "imports.sweep"
    )


@pytest.mark.timeout(300)
def test_a_flood_of_slow_imports_holds_up_nobody_else_and_survives(rig: Rig) -> None:
    with tenant(rig, "Large") as large, tenant(rig, "Small") as small:
        before = [import_alone(small, rig.customer().request) for _ in range(_BEFORE)]
        alone = statistics.median(before[1:])  # the first pays for what it imports
        with watching(rig) as watched:
            ids = flood(rig, large)
            waits = [import_alone(small, rig.customer().request) for _ in range(_BESIDE)]
        held = rig.sql("SELECT count(*) FROM import_jobs WHERE state = 'queued' AND due_at IS NULL")

        # The other's single imports are through in seconds, while hundreds of the flood wait.
        assert held[0][0] > MANY - 100, held
        # Beside what one takes on an idle stack, so that a busy machine is told from a queue.
        assert statistics.median(waits) < 2 * alone + 1.5, (alone, waits)
        # The broker knows of a few only; a few more when requests found the last place together.
        assert watched.under_way <= ORGANIZATION_CONCURRENCY + _CLIENTS
        assert watched.messages <= ORGANIZATION_CONCURRENCY + _CLIENTS
        assert watched.memory < 8 * 2**20

        _follow_a_held_one(large, ids[-1])
        with ThreadPoolExecutor(_CLIENTS) as pool:
            newest = [f"/v1/imports/{import_id}/cancel" for import_id in reversed(ids[-CANCELLED:])]
            answers = list(pool.map(large.post, newest))
        # The newest waits longest: with none of its steps begun, nothing was there to undo.
        assert answers[0].json()["status"] == "cancelled"
        assert answers[0].json()["started_at"] is None

        # Whatever happens to messages and workers, the rest ends, once each.
        rig.sandbox.delete("/_sandbox/faults")
        earlier = messages_taken(rig)
        broker = redis.Redis.from_url(rig.stack.redis.url)
        broker.flushall()
        left = _open(rig)
        eventually(lambda: _open(rig) <= left // 2, seconds=90)
        taken = messages_taken(rig) - earlier
        worked = left - _open(rig) + 2 * ORGANIZATION_CONCURRENCY
        broker.flushall()
        broker.close()
        rig.stack.workers[0].kill()
        rig.stack.workers[0].start()
        rig.settle(seconds=150)

    states = dict(rig.sql(f"SELECT e164, state FROM import_jobs WHERE account_ref = '{SID}'"))  # noqa: S608
    assert states.keys() == set(_numbers)
    assert set(states.values()) == {"active", "cancelled"}
    assert taken <= worked * _MESSAGES_A_JOB, "messages were doubled"
    _require_outside(rig, states)
    # In the order in which they came, but for those that were under way together.
    started = [place for place, (number,) in enumerate(_started(rig)) if number in _numbers[:16]]
    assert max(started) < 16 + ORGANIZATION_CONCURRENCY + _CLIENTS, started


def _follow_a_held_one(client: httpx.Client, import_id: str) -> None:
    """It is a queued import like any other: waited for, repeated, listed."""
    path = f"/v1/imports/{import_id}"
    seen = client.get(path)
    assert (seen.json()["status"], seen.json()["next_attempt_at"]) == ("queued", None)
    started = time.monotonic()
    headers = {"If-None-Match": seen.headers["etag"]}
    assert client.get(path, params={"wait": 1}, headers=headers).status_code == 304
    assert time.monotonic() - started > 0.9
    listed = client.get("/v1/imports", params={"status": "queued", "limit": 5}).json()["items"]
    assert import_id in [one["id"] for one in listed]


def _open(rig: Rig) -> int:
    ((count,),) = rig.sql(
        "SELECT count(*) FROM import_jobs WHERE state IN ('queued', 'running', 'undoing')"
    )
    return int(count)


def _started(rig: Rig) -> list[tuple[Any, ...]]:
    return rig.sql(
        f"SELECT e164 FROM import_jobs WHERE account_ref = '{SID}' AND started_at IS NOT NULL "  # noqa: S608
        "ORDER BY started_at"
    )


def _require_outside(rig: Rig, states: Mapping[str, str]) -> None:
    """Each number is imported once, or as it was."""
    state = rig.sandbox.get("/_sandbox/state").json()
    numbers = state["twilio"]["accounts"][SID]["numbers"]
    active = [number for number in _numbers if states[number] == "active"]
    for number in _numbers:
        url = numbers[number]["voice_url"]
        ours = "/callbacks/twilio/voice/" in url
        assert ours if number in active else url == FOREIGN_URL
    for kind in ("inbound_trunks", "outbound_trunks"):
        made = itertools.chain(*(one["numbers"] for one in state["livekit"][kind].values()))
        assert sorted(set(made) & set(_numbers)) == active
        assert len(state["livekit"][kind]) == len(active) + _ALONE
    assert len(state["livekit"]["dispatch_rules"]) == len(active) + _ALONE
