"""Ravan's document: contracts/ravan.md."""

from __future__ import annotations

from typing import Any

from tests.contract.dialects.case import TIME, WORDS, Case, Contract, Matching
from tests.contract.dialects.world import World

REFUSED = {"success": False, "message": WORDS}


def request(world: World, **changes: Any) -> dict[str, Any]:
    world.credential()
    order = world.order()
    return {
        "phone_number": order.number,
        "number_sid": world.number_of(order)["sid"],
        "friendly_name": "Support",
        "price": 1.15,
        **changes,
    }


def free(world: World) -> None:
    """The number answers nobody yet: the contract knows no word for replacing."""
    order = world.order()
    unset = {"vendor": "twilio", "account": order.account, "phone_number": order.number}
    world.rig.control("edit", {**unset, "set": {"voice_url": ""}})


def added(world: World) -> dict[str, Any]:
    order = world.order()
    return {
        "success": True,
        "message": WORDS,
        "data": {
            "id": Matching(shape="num_[0-9a-f]{32}"),
            "telephony_id": f"cred_{world.credential().hex}",
            "subscription_id": world.organization_id,
            "inbound_trunk_id": Matching(shape="ST_.+"),
            "outbound_trunk_id": Matching(shape="ST_.+"),
            "number": order.number,
            "friendly_name": "Support",
            "per_minute_price_inbound": 0,
            "per_minute_price_outbound": 0,
            "price": 115,
            "region": "US",
            "iso_country": "US",
            "is_active": True,
            "created_at": TIME,
            "updated_at": TIME,
        },
    }


def without(name: str) -> Any:
    return lambda world: {k: v for k, v in request(world).items() if k != name}


CONTRACT = Contract(
    name="ravan",
    method="POST",
    path="/api/v1/phone-numbers/add-twilio",
    headers=lambda _, key: {"X-Api-Key": key},
    cases=(
        Case(name="the number is added", status=200, before=free, request=request, body=added),
        Case(
            name="friendly_name and price are optional",
            status=200,
            before=free,
            request=lambda world: {
                name: value
                for name, value in request(world).items()
                if name in ("phone_number", "number_sid")
            },
            body=lambda world: {
                **added(world),
                "data": {**added(world)["data"], "friendly_name": "", "price": 0},
            },
        ),
        Case(
            name="phone_number is required",
            status=400,
            request=without("phone_number"),
            body=lambda _: REFUSED,
        ),
        Case(
            name="number_sid is required",
            status=400,
            request=without("number_sid"),
            body=lambda _: REFUSED,
        ),
        Case(
            name="number_sid must be the number's",
            status=404,
            before=free,
            request=lambda world: request(world, number_sid="PN" + "0" * 32),
            body=lambda _: REFUSED,
        ),
        Case(
            name="X-Api-Key is required",
            status=401,
            request=request,
            headers=lambda _: {},
            body=lambda _: REFUSED,
        ),
        Case(
            name="a viewer's key may not",
            status=403,
            request=request,
            headers=lambda world: {"X-Api-Key": world.viewer_key},
            body=lambda _: REFUSED,
        ),
        Case(
            name="without a stored account",
            status=404,
            request=request,
            headers=lambda world: {"X-Api-Key": world.other_key},
            body=lambda _: REFUSED,
        ),
        Case(name="no JSON", status=400, request=lambda _: "{", body=lambda _: REFUSED),
        Case(
            name="a number that goes elsewhere is not replaced",
            status=409,
            request=request,
            body=lambda _: REFUSED,
        ),
    ),
)
