"""The first table: the same job on every engine, in alternation, as a multiple of the floor."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tests.bench.engines import ABSENT, ENGINES, Engine
from tests.bench.figures import Spread, percentile, spreads
from tests.bench.site import PROCESSES, Failed, Site, Trial
from tests.bench.usage import Listener, cpu_seconds, memory_mb

#: Between two jobs that are measured alone, and before the idle time.
GAP_SECONDS: Final = 0.25
_DONE_SECONDS: Final = 180.0
#: What a job alone may have to wait for, of an engine that polls.
_POLL_SECONDS: Final = 3.0
#: The rate at which the goal for a submit's latency is set.
SUBMIT_RATE: Final = 200


@dataclass(frozen=True, kw_only=True)
class Load:
    """How much is measured at one latency of the vendor."""

    delay_ms: int
    threads: int
    jobs: int

    @property
    def in_flight(self) -> int:
        return self.threads * PROCESSES


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured altogether."""

    loads: tuple[Load, ...]
    runs: int
    #: Jobs that are measured alone, and whose statements are counted.
    alone: int
    counted: int
    idle_seconds: float
    http: int
    engines: tuple[Engine, ...] = ENGINES


FULL: Final = Size(
    loads=(
        Load(delay_ms=0, threads=8, jobs=600),
        Load(delay_ms=200, threads=128, jobs=1024),
    ),
    runs=3,
    alone=30,
    counted=50,
    idle_seconds=10.0,
    http=1000,
)
QUICK: Final = Size(
    loads=(Load(delay_ms=0, threads=8, jobs=100), Load(delay_ms=200, threads=16, jobs=64)),
    runs=1,
    alone=5,
    counted=30,
    idle_seconds=2.0,
    http=200,
)


@dataclass(kw_only=True)
class EngineTable:
    """What was found: the spread of every figure of every engine, at each latency."""

    #: "0 ms", "200 ms" → engine → figure; "alone" → what does not depend on the latency.
    found: dict[str, dict[str, dict[str, Spread]]] = field(default_factory=dict)
    #: Engine → why it is not among them.
    absent: dict[str, str] = field(default_factory=dict)


def measure(site: Site, size: Size) -> EngineTable:
    """Measures every engine that is installed, in turns."""
    table = EngineTable(absent=dict(ABSENT))
    engines = []
    for engine in size.engines:
        if engine.missing:
            table.absent[engine.title] = f"not installed: {', '.join(engine.missing)}"
        else:
            engines.append(engine)
    rows: dict[str, dict[str, list[Mapping[str, float]]]] = {}
    for load in size.loads:
        for run in range(size.runs):
            for engine in engines:
                name = f"{load.delay_ms} ms"
                _say(f"{name}, run {run + 1} of {size.runs}: {engine.title}")
                _keep(table, rows, name, engine, partial(backlog, site, engine, load))
    for engine in engines:
        _say(f"alone: {engine.title}")
        _keep(table, rows, "alone", engine, partial(alone, site, engine, size))
    table.found = {
        name: {engine: spreads(runs) for engine, runs in of.items()} for name, of in rows.items()
    }
    return table


def _keep(
    table: EngineTable,
    rows: dict[str, dict[str, list[Mapping[str, float]]]],
    name: str,
    engine: Engine,
    run: Callable[[], Mapping[str, float]],
) -> None:
    try:
        figures = run()
    except Failed as error:
        # A peer that gives up is part of the result; Trunkline and the floor must not.
        if engine.name in {"floor", "trunkline"}:
            raise SystemExit(f"{engine.title}: {error}") from error
        table.absent[f"{engine.title} ({name})"] = str(error)
        return
    rows.setdefault(name, {}).setdefault(engine.name, []).append(figures)


