"""Does what the plan's faults say to a running stack."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from psycopg import OperationalError as DatabaseAway
from redis.exceptions import RedisError

from deploy.local.processes import StackError
from deploy.local.service import Service
from deploy.local.services import HTTP_OK
from deploy.local.waiting import http_status
from tests.chaos.plan import LANES, Fault, Plan
from tests.rig import Rig

_Hits = tuple[tuple[str, float], ...]
#: Jobs whose message is sent a second time, at each such fault.
_DOUBLED: Final = 20
#: Kinds of faults that leave a way for every job.
_OTHERS_GO_ON: Final = frozenset(
    {"worker killed", "worker restarted", "api killed", "messages doubled"}
)
_HOLDS: Final = (
    "SELECT 1 FROM (SELECT DISTINCT ON (job) who, leased FROM chaos.history ORDER BY job, n DESC) "
    "AS last WHERE leased AND who = '{}' LIMIT 1"
)
_WORKED: Final = "SELECT 1 FROM chaos.history WHERE who = '{}' AND at > {} LIMIT 1"
_OPEN: Final = "SELECT id FROM import_jobs WHERE state IN ('queued', 'running', 'undoing') LIMIT {}"


class LeftOutError(Exception):
    """The trouble ended before a fault's time had come."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A fault that was done."""

    kind: str
    #: What was hit, by the supervisor's names, and when.
    hits: tuple[tuple[str, float], ...]
    #: By the clock that the database has, too.
    began: float
    ended: float
    #: Why it could not be done as planned.
    problem: str | None = None


