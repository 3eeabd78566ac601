"""The worker is killed before and after every outside call of every step and of every undo: of
imports that succeed, fail and are cancelled, of rebindings, repairs and releases, of every kind of
number.

The calls are read from undisturbed jobs, not listed by hand. A call that only reads leaves nothing
that differs outside or in the rows, so the moments around it are those of its neighbours:
``TRUNKLINE_CRASH_POINTS=all`` kills there, too, which takes twice as long.

The sandbox parks jobs at their points; when all that is left is parked, one SIGKILL ends the
worker, and the next one goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pytest

from tests.faults.held import (
    ALL_KINDS,
    Held,
    Kind,
    count_made,
    hold,
    imported,
    journal_of,
    livekit_texts,
    lose,
    not_given_back,
    not_whole,
    rebind,
    refused,
    release,
    repair,
    submit,
)
from tests.faults.points import (
    Point,
    kill_everywhere,
    points_of,
    require_complete,
    spread,
    unlike_points,
)
from tests.faults.scenes import Call, faults_of
from tests.rig import Rig
from worker.domain.job import JobKind

Jobs = dict[str, Held]
#: The undo of an import that fails, beside the jobs that a number goes through. Its way there is
#: that of the imports that succeed, and what they left is undone by the release.
FAILED: Final = "failed"
#: What a number goes through, in this order.
LIFE: Final = (JobKind.IMPORT, JobKind.REBIND, JobKind.REPAIR, JobKind.RELEASE)
assert {*LIFE} == {*JobKind}, "a kind of job is not killed"


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """What jobs do when nobody dies, by kind of number."""

    calls: Mapping[str, Mapping[Kind, Sequence[Call]]]
    #: How many of each kind of object an import makes.
    made: Mapping[Kind, Mapping[str, int]]

    def points(self, job: str) -> Iterator[tuple[Kind, list[Point]]]:
        """Yields one after the other what the jobs of each kind of number are to meet."""
        for kind, calls in self.calls[job].items():
            for points in spread(points_of(calls)):
                yield kind, points


@pytest.fixture(scope="module")
def undisturbed(rig: Rig) -> Undisturbed:
    """Lets one number of each kind live its whole life, and another fail to be imported."""
    failing = refused(rig, submit(rig, ALL_KINDS))
    worker = rig.patient_worker(concurrency=32)
    worker.start()
    try:
        held = hold(rig, ALL_KINDS)
        assert not (wrong := not_given_back(rig, failing, ended="failed")), wrong
        state = rig.state()
        texts = livekit_texts(state)
        made = {one.kind: count_made(state, texts, one) for one in held}
        calls: dict[JobKind, dict[Kind, Sequence[Call]]] = {
            JobKind.IMPORT: {one.kind: journal_of(rig, one.import_id) for one in held}
        }
        for kind, ask in _ASK.items():
            jobs = ask(rig, held)
            rig.settle()
            calls[kind] = {one.kind: journal_of(rig, job_id) for job_id, one in jobs.items()}
        assert not (wrong := not_given_back(rig, jobs)), wrong
    finally:
        worker.stop()
    undone = {one.kind: _undone(journal_of(rig, job_id)) for job_id, one in failing.items()}
    for kind, found in calls.items():
        for one, its in found.items():
            require_complete(one, kind, its)
    for one, its in undone.items():
        require_complete(one, JobKind.RELEASE, its)
    return Undisturbed(
        calls={**{str(kind): its for kind, its in calls.items()}, FAILED: undone}, made=made
    )


def _undone(calls: Sequence[Call]) -> list[Call]:
    return [call for call in calls if call.step.endswith(".undo")]


# What is asked of numbers that are active


def _rebind(rig: Rig, numbers: Sequence[Held]) -> Jobs:
    agent = rig.agent("concierge")
    jobs = {}
    for held in numbers:
        inbound = {"fallback_agent_id": agent} if held.kind.mode == "webhook" else {}
        jobs[rebind(rig, held, {"agent_id": agent, "inbound": inbound})] = held
    return jobs


def _repair(rig: Rig, numbers: Sequence[Held]) -> Jobs:
    lose(rig, *numbers)
    return {repair(rig, held): held for held in numbers}


def _release(rig: Rig, numbers: Sequence[Held]) -> Jobs:
    return {release(rig, held): held for held in numbers}


_ASK: Final[Mapping[JobKind, Callable[[Rig, Sequence[Held]], Jobs]]] = {
    JobKind.REBIND: _rebind,
    JobKind.REPAIR: _repair,
    JobKind.RELEASE: _release,
}
assert (JobKind.IMPORT, *_ASK) == LIFE


# The deaths


@dataclass(kw_only=True)
class Lives:
    """Active numbers whose imports were killed everywhere, and which agent each has by now."""

    numbers: list[Held]
    names: dict[str, str]
    agents: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def lives(rig: Rig, undisturbed: Undisturbed) -> Lives:
    """Imports as many numbers of each kind as it takes to meet every point of a life."""
    most: Counter[Kind] = Counter()
    for job in LIFE:
        most |= Counter(kind for kind, _ in undisturbed.points(job))
    numbers = submit(rig, most.elements())
    names = _kill(rig, {held.import_id: held for held in numbers}, undisturbed, JobKind.IMPORT)
    return Lives(numbers=numbers, names=names)


def _kill(rig: Rig, jobs: Jobs, undisturbed: Undisturbed, job: str) -> dict[str, str]:
    """Has jobs killed at every point of their kind; returns who was killed where."""
    waiting = [(held.kind, job_id) for job_id, held in jobs.items()]
    parked = {}
    for kind, points in undisturbed.points(job):
        place = next(place for place in waiting if place[0] == kind)
        waiting.remove(place)
        parked[place[1]] = points
    kill_everywhere(rig, parked)
    return {
        job_id: f"{held.kind}, killed {', '.join(map(str, parked.get(job_id, ())))}"
        for job_id, held in jobs.items()
    }


@pytest.mark.timeout(400)
def test_an_import_leaves_one_of_everything(
    rig: Rig, undisturbed: Undisturbed, lives: Lives
) -> None:
    jobs = {held.import_id: held for held in lives.numbers}
    wrong = not_whole(rig, jobs, undisturbed.made, lives.agents)
    assert not wrong, faults_of(wrong, lives.names)


@pytest.mark.timeout(400)
def test_an_import_that_fails_leaves_nothing(rig: Rig, undisturbed: Undisturbed) -> None:
    kinds = [kind for kind, _ in undisturbed.points(FAILED)]
    jobs = refused(rig, submit(rig, kinds))
    names = _kill(rig, jobs, undisturbed, FAILED)
    assert not (wrong := not_given_back(rig, jobs, ended="failed")), faults_of(wrong, names)


@pytest.mark.timeout(400)
def test_an_import_that_is_cancelled_leaves_nothing(rig: Rig, undisturbed: Undisturbed) -> None:
    points = [
        (kind, point)
        for kind, calls in undisturbed.calls[JobKind.IMPORT].items()
        for point in unlike_points(calls)
    ]
    jobs = {held.import_id: held for held in submit(rig, (kind for kind, _ in points))}
    parked = {job_id: [point] for job_id, (_, point) in zip(jobs, points, strict=True)}

    def cancel(some: Sequence[str]) -> None:
        for job_id in some:
            answer = rig.api.post(f"/v1/imports/{job_id}/cancel")
            assert answer.is_success, answer.text

    # While its worker still holds the step, and when nobody does any more.
    orders = [list(jobs)[::2], list(jobs)[1::2]]
    kill_everywhere(
        rig, parked, dying=lambda: cancel(orders.pop(0)), dead=lambda: cancel(orders.pop(0))
    )
    names = {job_id: f"{jobs[job_id].kind}, killed {point}" for job_id, (point,) in parked.items()}
    wrong = not_given_back(rig, jobs, ended="cancelled")
    assert not wrong, faults_of(wrong, names)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", [JobKind.REBIND, JobKind.REPAIR])
def test_a_change_leaves_one_of_everything(
    rig: Rig, undisturbed: Undisturbed, lives: Lives, kind: JobKind
) -> None:
    some = _enough(rig, undisturbed, lives, kind)
    jobs = _ASK[kind](rig, some)
    names = _kill(rig, jobs, undisturbed, kind)
    if kind is JobKind.REBIND:
        lives.agents |= {held.import_id: "concierge" for held in some}
    wrong = not_whole(rig, jobs, undisturbed.made, lives.agents)
    assert not wrong, faults_of(wrong, names)


@pytest.mark.timeout(400)
def test_a_release_leaves_nothing(rig: Rig, undisturbed: Undisturbed, lives: Lives) -> None:
    jobs = _release(rig, [imported(rig, held) for held in lives.numbers])
    names = _kill(rig, jobs, undisturbed, JobKind.RELEASE)
    assert not (wrong := not_given_back(rig, jobs)), faults_of(wrong, names)


def _enough(rig: Rig, undisturbed: Undisturbed, lives: Lives, job: JobKind) -> list[Held]:
    """Returns as many numbers of each kind as a job has points to share out."""
    wanted = Counter(kind for kind, _ in undisturbed.points(job))
    some = []
    for held in lives.numbers:
        if wanted[held.kind]:
            wanted[held.kind] -= 1
            some.append(imported(rig, held))
    return some
