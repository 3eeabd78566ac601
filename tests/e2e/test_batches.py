"""Batches as their callers see them: over HTTP, with real workers, against the sandbox."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest
import redis

from tests.receiver import receiving
from tests.rig import FAST, FOREIGN_URL, TOKEN, Rig, eventually, running
from worker.celery_app import queue_name
from worker.domain.job import JOB_QUEUES

#: In CI; BATCH=1000 for the figure.
MANY: Final = int(os.environ.get("BATCH", "120"))
_serial = itertools.count(1)
_BATCHES: Final = tuple(queue_name(queue) for queue in JOB_QUEUES if queue.backlog)
_GOING_ON = ("queued", "running", "undoing")


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    # What binds here is the limit of an account; that of an organisation is test_fairness.py's.
    env = {"TRUNKLINE_SETTLE_SECONDS": "0.5", "TRUNKLINE_ORGANIZATION_CONCURRENCY": "64"}
    with running(without={"flower"}, env={**FAST, **env}) as started:
        yield started


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A Twilio account with many numbers, and the batch that imports them."""

    sid: str
    numbers: list[str]

    @property
    def body(self) -> dict[str, Any]:
        return {
            "defaults": {
                "provider": "twilio",
                "credentials": {"account_sid": self.sid, "auth_token": TOKEN},
                "replace_existing_routing": True,
                # Twilio allows 100 trunks: a login of the caller's own needs none.
                "sip": {"address": "sip.example.com", "username": "fleet", "password": "p" * 16},
            },
            "items": [{"phone_number": number} for number in self.numbers],
        }


def fleet(rig: Rig, count: int) -> Fleet:
    serial = next(_serial)
    sid = f"ACb{serial:031x}"
    numbers = [f"+1{630 + serial}{2_000_000 + place:07}" for place in range(count)]
    held = [{"phone_number": number, "voice_url": FOREIGN_URL} for number in numbers]
    account = {"sid": sid, "auth_token": TOKEN, "numbers": held}
    rig.control("seed", {"twilio": {"accounts": [account]}})
    return Fleet(sid=sid, numbers=numbers)


def submit(client: httpx.Client, body: Mapping[str, Any], **headers: str) -> dict[str, Any]:
    answer = client.post("/v1/batches", json=body, headers=headers, timeout=60)
    assert answer.status_code == 202, answer.text
    batch: dict[str, Any] = answer.json()
    return batch


def counts(rig: Rig, batch_id: str) -> dict[str, int]:
    answer = rig.api.get(f"/v1/batches/{batch_id}", params={"limit": 1})
    assert answer.status_code == 200, answer.text
    return {status: count for status, count in answer.json()["counts"].items() if count}


def wait(rig: Rig, batch_id: str, *, seconds: float) -> dict[str, int]:
    """Waits until every import of a batch has ended."""
    deadline = time.monotonic() + seconds
    while True:
        found = counts(rig, batch_id)
        if not set(_GOING_ON) & found.keys():
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


@contextmanager
def tenant(rig: Rig, name: str) -> Iterator[httpx.Client]:
    key = rig.stack.bootstrap(name)["api_key"]
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(
        base_url=rig.stack.api_url, headers=headers, timeout=60, trust_env=False
    ) as client:
        yield client


@dataclass(kw_only=True)
class Watched:
    """The most that was ever seen at a time."""

    #: Of one account's jobs that some worker may work on.
    working: int = 0
    #: Of messages in the broker.
    messages: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def look(self, rig: Rig) -> None:
        broker = redis.Redis.from_url(rig.stack.redis.url)
        while not self._stop.wait(0.1):
            found = rig.sql(
                "SELECT count(*) FROM import_jobs WHERE batch_id IS NOT NULL "
                "AND due_at IS NOT NULL GROUP BY account_ref"
            )
            self.working = max([self.working, *(count for (count,) in found)])
            self.messages = max(self.messages, sum(int(broker.llen(name)) for name in _BATCHES))
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


def require_one_of_each(rig: Rig, owner: Fleet) -> None:
    """Every number of the account is answered by us, with one trunk, one rule, one outbound."""
    state = rig.sandbox.get("/_sandbox/state").json()
    account, livekit = state["twilio"]["accounts"][owner.sid], state["livekit"]
    for number in owner.numbers:
        assert "/callbacks/twilio/voice/" in account["numbers"][number]["voice_url"]
    assert not account["trunks"]
    for kind in ("inbound_trunks", "outbound_trunks"):
        held = Counter(one for trunk in livekit[kind].values() for one in trunk["numbers"])
        assert {number: held[number] for number in owner.numbers} == dict.fromkeys(owner.numbers, 1)


def require_one_job_each(rig: Rig, batch_id: str, owner: Fleet) -> None:
    """Every row has become exactly one import."""
    found = rig.sql(
        "SELECT j.e164, count(*) FROM import_jobs j JOIN batch_rows r ON r.job_id = j.id "  # noqa: S608 -- our own id
        f"WHERE j.batch_id = '{batch_id.removeprefix('bat_')}' GROUP BY j.e164"
    )
    assert dict(found) == dict.fromkeys(owner.numbers, 1)
    jobs = rig.sql(f"SELECT count(*) FROM import_jobs WHERE account_ref = '{owner.sid}'")  # noqa: S608
    assert jobs == [(len(owner.numbers),)]


@pytest.mark.timeout(900)
def test_many_numbers_of_one_account_end_active_a_few_at_a_time(rig: Rig) -> None:
    owner = fleet(rig, MANY)
    batch = submit(rig.api, owner.body)

    with watching(rig) as watched:
        assert wait(rig, batch["id"], seconds=800) == {"active": MANY}

    assert 1 < watched.working <= 8
    assert watched.messages <= 16
    require_one_of_each(rig, owner)
    require_one_job_each(rig, batch["id"], owner)


