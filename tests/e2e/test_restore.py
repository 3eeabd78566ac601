"""A restored database, as the runbook has it: what was under way goes on, what changed is found."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from livekit.protocol.sip import DeleteSIPDispatchRuleRequest, DeleteSIPTrunkRequest

from deploy.local.postgres import find_programs
from tests.faults.scenes import Scene, verdict
from tests.rig import FAST, Rig, eventually, running


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running(without={"flower"}, env=FAST) as rig:
        yield rig


def _run(program: str, *arguments: str) -> None:
    done = subprocess.run(  # noqa: S603 -- Postgres' own
        [find_programs() / program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_restored_database_goes_on_and_finds_what_changed_since(rig: Rig, tmp_path: Path) -> None:
    parts = (rig.stack.beat, *rig.stack.workers, rig.stack.api)
    stays, goes, held, later = (rig.customer() for _ in range(4))
    ids = [rig.submit(customer)["id"] for customer in (stays, goes)]
    before = rig.wait(ids)
    rig.fault(account=held.sid, step="provision_trunks", nth=1, action="hold", when="after")
    under_way = rig.submit(held)["id"]
    eventually(lambda: [one["import_id"] for one in rig.holds()] == [under_way])
    dump = str(tmp_path / "dump")
    _run("pg_dump", "--format=custom", f"--file={dump}", rig.stack.database_url)

    rig.control("holds/release", {})
    rig.wait([under_way])
    lost = rig.submit(later)["id"]
    released = rig.api.delete(f"/v1/phone-numbers/{before[ids[1]]['phone_number_id']}")
    rig.wait([lost, released.json()["id"]])
    for part in parts:
        part.stop()
    database = rig.stack.database_url
    _run("pg_restore", "--clean", "--if-exists", "--exit-on-error", f"--dbname={database}", dump)
    rig.stack.migrate()
    for part in reversed(parts):
        part.start()

    # The job of the dump goes on and finds what it had made.
    rig.wait([under_way])
    scene = Scene(mode="webhook", fails=False)
    assert not (wrong := verdict(rig, scene, {under_way: held, ids[0]: stays})), wrong
    rig.sql("UPDATE phone_numbers SET check_due_at = now() WHERE status = 'active' RETURNING id")

    def verdicts() -> dict[str, str | None]:
        return {
            number["phone_number"]: number["verdict"]
            for number in rig.api.get("/v1/phone-numbers").json()["items"]
        }

    found = {stays.number: "ok", held.number: "ok", goes.number: "drifted"}
    eventually(lambda: verdicts() == found, seconds=60)
    # Released once more, it stays as its owner has it.
    again = rig.api.delete(f"/v1/phone-numbers/{before[ids[1]]['phone_number_id']}")
    assert rig.wait([again.json()["id"]])[again.json()["id"]]["status"] == "released"
    # What was imported since still has its trunk at LiveKit, which nobody knows any more.
    anew = rig.submit(later)["id"]
    error = rig.wait([anew])[anew]["error"]
    assert error["code"] == "trunk_conflict"
    left = rig.outside([later])[later.number]
    for rule in left.rules:
        asked = DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=rule["sip_dispatch_rule_id"])
        rig.livekit("DeleteSIPDispatchRule", asked)
    for trunk in (*left.inbound, *left.outbound):
        asked_trunk = DeleteSIPTrunkRequest(sip_trunk_id=trunk["sip_trunk_id"])
        rig.livekit("DeleteSIPTrunk", asked_trunk)
    assert rig.api.post(f"/v1/imports/{anew}/retry").is_success
    assert rig.wait([anew])[anew]["status"] == "active"
