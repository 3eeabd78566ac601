"""Every write is applied and its answer lost, in every way an answer can be lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.scenes import SCENES, Scene, calls, faults_of, prepare, verdict
from tests.rig import Rig

LOSSES: dict[str, dict[str, Any]] = {
    "cut after it was applied": {"action": "lost"},
    "500 after it was applied": {"action": "lost_status", "status": 500},
    "applied when the client has given up": {"action": "delay", "seconds": 2.0},
    "cut before it was applied": {"action": "cut"},
    "garbage instead": {"action": "garbage"},
    "503 instead": {"action": "status", "status": 503},
}


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