@pytest.mark.timeout(180)
def test_a_single_import_of_another_tenant_does_not_wait_for_a_batch(rig: Rig) -> None:
    owner, single = fleet(rig, 2000), rig.customer()
    with tenant(rig, "Other") as other, watching(rig) as watched:
        batch = submit(rig.api, owner.body)
        eventually(lambda: counts(rig, batch["id"]).get("active", 0) > 20, seconds=60)
        waits = []
        for customer in (single, rig.customer(), rig.customer()):
            started = time.monotonic()
            answer = other.post(
                "/v1/imports", json=dict(customer.request), headers={"Prefer": "wait=30"}
            )
            waits.append(time.monotonic() - started)
            assert answer.status_code == 201, answer.text
        assert counts(rig, batch["id"])["queued"] > 1000, "the batch was still at it"
        answer = rig.api.post(f"/v1/batches/{batch['id']}/cancel")

    assert answer.status_code == 202, answer.text
    found = wait(rig, batch["id"], seconds=60)
    assert found.keys() <= {"active", "cancelled"}
    assert sum(found.values()) == 2000
    assert max(waits) < 8
    assert watched.messages <= 32
    state = rig.sandbox.get("/_sandbox/state").json()["twilio"]["accounts"][owner.sid]["numbers"]
    foreign = [number for number in state.values() if number["voice_url"] == FOREIGN_URL]
    assert len(foreign) == found["cancelled"], "what was cancelled is as it was"


@pytest.mark.timeout(240)
def test_a_single_import_does_not_wait_for_slow_batches_of_many_accounts(rig: Rig) -> None:
    # More jobs under way than a worker has threads (32), each of them slow.
    owners = [fleet(rig, 10) for _ in range(8)]
    for owner in owners:
        rig.fault(account=owner.sid, action="delay", seconds=0.8, times=None)
    batches = [submit(rig.api, owner.body) for owner in owners]
    eventually(
        lambda: rig.sql("SELECT count(*) FROM import_jobs WHERE lease_until > now()")[0][0] > 28,
        seconds=30,
    )
    with tenant(rig, "Beside") as other:
        started = time.monotonic()
        request = dict(rig.customer().request)
        answer = other.post("/v1/imports", json=request, headers={"Prefer": "wait=40"})
        waited = time.monotonic() - started

    assert answer.status_code == 201, answer.text
    assert waited < 12, waited
    for batch in batches:
        rig.api.post(f"/v1/batches/{batch['id']}/cancel")
    for batch in batches:
        assert wait(rig, batch["id"], seconds=120).keys() <= {"active", "cancelled"}


@pytest.mark.timeout(180)
def test_a_limited_account_slows_itself_down_alone(rig: Rig) -> None:
    limited, free = fleet(rig, 30), fleet(rig, 30)
    rig.fault(account=limited.sid, action="status", status=429, retry_after=20, times=1)
    first = submit(rig.api, limited.body)
    eventually(lambda: rig.sql("SELECT 1 FROM provider_limits WHERE until > now()") != [])
    second = submit(rig.api, free.body)

    assert wait(rig, second["id"], seconds=60) == {"active": 30}
    held = counts(rig, first["id"])

    assert held["queued"] > 15, "nothing of it was let go meanwhile"
    assert wait(rig, first["id"], seconds=90) == {"active": 30}


@pytest.mark.timeout(180)
def test_whatever_dies_every_row_ends_in_exactly_one_import(rig: Rig) -> None:
    owner = fleet(rig, 120)
    body = {**owner.body, "items": [*owner.body["items"], {"phone_number": "nonsense"}]}
    key = {"Idempotency-Key": "killed"}
    others = [{"phone_number": f"+1415{7_000_000 + place}"} for place in range(6000)]
    big = {**body, "items": [*body["items"], *others]}

    # The API dies while it accepts: there is all of the batch, or nothing.
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(rig.api.post, "/v1/batches", json=big, headers=key)
        time.sleep(0.8)
        rig.stack.api.kill()
        assert isinstance(asked.exception(), httpx.TransportError)
    rig.stack.api.start()
    found = rig.sql("SELECT count(*) FROM batch_rows WHERE e164 = '+14157005999'")
    whole = rig.sql("SELECT count(*) FROM import_jobs WHERE e164 LIKE '+14157%'")
    assert (found[0][0], whole[0][0]) in ((0, 0), (1, 6000))

    batch = submit(rig.api, body, **{"Idempotency-Key": "whole"}) if not found[0][0] else None
    assert batch is not None, "it was accepted before it died: make the batch larger"
    # The worker dies while it is fed, twice.
    for done in (10, 50):
        eventually(lambda: counts(rig, batch["id"]).get("active", 0) > done, seconds=60)  # noqa: B023 -- asked at once
        rig.stack.workers[0].kill()
        rig.stack.workers[0].start()
    again = submit(rig.api, body, **{"Idempotency-Key": "whole"})
    assert again["id"] == batch["id"]

    assert wait(rig, batch["id"], seconds=120) == {"active": 120, "refused": 1}
    require_one_of_each(rig, owner)
    require_one_job_each(rig, batch["id"], owner)


def test_the_batch_s_callback_url_is_each_imports_default(rig: Rig) -> None:
    owner = fleet(rig, 3)
    with receiving() as receiver:
        body = {**owner.body, "callback_url": receiver.url}
        batch = submit(rig.api, body)
        wait(rig, batch["id"], seconds=60)
        eventually(lambda: len(receiver.received) == 3)
