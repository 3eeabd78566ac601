"""Measures a flood: ``python -m tests.bench.overload --jobs 2000``.

Several organisations submit imports at once, over HTTP, as fast as the API takes them; one of them
sends half of all. Meanwhile somebody reads jobs and lists, and another organisation sends a single
import every few seconds and waits for its end: what it waits is the figure that matters. Then the
flood is over and the single imports go on for a while. The workers are real, at default settings.

With ``--pollers N`` as many requests wait (``?wait=60`` with the ETag) for queued imports while
more are submitted, after the same without them; without workers.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psutil
import redis

from tests.bench.http import Answer, Connection
from tests.rig import FOREIGN_URL, TOKEN, Rig, running
from worker.celery_app import CONTROL_QUEUE, RESCUE_QUEUE, queue_name
from worker.domain.job import JOB_QUEUES

#: Numbers of one provider account.
ACCOUNT_SIZE: Final = 500
#: The part of all imports that the largest organisation sends.
LARGEST: Final = 0.5
QUEUES: Final = (*map(queue_name, JOB_QUEUES), RESCUE_QUEUE, CONTROL_QUEUE)
_GAUGE_SECONDS: Final = 2.0
_MB: Final = 2**20


@dataclass(kw_only=True)
class Tenant:
    """An organisation, its key, and the imports that it has yet to send."""

    name: str
    key: str
    orders: Iterator[dict[str, Any]]
    sent: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@dataclass(kw_only=True)
class Seen:
    """Everything that was measured, with the second of the run in which it was."""

    submits: list[tuple[float, float]] = field(default_factory=list)
    reads: list[tuple[float, float]] = field(default_factory=list)
    lists: list[tuple[float, float]] = field(default_factory=list)
    singles: list[tuple[float, float]] = field(default_factory=list)
    #: Begun, and not ended yet: since when.
    waiting: dict[str, float] = field(default_factory=dict)
    gauges: list[dict[str, float]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)


class Flood:
    """One run against one stack."""

    def __init__(self, rig: Rig, options: argparse.Namespace) -> None:
        self._rig, self._options = rig, options
        self._started = time.monotonic()
        self.seen = Seen()
        self.submitted_at = 0.0
        #: What single imports took before the flood; and for how long those have waited by now that
        #: have not ended.
        self.alone: list[float] = []
        self.waited: list[float] = []
        self._serial = itertools.count()
        self._broker = redis.Redis.from_url(rig.stack.redis.url)
        rest = options.jobs - int(options.jobs * LARGEST)
        sizes = [options.jobs - rest, *self._split(rest, options.tenants - 1)]
        self.tenants = [self._tenant(f"Tenant {n}", size) for n, size in enumerate(sizes, 1)]
        self.other = self._tenant("Other", 400)

    @staticmethod
    def _split(count: int, parts: int) -> list[int]:
        return [count // parts + (place < count % parts) for place in range(parts)]

    def _now(self) -> float:
        return time.monotonic() - self._started

    # Who sends what

    def _tenant(self, name: str, size: int) -> Tenant:
        key = self._rig.stack.bootstrap(name)["api_key"]
        orders = []
        for first in range(0, size, ACCOUNT_SIZE):
            orders += self._account(key, min(ACCOUNT_SIZE, size - first), stored=first % 1000 == 0)
        # As somebody does who sends a list of numbers of all of their accounts.
        random.Random(7).shuffle(orders)  # noqa: S311 -- the same in every run
        return Tenant(name=name, key=key, orders=iter(orders))

    def _account(self, key: str, size: int, *, stored: bool) -> list[dict[str, Any]]:
        """Seeds a Twilio account; returns the imports of its numbers."""
        serial = next(self._serial)
        sid = f"ACf{serial:031x}"
        numbers = [f"+1{630 + serial}{2_000_000 + place:07}" for place in range(size)]
        held = [{"phone_number": number, "voice_url": FOREIGN_URL} for number in numbers]
        account = {"sid": sid, "auth_token": TOKEN, "numbers": held}
        self._rig.control("seed", {"twilio": {"accounts": [account]}})
        secrets = {"account_sid": sid, "auth_token": TOKEN}
        named: dict[str, Any] = {"credentials": secrets}
        if stored:
            body = {"provider": "twilio", "label": f"Account {serial}", "credentials": secrets}
            headers = {"Authorization": f"Bearer {key}"}
            answer = self._rig.api.post("/v1/credentials", json=body, headers=headers)
            assert answer.is_success, answer.text
            named = {"credential_id": answer.json()["id"]}
        return [
            {
                "phone_number": number,
                "provider": "twilio",
                "replace_existing_routing": True,
                # Twilio allows 100 trunks an account: a login of the caller's own needs none.
                "sip": {"address": "sip.example.com", "username": "flood", "password": "p" * 16},
                **named,
            }
            for number in numbers
        ]

    # What goes on at the same time

    async def run(self) -> None:
        """Floods, watches, and goes on with the single imports for a while."""
        self._started = time.monotonic()
        for _ in range(3):  # what one import alone takes here
            await self._single()
        alone = len(self.seen.singles)
        beside = [
            asyncio.create_task(one)
            for one in (self._singles(), self._read(), self._list(), self._gauges())
        ]
        await self._submit_all(self.tenants)
        self.submitted_at = self._now()
        await asyncio.sleep(self._options.watch)
        ended = time.monotonic()
        self.waited = [ended - since for since in self.seen.waiting.values()]
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        self.alone = [seconds for _, seconds in self.seen.singles[:alone]]
        del self.seen.singles[:alone]

    async def _submit_all(self, tenants: Sequence[Tenant], limit: int | None = None) -> None:
        # In turns, weighted by how much each has to send: all end at about the same time.
        largest = max(1, round(LARGEST * self._options.clients))
        owners = [tenants[0]] * largest
        others = itertools.cycle(tenants[1:] or tenants)
        owners += [next(others) for _ in range(self._options.clients - largest)]
        left = itertools.count()
        await asyncio.gather(*(self._client(owner, left, limit) for owner in owners))

    async def _client(self, owner: Tenant, count: Iterator[int], limit: int | None) -> None:
        async with Connection(self._rig.stack.api_url, owner.headers) as connection:
            for order in owner.orders:
                answer = await connection.send("POST", "/v1/imports", order)
                if answer.status == 202:
                    owner.sent.append(answer.json()["id"])
                    self.seen.submits.append((self._now(), answer.seconds))
                else:
                    self.seen.refused.append(answer.status)
                if limit is not None and next(count) >= limit:
                    return
                if self._options.rate:
                    await asyncio.sleep(self._options.clients / self._options.rate - answer.seconds)

    async def _single(self) -> None:
        async with Connection(self._rig.stack.api_url, self.other.headers) as connection:
            started = time.monotonic()
            answer = await connection.send("POST", "/v1/imports", next(self.other.orders))
            assert answer.status == 202, answer.body
            import_id = answer.json()["id"]
            self.seen.waiting[import_id] = started
            path = f"/v1/imports/{import_id}"
            while (job := (await connection.send("GET", f"{path}?wait=60")).json())["status"] in (
                "queued",
                "running",
            ):
                pass
            assert job["status"] == "active", job["error"]
            del self.seen.waiting[import_id]
            self.seen.singles.append((self._now(), time.monotonic() - started))

    async def _singles(self) -> None:
        """Another organisation's imports, begun every few seconds however long one takes."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._single())
                await asyncio.sleep(self._options.every)

    async def _read(self) -> None:
        owner = self.tenants[0]
        async with Connection(self._rig.stack.api_url, owner.headers) as connection:
            while True:
                await asyncio.sleep(0.2)
                if owner.sent:
                    path = f"/v1/imports/{random.choice(owner.sent)}"  # noqa: S311
                    self._note(self.seen.reads, await connection.send("GET", path))

    async def _list(self) -> None:
        owner = self.tenants[0]
        async with Connection(self._rig.stack.api_url, owner.headers) as connection:
            for asked in itertools.cycle(("", "&status=queued", "&status=active")):
                await asyncio.sleep(0.5)
                path = f"/v1/imports?limit=50{asked}"
                self._note(self.seen.lists, await connection.send("GET", path))

    def _note(self, where: list[tuple[float, float]], answer: Answer) -> None:
        assert answer.status == 200, answer.body
        where.append((self._now(), answer.seconds))

    async def _gauges(self) -> None:
        while True:
            self.seen.gauges.append(await asyncio.to_thread(self._gauge))
            await asyncio.sleep(_GAUGE_SECONDS)

    def _gauge(self) -> dict[str, float]:
        stack = self._rig.stack
        found: dict[str, float] = {"second": round(self._now(), 1)}
        for part in (stack.api, *stack.workers, stack.beat):
            assert part.pid is not None
            process = psutil.Process(part.pid)
            found[f"{part.name}_mb"] = round(process.memory_info().rss / _MB, 1)
            found[f"{part.name}_cpu_s"] = round(sum(process.cpu_times()[:2]), 1)
        info: dict[str, Any] = self._broker.info("memory")
        found["redis_mb"] = round(info["used_memory"] / _MB, 2)
        for queue in QUEUES:
            found[f"queue_{queue}"] = int(self._broker.llen(queue))
        found["unacked"] = int(self._broker.hlen("unacked"))
        ((size, started, ended, waiting),) = self._rig.sql(
            "SELECT pg_database_size(current_database()), "
            "count(*) FILTER (WHERE due_at IS NOT NULL), count(*) FILTER (WHERE finished_at "
            "IS NOT NULL), count(*) FILTER (WHERE state = 'queued') FROM import_jobs"
        )
        found |= {"postgres_mb": round(size / _MB, 1), "under_way": started, "ended": ended}
        found["queued"] = waiting
        return found

    # Long polls

    async def poll(self) -> dict[str, Any]:
        """Submits beside a thousand waiting requests, and without."""
        found: dict[str, Any] = {}
        owner = self.tenants[0]
        await self._submit_all(self.tenants, self._options.jobs // 2)
        found["submit_without"] = await self._spell(300)
        stop = asyncio.Event()
        waiting = [
            asyncio.create_task(self._poller(owner, random.choice(owner.sent), stop))  # noqa: S311
            for _ in range(self._options.pollers)
        ]
        await asyncio.sleep(5)
        found["submit_beside_pollers"] = await self._spell(300)
        stop.set()
        for task in waiting:
            task.cancel()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        errors = [repr(e) for e in ended if isinstance(e, Exception)]
        found["pollers"] = {"count": len(waiting), "errors": len(errors), "first": errors[:1]}
        return found

    async def _spell(self, count: int) -> dict[str, float]:
        before = len(self.seen.submits)
        started = time.monotonic()
        await self._submit_all(self.tenants, count)
        spell = self.seen.submits[before:]
        return {"per_second": round(len(spell) / (time.monotonic() - started), 1), **spread(spell)}

    async def _poller(self, owner: Tenant, import_id: str, stop: asyncio.Event) -> None:
        async with Connection(self._rig.stack.api_url, owner.headers) as connection:
            tag = ""
            while not stop.is_set():
                path = f"/v1/imports/{import_id}?wait=60"
                answer = await connection.send("GET", path, **{"If-None-Match": tag})
                tag = answer.headers.get("etag", tag)


def spread(points: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Returns how many, p50, p99 and the most, in milliseconds."""
    values = sorted(seconds * 1000 for _, seconds in points)
    if not values:
        return {"n": 0}
    return {
        "n": len(values),
        "p50": round(statistics.median(values), 1),
        "p99": round(values[min(len(values) - 1, int(len(values) * 0.99))], 1),
        "max": round(values[-1], 1),
    }


def summary(flood: Flood, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the figures of a run: at its start, at its end, and at most."""
    seen = flood.seen
    part = max(1, min(1000, len(seen.submits) // 4))
    gauges = seen.gauges
    names = [name for name in gauges[0] if name not in ("second", "ended")]
    last = gauges[-1]
    cpu = [name for name in last if name.startswith("worker") and name.endswith("cpu_s")]
    worker_cpu = sum(last[name] - gauges[0][name] for name in cpu)
    ended = last["ended"] - gauges[0]["ended"]
    seconds = last["second"] - gauges[0]["second"]
    half = flood.submitted_at / 2

    def early(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [point for point in points if point[0] <= half]

    def late(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [point for point in points if half < point[0] <= flood.submitted_at]

    def after(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [point for point in points if point[0] > flood.submitted_at]

    return {
        "jobs": options.jobs,
        "submitted": len(seen.submits),
        "refused": len(seen.refused),
        "submit_seconds": round(flood.submitted_at, 1),
        "submits_per_second": round(len(seen.submits) / flood.submitted_at, 1),
        "submit_first": spread(seen.submits[:part]),
        "submit_last": spread(seen.submits[-part:]),
        "read_early": spread(early(seen.reads)),
        "read_late": spread(late(seen.reads)),
        "read_after": spread(after(seen.reads)),
        "list_early": spread(early(seen.lists)),
        "list_late": spread(late(seen.lists)),
        "list_after": spread(after(seen.lists)),
        "single_alone_s": [round(seconds, 2) for seconds in flood.alone],
        "single_s": [round(seconds, 2) for _, seconds in seen.singles],
        "single_not_ended_after_s": [round(seconds, 2) for seconds in flood.waited],
        "ended": ended,
        "jobs_per_second": round(ended / seconds, 2) if seconds else 0,
        "worker_cpu_ms_per_job": round(worker_cpu * 1000 / ended, 1) if ended else None,
        "most": {name: max(gauge[name] for gauge in gauges) for name in names if "cpu" not in name},
        "first": gauges[0],
        "last": last,
    }


def main() -> None:
    """Prints the figures as JSON; --gauges adds what was seen every two seconds."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.overload", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--tenants", type=int, default=5)
    parser.add_argument("--clients", type=int, default=16, help="requests open at a time")
    parser.add_argument("--rate", type=float, default=0, help="submits a second; 0: all it takes")
    parser.add_argument("--watch", type=float, default=60, help="seconds to go on afterwards")
    parser.add_argument("--every", type=float, default=3, help="seconds between single imports")
    parser.add_argument("--pollers", type=int, default=0)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--gauges", action="store_true")
    options = parser.parse_args()
    # Long polls are the API's alone: nobody works meanwhile, so that all of them go on waiting.
    idle = {"worker1", "beat"} if options.pollers else set()
    with running(without={"flower", *idle}, env={}, worker_concurrency=options.concurrency) as rig:
        flood = Flood(rig, options)
        found = asyncio.run(_measure(flood, options))
    if options.gauges:
        found["gauges"] = flood.seen.gauges
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


async def _measure(flood: Flood, options: argparse.Namespace) -> dict[str, Any]:
    if options.pollers:
        return await flood.poll()
    await flood.run()
    return summary(flood, options)


if __name__ == "__main__":
    main()
