"""What a change of the directory means for numbers that ring."""

from __future__ import annotations

import json

from tests.e2e.test_safe_hands import WAIT, line_of
from tests.rig import Rig
from tests.vendors import VENDORS

OK = {"verdict": "ok", "advice": []}


def test_a_renamed_agent_answers_under_its_old_name_until_the_number_is_set_up_again(
    rig: Rig,
) -> None:
    body = {"name": "Front desk", "dispatch_name": "before", "external_id": "front-desk"}
    assert rig.api.post("/v1/agents", json=body).status_code == 201
    line = line_of(rig, VENDORS[0], "webhook", agent_id="front-desk")
    line.bring_in()
    assert line.call()["agent_name"] == "before"

    line.ask("PATCH", "/v1/agents/front-desk", json={"dispatch_name": "after"})

    assert line.call()["agent_name"] == "before"
    same = {"agent_id": "front-desk"}
    line.ask("PATCH", f"/v1/phone-numbers/{line.id}", json=same, headers=WAIT)
    assert line.call()["agent_name"] == "before"
    assert line.check()["verdict"] == "drifted"
    assert line.repair()["status"] == "active"
    assert line.call()["agent_name"] == "after"
    line.ask("DELETE", "/v1/agents/front-desk", status=409)
    line.release()
    assert rig.api.delete("/v1/agents/front-desk").status_code == 204


def test_doctor_asks_a_running_stack(rig: Rig) -> None:
    """All that answers does, and what the tests' own servers leave unsafe is told by name."""
    found = json.loads(rig.stack.command("doctor", "doctor", "--json"))
    assert {name for name, one in found.items() if one["verdict"] == "failed"} == set()
    assert (found["clock"], found["vault"], found["livekit"]) == (OK, OK, OK)
    # The embedded Redis keeps its messages, and evicts none.
    assert found["broker"] == OK
    assert "fsync" in found["database"]["advice"][0]
