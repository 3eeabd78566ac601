"""A worker is killed before and after every outside call of a release, of every kind of number.

The moment before a call is the moment after the one before it, unless a step of the undo ended in
between. So each call is parked after it was answered, and the first of each step before it, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.faults.held import KINDS, hold, not_given_back, release, released_calls
from tests.faults.scenes import Call, faults_of
from tests.rig import Rig, eventually
from tests.vendors import VENDORS, Vendor


@pytest.mark.timeout(400)
@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_a_killed_worker_gives_the_number_back_all_the_same(rig: Rig, vendor: Vendor) -> None:
    worker = rig.stack.workers[0]
    worker.start()
    undisturbed = released_calls(rig, [kind for kind in KINDS if kind.vendor is vendor])
    points = [(kind, *point) for kind, calls in undisturbed.items() for point in _points(calls)]
    assert len(points) > 40
    held = hold(rig, (kind for kind, _, _ in points))
    worker.stop()

    jobs, names = {}, {}
    for (kind, call, when), number in zip(points, held, strict=True):
        job_id = release(rig, number)
        rig.fault(import_id=job_id, nth=call.nth, action="hold", when=when)
        jobs[job_id], names[job_id] = number, f"{kind}, {when} {call}"

    patient = rig.patient_worker(concurrency=2 * len(points))
    patient.start()
    eventually(lambda: len(rig.holds()) == len(points), seconds=60)
    patient.kill()
    rig.control("holds/release", {})
    rig.expire_leases()

    worker.start()
    try:
        rig.settle()
    finally:
        worker.stop()
    assert not (wrong := not_given_back(rig, jobs)), faults_of(wrong, names)


def _points(calls: Sequence[Call]) -> list[tuple[Call, str]]:
    steps = [call.step for call in calls]
    first = [(call, "before") for call in calls if steps.index(call.step) == call.nth - 1]
    return [*first, *((call, "after") for call in calls)]
