"""Numbers that are only recorded: proven to be the customer's, and left exactly as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.rig import FOREIGN_URL, Rig, eventually
from tests.vendors import VENDORS, Order, Vendor, order_of

NEITHER: dict[str, Any] = {"supports_inbound": False, "supports_outbound": False}


def state(rig: Rig, order: Order) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Everything of the account and of the number's trunks, to be compared."""
    found = rig.sandbox.get("/_sandbox/state").json()
    trunks = {
        kind: [one for one in found["livekit"][kind].values() if order.number in one["numbers"]]
        for kind in ("inbound_trunks", "outbound_trunks")
    }
    return found[order.vendor]["accounts"][order.account], trunks


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_a_number_for_neither_calls_nor_sms_is_proven_and_left_alone(
    rig: Rig, vendor: Vendor
) -> None:
    order = order_of(rig, vendor, "webhook", replace_existing_routing=False, **NEITHER)
    before = state(rig, order)
    preflight = rig.api.post("/v1/imports/preflight", json=order.body).json()
    assert (preflight["refusals"], preflight["changes"]) == ([], [])

    answer = rig.api.post("/v1/imports", json=order.body)
    assert answer.status_code == 202, answer.text
    job = rig.wait([answer.json()["id"]])[answer.json()["id"]]

    assert job["status"] == "active", job
    assert "only recorded" in " ".join(job["warnings"])
    assert state(rig, order) == before
    address = f"/v1/phone-numbers/{job['phone_number_id']}"
    number = rig.api.get(address).json()
    assert (number["ownership"], number["inbound_trunk_id"]) == ("proven", None)
    check = rig.api.post(f"{address}/check").json()
    assert (check["verdict"], check["findings"]) == ("ok", [])

    release = rig.api.delete(address)
    assert release.status_code == 202, release.text
    eventually(lambda: rig.job(release.json()["id"])["status"] == "released")
    assert state(rig, order) == before
    for made_by in (job["id"], release.json()["id"]):
        assert not [entry for entry in rig.journal(made_by) if entry["write"]]


def test_a_recorded_number_is_looked_up(rig: Rig) -> None:
    customer = rig.customer(owns=False, **NEITHER)
    import_id = rig.submit(customer)["id"]
    job = rig.wait([import_id])[import_id]
    assert (job["status"], job["error"]["code"]) == ("failed", "number_not_owned")


def test_a_carriers_number_may_be_recorded_without_a_login(rig: Rig) -> None:
    body = {"phone_number": "+13125559999", "provider": "sip", **NEITHER}
    answer = rig.api.post("/v1/imports", json=body)
    assert answer.status_code == 202, answer.text
    job = rig.wait([answer.json()["id"]])[answer.json()["id"]]
    assert (job["status"], job["carrier"]) == ("active", None)


def test_sms_alone_still_comes_to_us(rig: Rig) -> None:
    customer = rig.customer(sms_enabled=True, **NEITHER)
    import_id = rig.submit(customer)["id"]
    assert rig.wait([import_id])[import_id]["status"] == "active"
    number = rig.outside([customer])[customer.number].account["numbers"][customer.number]
    assert "/callbacks/twilio/sms/" in number["sms_url"]
    assert number["voice_url"] == FOREIGN_URL
