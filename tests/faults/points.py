"""Where a worker can die in the middle of jobs, how few jobs it takes to see it die everywhere, and
the SIGKILLs.

A job is killed many times, but at most once in each step and once in each undo: what it does
there first is what an undisturbed job does, so that each call can be told by its place.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from tests.faults.held import Kind
from tests.faults.scenes import Call
from tests.rig import Rig, eventually
from tests.vendors import CARRIER
from worker.domain.job import PLANS, JobKind, StepName

#: How many more threads than jobs a worker has: for copies of messages, and for the sweep.
_SPARE_THREADS: Final = 32
_UNDO: Final = ".undo"


@dataclass(frozen=True, kw_only=True)
class Point:
    """The moment before or after one outside call of a step, or of an undo."""

    step: str
    operation: str
    #: Its place among the calls of this operation.
    nth: int
    when: Literal["before", "after"]

    def __str__(self) -> str:
        return f"{self.when} {self.operation} {self.nth} of {self.step}"

    def fault(self, job_id: str) -> dict[str, Any]:
        """The sandbox's fault that parks the job here."""
        match = {"import_id": job_id, "step": self.step, "operation": self.operation}
        return {"match": match, "nth": self.nth, "action": "hold", "when": self.when}


def points_of(calls: Sequence[Call]) -> list[Point]:
    """The moments that differ, or with ``TRUNKLINE_CRASH_POINTS=all`` every one."""
    every = os.environ.get("TRUNKLINE_CRASH_POINTS") == "all"
    return all_points(calls) if every else unlike_points(calls)


def all_points(calls: Sequence[Call]) -> list[Point]:
    """Every moment before and after a call at which a worker can die.

    An undo writes nothing down between two calls, so that there the moment before a call is the one
    after the call before it: only the first is parked before it, too.
    """
    first = {call.step: call for call in reversed(calls)}
    return [
        point
        for call, before, after in _moments(calls)
        for point in (before, after)
        if point is after or not call.step.endswith(_UNDO) or call is first[call.step]
    ]


def unlike_points(calls: Sequence[Call]) -> list[Point]:
    """The moments that differ in what exists outside, or in what is written down of it.

    A read changes neither: so after each write, before the call that comes after one, since the id
    of what was made is written down in between, and before the first call of each step.
    """
    points, last = [], None
    for call, before, after in _moments(calls):
        if last is None or last.write or last.step != call.step:
            points.append(before)
        if call.write:
            points.append(after)
        last = call
    return points


def _moments(calls: Sequence[Call]) -> Iterable[tuple[Call, Point, Point]]:
    seen = Counter[tuple[str, str]]()
    for call in calls:
        place = (call.step, call.operation)
        seen[place] += 1
        before, after = (
            Point(step=call.step, operation=call.operation, nth=seen[place], when=when)
            for when in _WHEN
        )
        yield call, before, after


_WHEN: Final[tuple[Literal["before"], Literal["after"]]] = ("before", "after")


def spread(points: Sequence[Point]) -> list[list[Point]]:
    """Shares points out to as few jobs as can meet them all, at most one a step, evenly."""
    steps = defaultdict[str, list[Point]](list)
    for point in points:
        steps[point.step].append(point)
    jobs: list[list[Point]] = [[] for _ in range(max(map(len, steps.values())))]
    for some in sorted(steps.values(), key=len, reverse=True):
        for point, job in zip(some, sorted(jobs, key=len), strict=False):
            job.append(point)
    return jobs


def kill_everywhere(
    rig: Rig,
    jobs: Mapping[str, Sequence[Point]],
    *,
    dying: Callable[[], None] = lambda: None,
    dead: Callable[[], None] = lambda: None,
) -> None:
    """Kills the worker whenever all jobs that are left are parked, until none is left.

    None of the jobs may have begun. Something may be done just before a worker dies, and after.
    """
    faults = [point.fault(job_id) for job_id, points in jobs.items() for point in points]
    rig.control("faults", faults)
    while _let_work(rig, len(jobs), dying):
        rig.control("holds/release", {})
        rig.expire_leases()
        dead()
    faults = rig.sandbox.get("/_sandbox/faults").json()["faults"]
    missed = [fault["match"] for fault in faults if fault["action"] == "hold" and not fault["hits"]]
    rig.sandbox.delete("/_sandbox/faults")
    assert not missed, f"nobody was killed there: {missed}"


def _let_work(rig: Rig, jobs: int, dying: Callable[[], None]) -> bool:
    """Lets a worker do all it can and kills it; tells whether it left something."""
    worker = rig.patient_worker(concurrency=jobs + _SPARE_THREADS)
    worker.launch()
    parked: set[str] = set()

    def all_parked() -> bool:
        nonlocal parked
        assert worker.alive, worker.log_file.read_text()[-2000:]
        left = _open_jobs(rig)
        parked = {hold["import_id"] for hold in rig.holds()} if left else set()
        return left <= parked

    try:
        eventually(all_parked, seconds=150, pause_seconds=0.25)
        if parked:
            dying()
    finally:
        worker.kill()
    return bool(parked)


def _open_jobs(rig: Rig) -> set[str]:
    rows = rig.sql("SELECT id FROM import_jobs WHERE state IN ('queued', 'running', 'undoing')")
    return {f"imp_{job_id.hex}" for (job_id,) in rows}


#: Steps that only read: there is nothing of theirs to undo.
_READERS: Final = frozenset({StepName.VALIDATE_CREDENTIALS, StepName.CHECK_OWNERSHIP})


def require_complete(kind: Kind, job: JobKind, calls: Iterable[Call]) -> None:
    """Makes sure that every step of a job has crash points, but for those that call nobody."""
    undone = job is JobKind.RELEASE
    quiet = {StepName.PERSIST_NUMBER}  # our own database alone
    if undone:
        quiet |= _READERS
    if kind.vendor is CARRIER:
        # Of a carrier nothing is read and nothing set.
        quiet |= {*_READERS, StepName.CONFIGURE_WEBHOOKS, StepName.ROUTE_NUMBER}
    elif str(kind) == "plivo-sip_trunk" and not undone:
        # Plivo's messages go where its calls go, so that a trunk leaves nothing to set up.
        quiet.add(StepName.CONFIGURE_WEBHOOKS)
    steps = {call.step for call in calls}
    without = {step for step in PLANS[job] if f"{step}{_UNDO if undone else ''}" not in steps}
    assert without == quiet & {*PLANS[job]}, f"{kind}: {job} steps without points: {without}"
