"""One import of each kind at each provider: it ends active, or the account is as it was."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.rig import Rig

_serial = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """How a vendor's account with one number is seeded and imported."""

    name: str

    def account(self, serial: int) -> tuple[dict[str, Any], dict[str, Any], str]:
        """Returns a seed, credentials, and the name of the account in the sandbox's state."""
        number = f"+1312555{serial:04}"
        if self.name == "twilio":
            sid = f"ACe{serial:031x}"
            held = {"phone_number": number, "voice_url": "https://pbx.example.com/voice"}
            account: dict[str, Any] = {
                "sid": sid,
                "auth_token": "sandbox-token-1",
                "numbers": [held],
            }
            return account, {"account_sid": sid, "auth_token": "sandbox-token-1"}, sid
        if self.name == "telnyx":
            key = f"sandbox-telnyx-key-{serial}"
            account = {
                "id": f"telnyx-{serial}",
                "api_key": key,
                "connections": [
                    {
                        "record_type": "texml_application",
                        "id": f"77{serial:06}",
                        "friendly_name": "pbx",
                        "voice_url": "https://pbx.example.com/voice",
                    }
                ],
                "numbers": [{"phone_number": number, "connection_id": f"77{serial:06}"}],
            }
            public_key = "A" * 43 + "="
            return account, {"api_key": key, "public_key": public_key}, f"telnyx-{serial}"
        auth_id = f"MA{serial:018}"
        account = {
            "auth_id": auth_id,
            "auth_token": "sandbox-token-1",
            "sip_trunking": True,
            "applications": [
                {
                    "app_id": f"88{serial:06}",
                    "app_name": "pbx",
                    "answer_url": "https://pbx.example.com/answer",
                }
            ],
            "numbers": [{"number": number.lstrip("+"), "app_id": f"88{serial:06}"}],
        }
        return account, {"auth_id": auth_id, "auth_token": "sandbox-token-1"}, auth_id


VENDORS = [Vendor(name=name) for name in ("twilio", "telnyx", "plivo")]
MODES = ["webhook", "sip_trunk"]


@dataclass(frozen=True, kw_only=True)
class Order:
    """One import and where its account is."""

    vendor: str
    account: str
    number: str
    body: Mapping[str, Any]


def _order(rig: Rig, vendor: Vendor, mode: str, **request: Any) -> Order:
    serial = next(_serial)
    account, credentials, name = vendor.account(serial)
    rig.control("seed", {vendor.name: {"accounts": [account]}})
    number = f"+1312555{serial:04}"
    body = {
        "phone_number": number,
        "provider": vendor.name,
        "credentials": credentials,
        "routing_mode": mode,
        "replace_existing_routing": True,
        **request,
    }
    return Order(vendor=vendor.name, account=name, number=number, body=body)


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
    order = _order(rig, vendor, mode)
    before = _held(rig, order)
    job = _end(rig, order)
    assert job["status"] == "active", job["error"]
    assert _livekit(rig, order) == {"inbound": 1, "outbound": 1, "rules": 1}
    assert _held(rig, order) != before


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_a_refused_move_leaves_the_account_as_it_was(rig: Rig, vendor: Vendor, mode: str) -> None:
    order = _order(rig, vendor, mode)
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
    order = _order(rig, vendor, "webhook", replace_existing_routing=False)
    before = _held(rig, order)
    job = _end(rig, order)
    assert (job["status"], job["error"]["code"]) == ("failed", "number_in_use")
    assert _held(rig, order) == before
