"""A worker is killed before and after every outside call of every step and of every undo.

The calls are read from an undisturbed run, not listed by hand. One import a crash point: all run at
once, each parked by the sandbox at its own call, and one SIGKILL ends them all there.
"""

from __future__ import annotations

import itertools

import pytest

from tests.faults.scenes import SCENES, Scene, calls, faults_of, prepare, verdict
from tests.rig import Rig, eventually


@pytest.mark.timeout(180)
@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_a_killed_worker_leaves_one_of_everything_or_nothing(rig: Rig, scene: Scene) -> None:
    worker = rig.stack.workers[0]
    worker.start()
    points = list(itertools.product(calls(rig, scene), ("before", "after")))
    worker.stop()
    assert len(points) > 30

    names, customers = {}, {}
    for call, when in points:
        customer, import_id = prepare(rig, scene, nth=call.nth, action="hold", when=when)
        customers[import_id], names[import_id] = customer, f"{when} {call}"

    patient = rig.patient_worker(concurrency=2 * len(points))
    patient.start()
    eventually(lambda: len(rig.holds()) == len(points), seconds=60)
    patient.kill()
    rig.control("holds/release", {})
    rig.expire_leases()

    worker.start()
    try:
        rig.wait(customers, seconds=60)
    finally:
        worker.stop()
    assert not (wrong := verdict(rig, scene, customers)), faults_of(wrong, names)
