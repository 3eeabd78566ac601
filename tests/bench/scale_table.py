"""The third table: what a job costs beside much that is queued or has ended, and with more workers.

It is the job of the first table, in Trunkline's worker. A queue is filled while nobody works, the
workers take what they can hold, and the clock runs while they do a thousand of its jobs (or all
that there are). The costs are held against those at a thousand queued jobs and an empty history.

"sent" is a queue of messages, as of very many organisations; "held" is what one organisation asked
for beyond its places, of which the broker knows nothing. The history is a million ended imports
with their steps and numbers; what reads of it take is asked over HTTP, one request at a time.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from tests.bench.engine_table import used_by
from tests.bench.engines import ENGINES
from tests.bench.figures import Spread, percentile, spreads
from tests.bench.http import Answer, Connection
from tests.bench.site import Site, Trial
from tests.bench.work import STEPS
from worker.domain.values import format_id
from worker.settings import ORGANIZATION_CONCURRENCY

_TRUNKLINE: Final = next(engine for engine in ENGINES if engine.name == "trunkline")
_THREADS: Final = 8
_DRAIN_SECONDS: Final = 300.0
#: One organisation with the number of places that it has by default.
_HELD: Final = {"TRUNKLINE_ORGANIZATION_CONCURRENCY": str(ORGANIZATION_CONCURRENCY)}
#: What all costs are held against.
BASE: Final = "1,000 sent"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    #: How many jobs are queued; of each queue as many as `measured` are done.
    queued: tuple[int, ...]
    measured: int
    runs: int
    #: Imports that have ended before.
    history: int
    reads: int


FULL: Final = Size(queued=(100, 1000, 20_000), measured=1000, runs=3, history=1_000_000, reads=300)
QUICK: Final = Size(queued=(100, 1000), measured=200, runs=1, history=20_000, reads=30)


@dataclass(kw_only=True)
class ScaleTable:
    """What was found."""

    #: "1,000 sent" and so on → figure.
    costs: dict[str, dict[str, Spread]] = field(default_factory=dict)
    #: "empty" or "1,000,000 ended" → "an import" and so on → p50, p99 in milliseconds.
    reads: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)

    def times_base(self) -> dict[str, float]:
        """Returns what a job costs in each case, as a multiple of the base."""
        base = self.costs[BASE]["cpu_ms"].median
        return {
            name: round(figures["cpu_ms"].median / base, 3) for name, figures in self.costs.items()
        }


def measure(site: Site, size: Size) -> ScaleTable:
    """Measures queues, worker processes and a history, each on a database of its own."""
    table = ScaleTable()
    rows: dict[str, list[Mapping[str, float]]] = {}

    def keep(name: str, trial: Trial, queued: int) -> None:
        _say(f"scale: {name}")
        rows.setdefault(name, []).append(_cost(site, trial, queued, size.measured))

    for queued in size.queued:
        with site.trial(_TRUNKLINE, threads=_THREADS) as trial:
            for _ in range(size.runs):
                keep(f"{queued:,} sent", trial, queued)
    with site.trial(_TRUNKLINE, threads=_THREADS, settings=_HELD) as trial:
        for _ in range(size.runs):
            keep(f"{size.queued[-1]:,} held", trial, size.queued[-1])
    with site.trial(_TRUNKLINE, threads=_THREADS, processes=4) as trial:
        for _ in range(size.runs):
            keep("1,000 sent, 4 processes", trial, 1000)
    with site.trial(_TRUNKLINE, threads=_THREADS) as trial:
        keep("1,000 sent, before a history", trial, 1000)
        table.reads["empty"] = _reads(site, trial, size.reads)
        _say(f"scale: {size.history:,} imports end")
        _remember(trial, size.history)
        for _ in range(size.runs):
            keep(f"1,000 sent, {size.history:,} ended", trial, 1000)
        table.reads[f"{size.history:,} ended"] = _reads(site, trial, size.reads)
    table.costs = {name: spreads(runs) for name, runs in rows.items()}
    return table


def _cost(site: Site, trial: Trial, queued: int, measured: int) -> dict[str, float]:
    """Fills the queue, and measures how the workers do so many of its jobs."""
    missing = queued - trial.open()
    if missing > 0:
        trial.submit(missing)
    wanted = min(queued, measured)
    site.vendor.forget()
    site.vendor.close_gate()
    trial.start()
    trial.wait_full(min(queued, trial.threads * trial.processes))
    done = trial.done()

    def drain() -> None:
        site.vendor.open_gate(delay=0)
        trial.wait_called(wanted * len(STEPS), seconds=_DRAIN_SECONDS)

    started = time.monotonic()
    used = used_by(site, trial, drain)
    seconds, told = time.monotonic() - started, site.vendor.told()
    # Asked afterwards, since asking costs as well: of how many jobs that was the work.
    ended = trial.done() - done
    trial.stop()
    return {
        "jobs_per_second": ended / seconds,
        "cpu_ms": sum(used.values()) / ended,
        **{f"cpu_{part}_ms": ms / ended for part, ms in used.items()},
        "repeated_calls": told["calls"] - told["distinct"],
    }


def _remember(trial: Trial, count: int) -> None:
    """Puts ended imports into the tables, all like one that ended, over the last weeks."""
    with psycopg.connect(trial.url) as connection:
        connection.execute(
            """
            CREATE TEMPORARY TABLE history AS
            SELECT n,
                now() - n * interval '3 s' AS ended,
                (moment || '7' || substr(one, 1, 3) || '8' || substr(one, 4, 15))::uuid AS job,
                (moment || '7' || substr(one, 17, 3) || '8' || substr(one, 16, 15))::uuid AS number
            FROM generate_series(1, %s) AS n,
                md5(n::text) AS one,
                lpad(to_hex(floor(extract(epoch FROM now()) * 1000)::bigint - n * 3000), 12, '0')
                    AS moment
            """,
            [count],
        )
        found = connection.execute(
            "SELECT id, phone_number_id FROM import_jobs WHERE state = 'active' LIMIT 1"
        ).fetchone()
        assert found is not None, "imports ended before"
        job, number = found
        names = ("created_at", "updated_at", "started_at", "finished_at")
        times = dict.fromkeys(names, "h.ended")
        e164 = {"e164": "'+1' || (2000000000 + h.n)"}
        jobs = {"id": "h.job", "phone_number_id": "h.number", **e164, **times}
        _copy(connection, "import_jobs", "m.id", job, jobs)
        _copy(connection, "job_steps", "m.job_id", job, {"job_id": "h.job", **times})
        numbers = {"id": "h.number", "import_id": "h.job", **e164, "checked_at": "h.ended"}
        _copy(connection, "phone_numbers", "m.id", number, numbers)
    with psycopg.connect(trial.url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _copy(
    connection: psycopg.Connection[Any], table: str, key: str, model: Any, changed: dict[str, str]
) -> None:
    found = connection.execute(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name = %s",
        [table],
    ).fetchall()
    columns = {name: changed.get(name, f"m.{name}") for (name,) in found}
    query = (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())}"  # noqa: S608 -- ours
        f" FROM {table} AS m, history AS h WHERE {key} = %s"
    )
    connection.execute(query.encode(), [model])


def _reads(site: Site, trial: Trial, count: int) -> dict[str, tuple[float, float]]:
    """Returns what reads take over HTTP; beside a queue that nobody works on."""
    _say(f"scale: {count} reads of each kind")
    query = "SELECT id FROM import_jobs TABLESAMPLE SYSTEM (20) LIMIT 1000"
    with psycopg.connect(trial.url) as connection:
        jobs = [format_id("imp", job) for (job,) in connection.execute(query)]
    with site.api(trial) as (url, key):
        return asyncio.run(_ask(url, key, jobs, count))


async def _ask(url: str, key: str, jobs: list[str], count: int) -> dict[str, tuple[float, float]]:
    chance = random.Random(7)  # noqa: S311 -- the same in every run
    async with Connection(url, {"Authorization": f"Bearer {key}"}) as connection:

        async def get(path: str, **headers: str) -> Answer:
            answer = await connection.send("GET", path, **headers)
            assert answer.status in (200, 304), answer.body
            return answer

        async def unchanged(job: str) -> Answer:
            etag = (await get(f"/v1/imports/{job}")).headers["etag"]
            answer = await get(f"/v1/imports/{job}", **{"If-None-Match": etag})
            assert answer.status == 304, answer.body
            return answer

        asked: dict[str, Callable[[str], Awaitable[Answer]]] = {
            "an import": lambda job: get(f"/v1/imports/{job}"),
            "an import, unchanged": unchanged,
            "a page of imports": lambda _: get("/v1/imports?limit=50"),
            "a page far back": lambda job: get(f"/v1/imports?limit=50&cursor={job}"),
            **{
                f"a page, {state}": _page_of(get, state) for state in ("queued", "active", "failed")
            },
            "a page of numbers": lambda _: get("/v1/phone-numbers?limit=50"),
            "counts": lambda _: get("/v1/imports/counts"),
        }
        found = {}
        for name, ask in asked.items():
            took = [(await ask(chance.choice(jobs))).seconds * 1000 for _ in range(count)]
            found[name] = (percentile(took, 0.5), percentile(took, 0.99))
        return found


def _page_of(
    get: Callable[[str], Awaitable[Answer]], state: str
) -> Callable[[str], Awaitable[Answer]]:
    return lambda _: get(f"/v1/imports?limit=50&status={state}")


def _say(what: str) -> None:
    sys.stderr.write(what + "\n")