class Trouble:
    """One thread a lane; each does its faults one after the other, late rather than never."""

    def __init__(self, rig: Rig, plan: Plan) -> None:
        self._rig = rig
        self._stack = rig.stack
        self._plan = plan
        self._done: list[Done] = []
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._begun = time.time()
        self._last_hit: dict[str, float] = {}
        self._kinds: dict[str, Callable[[Fault], _Hits]] = {
            "worker killed": self._kill_worker,
            "all workers killed": self._kill_workers,
            "worker restarted": self._restart_worker,
            "api killed": self._kill_api,
            "beat killed": lambda _: self._kill("beat"),
            "redis emptied": self._empty_redis,
            "redis restarted": lambda _: self._restart("redis"),
            "redis killed": lambda _: self._kill("redis"),
            "redis stopped": self._stop_redis,
            "postgres restarted": lambda _: self._restart("postgres"),
            "postgres killed": lambda _: self._kill("postgres"),
            "messages doubled": self._double_messages,
        }

    @property
    def done(self) -> list[Done]:
        """What was done so far, oldest first."""
        with self._lock:
            return sorted(self._done, key=lambda one: one.began)

    @property
    def is_over(self) -> bool:
        """Whether every fault of the plan was done."""
        return not any(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Lets the clock of the plan begin."""
        self._begun = time.time()
        begun = time.monotonic()
        for name, kinds in LANES.items():
            faults = [fault for fault in self._plan.faults if fault.kind in kinds]
            thread = threading.Thread(
                target=self._run, args=(begun, faults), name=f"trouble-{name}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Waits until the last fault is over; those whose time has not come are left out."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _run(self, begun: float, faults: Sequence[Fault]) -> None:
        for fault in faults:
            if self._ending.wait(max(0.0, begun + fault.at - time.monotonic())):
                return
            began = time.time()
            hits: _Hits = ()
            problem = None
            try:
                hits = self._kinds[fault.kind](fault)
            except LeftOutError:
                return
            except (StackError, DatabaseAway, RedisError, OperationalError, OSError) as error:
                # Another lane has the part down at this moment.
                problem = f"{type(error).__name__}: {error}".splitlines()[0]
            done = Done(kind=fault.kind, hits=hits, began=began, ended=time.time(), problem=problem)
            with self._lock:
                self._done.append(done)

    def _kill(self, name: str) -> _Hits:
        """The supervisor starts it again; over when it has."""
        part, at = self._stack.part(name), time.time()
        part.kill()
        while not part.alive and not self._ending.is_set():
            time.sleep(0.05)
        return ((name, at),)

    def _restart(self, name: str) -> _Hits:
        at = time.time()
        self._stack.part(name).restart()
        return ((name, at),)

    def _worker(self, fault: Fault) -> Service:
        workers = self._stack.workers
        return workers[int(fault.choice * len(workers))]

    def _kill_worker(self, fault: Fault) -> _Hits:
        worker = self._worker(fault)
        self._until(lambda: self._has_worked([worker]))
        return (self._hit(worker),)

    def _kill_workers(self, _fault: Fault) -> _Hits:
        self._until(lambda: self._has_worked(self._stack.workers))
        return tuple(self._hit(worker) for worker in self._stack.workers)

    def _hit(self, worker: Service) -> tuple[str, float]:
        at = time.time()
        worker.kill()
        self._last_hit[worker.name] = time.time()
        return worker.name, at

    def _has_worked(self, workers: Sequence[Service]) -> bool:
        """Whether one of them has worked since it was hit last, and holds a job at this moment.

        On a busy machine a worker takes long to start; to kill it before it has begun proves
        nothing. Where nothing is to be done it may be idle.
        """
        if not self._rig.sql(_OPEN.format(1)):
            return True
        return any(
            self._rig.sql(_WORKED.format(worker.name, self._last_hit.get(worker.name, self._begun)))
            and self._rig.sql(_HOLDS.format(worker.name))
            for worker in workers
        )

    def _kill_api(self, _fault: Fault) -> _Hits:
        self._until(lambda: http_status(f"{self._stack.api_url}/healthz") == HTTP_OK)
        return self._kill("api")

    def _until(self, condition: Callable[[], bool]) -> None:
        """Waits for something that other lanes may hold up, but not beyond the trouble's end."""
        while not self._ending.is_set():
            with contextlib.suppress(DatabaseAway):
                if condition():
                    return
            self._ending.wait(0.05)
        raise LeftOutError

    def _restart_worker(self, fault: Fault) -> _Hits:
        """As a deploy does it: SIGTERM, and SIGKILL only after the grace."""
        worker = self._worker(fault)
        self._until(lambda: self._has_worked([worker]))
        at = time.time()
        worker.stop(10)
        worker.launch()
        self._last_hit[worker.name] = time.time()
        return ((worker.name, at),)

    def _empty_redis(self, _fault: Fault) -> _Hits:
        with redis.Redis.from_url(self._stack.redis.url) as client:
            client.flushall()
        return (("redis", time.time()),)

    def _stop_redis(self, _fault: Fault) -> _Hits:
        at = time.time()
        self._stack.redis.stop()
        self._ending.wait(self._plan.size.redis_down_seconds)
        self._stack.redis.start()
        return (("redis", at),)

    def _double_messages(self, _fault: Fault) -> _Hits:
        """Sends the message of jobs that have theirs, or are being worked on, once more."""
        jobs = self._rig.sql(_OPEN.format(_DOUBLED))
        with Celery(set_as_current=False) as app:
            app.conf.update(broker_url=self._stack.redis.url, task_ignore_result=True)
            app.conf.broker_transport_options = {"max_retries": 1, "interval_start": 0}
            for (job,) in jobs:
                message = {"args": [f"imp_{job.hex}"], "queue": "imports"}
                app.send_task("imports.start", retry=False, **message)
        return ()


def spans(done: Sequence[Done], *, back_after: float) -> list[tuple[float, float]]:
    """Returns when something that every job needs was down, or was just coming back.

    A worker more or less is none of it: the others take over.
    """
    return [
        (one.began, one.ended + back_after)
        for one in done
        if one.kind not in _OTHERS_GO_ON and one.problem is None
    ]
