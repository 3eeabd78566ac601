"""Every write is applied and its answer lost, in every way an answer can be lost."""

from __future__ import annotations

import pytest

from tests.faults.scenes import LOSSES, SCENES, Scene, calls, faults_of, prepare, verdict
from tests.rig import Rig


@pytest.mark.timeout(180)
@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_every_lost_answer_converges(rig: Rig, scene: Scene) -> None:
    worker = rig.stack.workers[0]
    worker.start()
    writes = [call for call in calls(rig, scene) if call.write]
    worker.stop()
    assert len(writes) >= 8

    names, customers = {}, {}
    for call in writes:
        for loss, fault in LOSSES.items():
            customer, import_id = prepare(rig, scene, nth=call.nth, **fault)
            customers[import_id], names[import_id] = customer, f"{loss}: {call}"

    worker.start()
    try:
        rig.wait(customers, seconds=90)
    finally:
        worker.stop()
    assert not (wrong := verdict(rig, scene, customers)), faults_of(wrong, names)
