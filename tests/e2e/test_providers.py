"""One import of each kind at each provider: it ends active, or the account is as it was."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rig import Rig
from tests.vendors import VENDORS, Order, Vendor, order_of

MODES = ["webhook", "sip_trunk"]


def _held(rig: Rig, order: Order) -> Any:
    return rig.sandbox.get("/_sandbox/state").json()[order.vendor]["accounts"][order.account]


def _livekit(rig: Rig, order: Order) -> dict[str, int]:
    held = rig.sandbox.get("/_sandbox/state").json()["livekit"]
    inbound = [t for t in held["inbound_trunks"].values() if order.number in t["numbers"]]
    ids = {trunk["sip_trunk_id"] for trunk in inbound}
    return {
        "inbound": len(inbound),
        "outbound": sum(order.number in t["numbers"] for t in held["outbound_trunks"].values()),
        "rules": sum(bool(ids & set(r["trunk_ids"])) for r in held["dispatch_rules"].values()),
    }


def _end(rig: Rig, order: Order) -> dict[str, Any]:
    answer = rig.api.post("/v1/imports", json=order.body)
    assert answer.status_code == 202, answer.text
    return rig.wait([answer.json()["id"]])[answer.json()["id"]]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_an_import_ends_active_with_one_of_everything(rig: Rig, vendor: Vendor, mode: str) -> None:
    order = order_of(rig, vendor, mode)
    before = _held(rig, order)
    job = _end(rig, order)
    assert job["status"] == "active", job["error"]
    assert _livekit(rig, order) == {"inbound": 1, "outbound": 1, "rules": 1}
    assert _held(rig, order) != before


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_a_refused_move_leaves_the_account_as_it_was(rig: Rig, vendor: Vendor, mode: str) -> None:
    order = order_of(rig, vendor, mode)
    before = _held(rig, order)
    rig.fault(
        vendor=vendor.name,
        account=order.account,
        step="route_number",
        write=True,
        action="status",
        status=403,
        times=None,
    )
    job = _end(rig, order)
    assert job["status"] == "failed", job
    assert _held(rig, order) == before
    assert sum(_livekit(rig, order).values()) == 0


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_a_foreign_routing_is_refused_at_every_provider(rig: Rig, vendor: Vendor) -> None:
    order = order_of(rig, vendor, "webhook", replace_existing_routing=False)
    before = _held(rig, order)
    job = _end(rig, order)
    assert (job["status"], job["error"]["code"]) == ("failed", "number_in_use")
    assert _held(rig, order) == before
