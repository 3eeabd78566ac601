"""Imports as their callers see them: over HTTP, with a real worker, against the sandbox."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.faults.scenes import ORIGINAL, Scene, verdict
from tests.rig import FOREIGN_URL, Customer, Rig, eventually

ONE_OF_EACH = {"trunks": 1, "credential_lists": 1, "inbound": 1, "outbound": 1, "rules": 1}


def _number(rig: Rig, customer: Customer) -> dict[str, Any]:
    number: dict[str, Any] = rig.outside([customer])[customer.number].account["numbers"][
        customer.number
    ]
    return number


@pytest.mark.parametrize("mode", ["webhook", "sip_trunk"])
def test_an_import_ends_active_with_one_of_everything(rig: Rig, mode: str) -> None:
    customer = rig.customer(mode=mode, friendly_name="Front desk")
    import_id = rig.submit(customer)["id"]
    job = rig.wait([import_id])[import_id]
    assert not verdict(rig, Scene(mode=mode, fails=False), {import_id: customer})
    assert [step["state"] for step in job["steps"]] == ["done"] * 7
    number = rig.api.get(f"/v1/phone-numbers/{job['phone_number_id']}").json()
    outside = rig.outside([customer])[customer.number]
    assert number["phone_number"] == customer.number
    assert number["friendly_name"] == "Front desk"
    assert number["inbound_trunk_id"] == outside.inbound[0]["sip_trunk_id"]
    assert number["outbound_trunk_id"] == outside.outbound[0]["sip_trunk_id"]
    assert number["dispatch_rule_id"] == outside.rules[0]["sip_dispatch_rule_id"]
    shown = _number(rig, customer)
    assert shown["status_callback"].startswith("https://voice.trunkline.example/callbacks/")
    assert shown["sms_url"] == "https://pbx.example.com/sms", "SMS was not asked for"


def test_a_foreign_routing_is_refused_and_named_without_its_secret(rig: Rig) -> None:
    customer = rig.customer(replace_existing_routing=False)
    import_id = rig.submit(customer)["id"]
    job = rig.wait([import_id])[import_id]
    assert (job["status"], job["error"]["code"]) == ("failed", "number_in_use")
    assert "pbx.example.com/voice" in job["error"]["message"]
    assert "planted" not in job["error"]["message"]
    assert not [entry for entry in rig.journal(import_id) if entry["write"]]


def test_sms_moves_only_when_asked_and_comes_back(rig: Rig) -> None:
    customer = rig.customer(sms_enabled=True)
    import_id = rig.submit(customer)["id"]
    rig.fault(
        import_id=import_id,
        step="route_number",
        write=True,
        action="status",
        status=400,
        times=None,
    )
    rig.wait([import_id])
    assert any("SmsUrl" in entry["body"] for entry in rig.journal(import_id))
    number = _number(rig, customer)
    assert {name: number[name] or "" for name in ORIGINAL} == ORIGINAL


@pytest.mark.parametrize(
    ("supports", "made"),
    [
        ("supports_inbound", {**dict.fromkeys(ONE_OF_EACH, 0), "inbound": 1, "rules": 1}),
        ("supports_outbound", {**ONE_OF_EACH, "inbound": 0, "rules": 0}),
    ],
)
def test_one_direction_alone_touches_nothing_of_the_other(
    rig: Rig, supports: str, made: dict[str, int]
) -> None:
    flags: dict[str, Any] = {"supports_inbound": False, "supports_outbound": False, supports: True}
    customer = rig.customer(**flags)
    import_id = rig.submit(customer)["id"]
    assert rig.wait([import_id])[import_id]["status"] == "active"
    assert rig.outside([customer])[customer.number].made == made
    moved = _number(rig, customer)["voice_url"] != FOREIGN_URL
    assert moved == (supports == "supports_inbound")


def test_a_number_of_somebody_else_is_not_imported(rig: Rig) -> None:
    customer = rig.customer(owns=False)
    import_id = rig.submit(customer)["id"]
    job = rig.wait([import_id])[import_id]
    assert (job["status"], job["error"]["code"], job["error"]["step"]) == (
        "failed",
        "number_not_owned",
        "check_ownership",
    )


def test_twenty_copies_with_one_key_make_one_import(rig: Rig) -> None:
    customer = rig.customer()
    headers = {"Idempotency-Key": f"key-{customer.sid}"}
    with ThreadPoolExecutor(20) as pool:
        jobs = list(pool.map(lambda _: rig.submit(customer, **headers), range(20)))
    assert len({job["id"] for job in jobs}) == 1
    rig.wait([jobs[0]["id"]])
    assert rig.outside([customer])[customer.number].made == ONE_OF_EACH


def test_twenty_copies_with_different_keys_make_one_active_number(rig: Rig) -> None:
    customer = rig.customer()

    def post(copy: int) -> Any:
        headers = {"Idempotency-Key": f"key-{copy}-{customer.sid}"}
        return rig.api.post("/v1/imports", json=customer.request, headers=headers)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 409: 19}
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {
        "number_already_imported"
    }
    accepted = next(answer for answer in answers if answer.status_code == 202)
    assert rig.wait([accepted.json()["id"]])[accepted.json()["id"]]["status"] == "active"
    assert rig.outside([customer])[customer.number].made == ONE_OF_EACH


def test_waiting_in_the_request_answers_with_the_number(rig: Rig) -> None:
    customer = rig.customer()
    answer = rig.api.post("/v1/imports", json=customer.request, headers={"Prefer": "wait=20"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["phone_number"] == customer.number
    failing = rig.customer(owns=False)
    answer = rig.api.post("/v1/imports", json=failing.request, headers={"Prefer": "wait=20"})
    assert (answer.status_code, answer.json()["code"]) == (404, "number_not_owned")


def test_cancelling_a_running_import_puts_everything_back(rig: Rig) -> None:
    customer = rig.customer(mode="sip_trunk")
    rig.fault(account=customer.sid, step="provision_trunks", action="delay", seconds=0.5)
    import_id = rig.submit(customer)["id"]
    eventually(lambda: any(e["step"] == "provision_trunks" for e in rig.journal(import_id)))
    assert rig.api.post(f"/v1/imports/{import_id}/cancel").status_code == 202
    assert rig.wait([import_id])[import_id]["status"] == "cancelled"
    assert sum(rig.outside([customer])[customer.number].made.values()) == 0
    number = _number(rig, customer)
    assert {name: number[name] or "" for name in ORIGINAL} == ORIGINAL


def test_a_failed_import_can_be_retried_when_its_cause_is_gone(rig: Rig) -> None:
    customer = rig.customer(mode="sip_trunk")
    import_id = rig.submit(customer)["id"]
    rig.fault(
        import_id=import_id, step="route_number", write=True, action="status", status=400, times=1
    )
    assert rig.wait([import_id])[import_id]["status"] == "failed"
    assert rig.api.post(f"/v1/imports/{import_id}/retry").status_code == 202
    rig.wait([import_id])
    assert not verdict(rig, Scene(mode="sip_trunk", fails=False), {import_id: customer})


def test_an_undo_that_is_refused_is_stuck_until_somebody_helps(rig: Rig) -> None:
    customer = rig.customer(mode="sip_trunk")
    import_id = rig.submit(customer)["id"]
    rig.fault(
        import_id=import_id,
        step="route_number",
        write=True,
        action="status",
        status=400,
        times=None,
    )
    rig.fault(
        import_id=import_id,
        operation="twilio.trunks.delete",
        action="status",
        status=403,
        times=None,
    )
    job = rig.wait([import_id])[import_id]
    assert (job["status"], job["undo_error"]["step"]) == ("stuck", "provision_trunks")
    again = rig.api.post("/v1/imports", json=customer.request)
    assert (again.status_code, again.json()["code"]) == (409, "number_already_imported")
    rig.sandbox.delete("/_sandbox/faults")
    assert rig.api.post(f"/v1/imports/{import_id}/retry").status_code == 202
    assert rig.wait([import_id])[import_id]["status"] == "failed"
    assert not verdict(rig, Scene(mode="sip_trunk", fails=True), {import_id: customer})


def test_what_the_customer_changed_meanwhile_is_left_alone(rig: Rig) -> None:
    customer = rig.customer()
    theirs = "https://new-pbx.example.com/voice"
    import_id = rig.submit(customer)["id"]
    # The write is applied, its answer lost; before anybody looks again the customer re-points it.
    rig.fault(
        import_id=import_id,
        step="route_number",
        write=True,
        nth=1,
        action="lost_status",
        status=400,
    )
    rig.fault(
        import_id=import_id,
        step="route_number.undo",
        write=False,
        nth=1,
        action="hold",
        when="before",
    )
    eventually(lambda: len(rig.holds()) == 1)
    rig.control(
        "edit",
        {
            "vendor": "twilio",
            "account": customer.sid,
            "phone_number": customer.number,
            "set": {"voice_url": theirs},
        },
    )
    rig.control("holds/release", {"proceed": True})
    assert rig.wait([import_id])[import_id]["status"] == "failed"
    number = _number(rig, customer)
    assert number["voice_url"] == theirs
    assert number["status_callback"] == ORIGINAL["status_callback"]


def test_a_number_that_left_the_account_meanwhile_is_undone(rig: Rig) -> None:
    customer = rig.customer()
    import_id = rig.submit(customer)["id"]
    rig.fault(
        import_id=import_id,
        step="route_number",
        write=True,
        action="status",
        status=400,
        times=None,
    )
    rig.fault(
        import_id=import_id,
        step="route_number.undo",
        write=False,
        nth=1,
        action="hold",
        when="before",
    )
    eventually(lambda: len(rig.holds()) == 1)
    rig.control(
        "edit",
        {
            "vendor": "twilio",
            "account": customer.sid,
            "phone_number": customer.number,
            "remove": True,
        },
    )
    rig.control("holds/release", {"proceed": True})
    assert rig.wait([import_id])[import_id]["status"] == "failed"
    assert sum(rig.outside([customer])[customer.number].made.values()) == 0


def test_a_foreign_livekit_trunk_is_neither_adopted_nor_deleted(rig: Rig) -> None:
    customer = rig.customer()
    rig.control(
        "seed",
        {"livekit": {"inbound_trunks": [{"name": "theirs", "numbers": [customer.number]}]}},
    )
    import_id = rig.submit(customer)["id"]
    job = rig.wait([import_id])[import_id]
    assert (job["status"], job["error"]["code"]) == ("failed", "trunk_conflict")
    left = rig.outside([customer])[customer.number]
    assert [trunk["name"] for trunk in left.inbound] == ["theirs"]
    assert (left.made["trunks"], left.made["outbound"], left.made["rules"]) == (0, 0, 0)


def test_a_rate_limited_account_waits_and_others_go_on(rig: Rig) -> None:
    limited, free = rig.customer(), rig.customer()
    rig.fault(account=limited.sid, nth=1, action="status", status=429, retry_after=2)
    slow, fast = rig.submit(limited)["id"], rig.submit(free)["id"]
    assert rig.wait([fast], seconds=2)[fast]["status"] == "active"
    assert rig.job(slow)["status"] == "running"
    job = rig.wait([slow])[slow]
    assert job["status"] == "active"
    assert job["steps"][0]["attempts"] == 1, "waiting out a limit is no failed attempt"


def test_a_step_that_succeeds_on_its_last_attempt_is_a_success(rig: Rig) -> None:
    customer = rig.customer()
    rig.fault(
        account=customer.sid, step="check_ownership", action="status", status=503, times=3 * 7
    )
    import_id = rig.submit(customer)["id"]
    job = rig.wait([import_id])[import_id]
    assert not verdict(rig, Scene(mode="webhook", fails=False), {import_id: customer})
    assert [step["attempts"] for step in job["steps"]][:3] == [1, 8, 1]


def test_a_provider_that_stays_away_ends_the_import_and_leaves_nothing(rig: Rig) -> None:
    customer = rig.customer()
    rig.fault(account=customer.sid, step="route_number", action="status", status=503, times=None)
    import_id = rig.submit(customer)["id"]
    job = rig.wait([import_id])[import_id]
    assert (job["status"], job["error"]["code"]) == ("failed", "provider_unavailable")
    assert not verdict(rig, Scene(mode="webhook", fails=True), {import_id: customer})


def test_a_sip_carriers_number_gets_its_trunks_and_nothing_else_is_touched(rig: Rig) -> None:
    number = "+442079460123"
    request = {
        "phone_number": number,
        "provider": "sip",
        "sip": {
            "trunk_name": "front desk",
            "address": "sip.example.com",
            "username": "acme",
            "password": "sandbox-sip-pass",
        },
    }
    answer = rig.api.post("/v1/imports", json=request)
    assert answer.status_code == 202, answer.text
    import_id = answer.json()["id"]
    job = rig.wait([import_id])[import_id]
    assert job["status"] == "active", job
    assert {entry["vendor"] for entry in rig.journal(import_id)} == {"livekit"}
    livekit = rig.sandbox.get("/_sandbox/state").json()["livekit"]
    (inbound,) = [t for t in livekit["inbound_trunks"].values() if number in t["numbers"]]
    (outbound,) = [t for t in livekit["outbound_trunks"].values() if number in t["numbers"]]
    assert inbound["auth_username"] == "acme"
    assert not inbound.get("allowed_addresses"), "the login decides"
    assert (outbound["auth_username"], outbound["address"]) == ("acme", "sip.example.com")
    assert "front desk" in inbound["metadata"]
    assert import_id in inbound["metadata"]
    assert inbound["auth_fingerprint"] == outbound["auth_fingerprint"]
    number_record = rig.api.get(f"/v1/phone-numbers/{job['phone_number_id']}").json()
    assert number_record["ownership"] == "asserted"
    assert number_record["carrier"]["username"] == "acme"