def backlog(site: Site, engine: Engine, load: Load) -> dict[str, float]:
    """Submits a backlog with nobody at work, then measures how the workers do away with it.

    The clock starts when the workers hold as many calls as they may, and ends with the last job.
    """
    with site.trial(engine, threads=load.threads) as trial:
        took = trial.submit(load.jobs)
        site.vendor.close_gate()
        trial.start()
        trial.wait_full(min(load.in_flight, load.jobs))
        started = time.time()

        def drain() -> None:
            site.vendor.open_gate(delay=load.delay_ms / 1000)
            trial.wait_done(load.jobs, seconds=_DONE_SECONDS)

        used = used_by(site, trial, drain)
        resident, proportional = memory_mb(trial.worker_pids)
        told = site.vendor.told()
        return {
            "jobs_per_second": load.jobs / (trial.last_end() - started),
            "cpu_ms": sum(used.values()) / load.jobs,
            **{f"cpu_{part}_ms": ms / load.jobs for part, ms in used.items()},
            "most_in_flight": told["most_in_flight"],
            "repeated_calls": told["calls"] - told["distinct"],
            "resident_mb": resident,
            "proportional_mb": proportional,
            **submits(took),
        }


def used_by(site: Site, trial: Trial, work: Callable[[], None]) -> dict[str, float]:
    """Returns what CPU time each part uses while something is done, in milliseconds."""
    servers = {"broker": site.stack.redis.pid, "database": site.stack.postgres.pid}
    pids = {"worker": trial.pids, **{part: [pid] for part, pid in servers.items() if pid}}
    before = {part: cpu_seconds(pids[part]) for part in pids}
    work()
    return {part: (cpu_seconds(pids[part]) - before[part]) * 1000 for part in pids}


def submits(took: Sequence[float]) -> dict[str, float]:
    """Returns the rate of one caller and the latencies; the first call pays for connections."""
    found = took[1:]
    return {
        "submits_per_second": 1000 * len(found) / sum(found),
        "submit_p50_ms": percentile(found, 0.5),
        "submit_p99_ms": percentile(found, 0.99),
    }


def alone(site: Site, engine: Engine, size: Size) -> dict[str, float]:
    """Measures one job at a time on idle workers, idleness itself, and what a job says."""
    stack = site.stack
    with site.trial(engine, threads=8) as trial:
        trial.start()
        count = _warm_up(trial)
        trial.submit(size.alone, gap=GAP_SECONDS)
        count += size.alone
        trial.wait_done(count, seconds=_DONE_SECONDS)
        # The producer's first one pays for its connections.
        times = trial.latest(size.alone - 1)
        time.sleep(1.0)
        idle = used_by(site, trial, lambda: time.sleep(size.idle_seconds))

        def burst() -> None:
            trial.submit(size.counted)
            trial.wait_done(count + size.counted, seconds=_DONE_SECONDS)

        listener = Listener(trial.url, stack.redis.url, stack.logs_dir / "postgres.log")
        silence = listener.during(lambda: time.sleep(size.idle_seconds))
        talk = listener.during(burst)
        found = {
            "alone_p50_ms": percentile(times, 0.5),
            "alone_p90_ms": percentile(times, 0.9),
            **talk.a_job(size.counted, idle=silence),
            "idle_cpu_ms": sum(idle.values()) / size.idle_seconds,
            **{f"idle_{part}_ms": used / size.idle_seconds for part, used in idle.items()},
            "idle_statements": silence.a_second()["statements"],
        }
        if engine.name == "trunkline":
            trial.stop()
            found |= _over_http(site, trial, size.http)
        return found


def _warm_up(trial: Trial) -> int:
    """Lets every process open its connections; returns how many jobs that took."""
    count = trial.threads * PROCESSES
    trial.submit(count)
    trial.wait_done(count, seconds=_DONE_SECONDS)
    time.sleep(_POLL_SECONDS / 3)
    return count


def _over_http(site: Site, trial: Trial, count: int) -> dict[str, float]:
    """Measures submits over HTTP, with no worker running: at full speed and at a fixed rate."""
    with site.api(trial) as (url, key):
        at_speed, at_rate = (
            json.loads(
                site.program("http_submits", url, key, str(count), str(rate), env=trial.environment)
            )
            for rate in (0, SUBMIT_RATE)
        )
    return {
        "http_submits_per_second": count / at_speed["seconds"],
        "http_submit_p50_ms": percentile(at_rate["took"], 0.5),
        "http_submit_p99_ms": percentile(at_rate["took"], 0.99),
    }


def _say(what: str) -> None:
    sys.stderr.write(what + "\n")
