"""Butter's document: contracts/butter.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.contract.dialects.case import Case, Contract, Matching
from tests.contract.dialects.cases.ravan import free
from tests.contract.dialects.world import World

PASSWORD = "sandbox-sip-password"
#: Words, and none of them a secret.
SAID = Matching(shape=r"(?s)(?!.*(sandbox-sip-password|sandbox-token|4711|12a4)).+")
#: Time as this document writes it.
TIME = Matching(shape=r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
LIVEKIT = "sandbox.sip.livekit.example"
BOTH = {"supports_inbound": True, "supports_outbound": True}
LOGIN = {"sip_username": "user", "sip_password": PASSWORD}


def headers(world: World, key: str) -> dict[str, str]:
    return {"X-API-Key": key, "X-Organization-Id": world.organization_id}


def twilio(world: World, **changes: Any) -> dict[str, Any]:
    """The document's first example, for a number of the world's."""
    return {
        "phone_number": world.order().number,
        "provider": "twilio",
        **BOTH,
        "integration_id": f"intg_{world.credential().hex}",
        **changes,
    }


def carrier(world: World, **changes: Any) -> dict[str, Any]:
    """The document's second example, for a number that nobody else uses."""
    return {
        "phone_number": world.order().number,
        "provider": "sip",
        **BOTH,
        "sip_trunk_name": "my-trunk",
        "sip_server_address": "sip.example.com",
        **LOGIN,
        "media_encryption": "require",
        **changes,
    }


def seeded(world: World) -> None:
    """The document's number, in an account of its own."""
    sid = "AC" + "b" * 32
    number = {"phone_number": "+15551234567"}
    account = {"sid": sid, "auth_token": "sandbox-token-1", "numbers": [number]}
    world.rig.control("seed", {"twilio": {"accounts": [account]}})
    credentials = {"account_sid": sid, "auth_token": "sandbox-token-1"}
    with world.api() as client:
        body = {"provider": "twilio", "credentials": credentials}
        world.made["documented"] = client.post("/v1/credentials", json=body).json()["id"]


def documented(world: World) -> dict[str, Any]:
    own = world.made["documented"].removeprefix("cred_")
    return {**twilio(world), "phone_number": "+15551234567", "integration_id": f"intg_{own}"}


def imported(
    request: Callable[[World], Mapping[str, Any]], **changes: Any
) -> Callable[[World], Any]:
    def body(world: World) -> dict[str, Any]:
        sent = request(world)
        return {
            "success": True,
            "message": f"Phone number imported successfully with {sent['provider']}",
            "data": {
                "phone_number_id": Matching(shape="phon_[0-9a-f]{32}"),
                "phone_number": sent["phone_number"],
                "provider": sent["provider"],
                "status": "free",
                "supports_inbound": True,
                "supports_outbound": True,
                "integration_id": sent.get("integration_id"),
                "created_at": TIME,
                "updated_at": TIME,
                **changes,
            },
        }

    return body


def listed(world: World, phone_number: str) -> dict[str, Any]:
    """The number as /v1 has it."""
    with world.api() as client:
        items = client.get("/v1/phone-numbers", params={"limit": 100}).json()["items"]
    found: dict[str, Any] = next(one for one in items if one["phone_number"] == phone_number)
    return found


def livekit(world: World, kind: str, phone_number: str) -> dict[str, Any]:
    trunks = world.rig.sandbox.get("/_sandbox/state").json()["livekit"][kind].values()
    [found] = [one for one in trunks if phone_number in one["numbers"]]
    return dict(found)


def call(world: World, **how: Any) -> Any:
    return world.rig.control("calls", {"from": "+12025550123", **how})


def rings(world: World) -> None:
    order = world.order()
    number = listed(world, order.number)
    assert number["inbound_trunk_id"].startswith("ST_")
    assert number["outbound_trunk_id"].startswith("ST_")
    assert "/callbacks/twilio/voice/" in world.number_of(order)["voice_url"]
    called = call(world, vendor="twilio", account=order.account, number=order.number)
    assert called["outcome"] == "agent", called


def is_encrypted(world: World) -> None:
    number = "+15559876543"
    assert listed(world, number)["ownership"] == "asserted"
    for kind in ("inbound_trunks", "outbound_trunks"):
        trunk = livekit(world, kind, number)
        assert trunk["media"]["encryption"] == "SIP_MEDIA_ENCRYPT_REQUIRE", trunk
        assert "my-trunk" in trunk["metadata"]
    assert livekit(world, "outbound_trunks", number)["address"] == "sip.example.com"


def guarded(world: World) -> None:
    """Only who types the PIN gets into the room."""
    how = {
        "vendor": "sip",
        "number": world.order().number,
        "address": f"{LIVEKIT};transport=tcp",
        "username": "user",
        "password": PASSWORD,
    }
    let_in = call(world, pin="4711", **how)
    assert (let_in["outcome"], let_in["room_prefix"]) == ("agent", "support-")
    assert call(world, pin="4712", **how)["outcome"] != "agent"
    assert call(world, pin="4711", **{**how, "password": "wrong"})["outcome"] != "agent"


def remembered(world: World) -> None:
    world.made["before"] = json.dumps(world.number_of(world.order()), sort_keys=True)


def untouched(world: World) -> None:
    order = world.order()
    assert json.dumps(world.number_of(order), sort_keys=True) == world.made["before"]
    number = listed(world, order.number)
    assert (number["inbound_trunk_id"], number["outbound_trunk_id"]) == (None, None)


def saying(words: str) -> Callable[[World], Any]:
    """A refusal whose message has the words, a regular expression; it never has a secret."""
    return lambda _: {
        "success": False,
        "message": Matching(shape=rf"{SAID.shape[:-2]}.*({words}).*"),
    }


def nothing(world: World) -> None:
    with world.api() as client:
        params = {"phone_number": world.order().number}
        assert client.get("/v1/imports", params=params).json()["items"] == []


def refused(
    name: str, request: Callable[[World], Any], status: int = 400, says: str = "", **more: Any
) -> Case:
    """A request that leaves nothing behind."""
    return Case(
        name=name,
        status=status,
        request=request,
        body=saying(says),
        **{"after": nothing, **more},
    )


def with_key(role: str) -> Callable[[World], Mapping[str, str]]:
    def made(world: World) -> dict[str, str]:
        arguments = ("admin", "bootstrap", "--organization", "Acme", "--role", role, "--json")
        key = json.loads(world.rig.stack.command("bootstrap", *arguments))["api_key"]
        return headers(world, key)

    return made


def faulty(**fault: Any) -> Callable[[World], None]:
    def before(world: World) -> None:
        free(world)
        world.fault(world.order(), times=None, **fault)

    return before


def without(name: str, of: Callable[..., Mapping[str, Any]] = twilio) -> Callable[[World], Any]:
    return lambda world: {key: value for key, value in of(world).items() if key != name}


def changed(
    of: Callable[..., Mapping[str, Any]], **changes: Any
) -> Callable[[World], Mapping[str, Any]]:
    return lambda world: of(world, **changes)


def plain(world: World, **changes: Any) -> dict[str, Any]:
    """A carrier's number that is only recorded."""
    return {"phone_number": world.order().number, "provider": "sip", **changes}


def import_it(world: World) -> None:
    free(world)
    body = {**world.order().body, "supports_outbound": False}
    with world.api() as client:
        answer = client.post("/v1/imports", json=body, headers={"Prefer": "wait=20"})
    assert answer.status_code == 201, answer.text


def as_before(world: World) -> None:
    assert json.dumps(world.number_of(world.order()), sort_keys=True) == world.made["before"]


SUCCESSES = (
    Case(
        name="the first example",
        status=201,
        before=seeded,
        request=documented,
        body=imported(documented),
    ),
    Case(
        name="the second example",
        status=201,
        request=changed(carrier, phone_number="+15559876543", sip_password="pass"),
        body=imported(changed(carrier, phone_number="+15559876543"), integration_id=None),
        after=is_encrypted,
    ),
    Case(
        name="a Twilio number rings",
        status=201,
        before=free,
        request=twilio,
        body=imported(twilio),
        after=rings,
    ),
    Case(
        name="an agent manager may",
        status=201,
        before=free,
        request=twilio,
        headers=with_key("agent_manager"),
        body=imported(twilio),
    ),
    Case(
        name="the integration may be named as /v1 does, and is answered as it was sent",
        status=201,
        before=free,
        request=lambda world: twilio(world, integration_id=f"cred_{world.credential().hex}"),
        body=imported(lambda world: twilio(world, integration_id=f"cred_{world.credential().hex}")),
    ),
    Case(
        name="without the flags the number is only recorded",
        status=201,
        before=remembered,
        request=lambda world: {k: v for k, v in twilio(world).items() if k not in BOTH},
        body=imported(twilio, supports_inbound=False, supports_outbound=False),
        after=untouched,
    ),
    Case(
        name="null is not given",
        status=201,
        request=lambda world: {**dict.fromkeys(carrier(world)), **plain(world), "foo": 1},
        body=imported(plain, supports_inbound=False, supports_outbound=False),
    ),
    Case(
        name="room and PIN of inbound calls",
        status=201,
        request=lambda world: plain(
            world,
            **LOGIN,
            supports_inbound=True,
            inbound_room_name="support-",
            inbound_pin="4711",
        ),
        body=imported(plain, supports_outbound=False),
        after=guarded,
    ),
    Case(
        name="the import goes on when it takes longer than a request may",
        status=202,
        before=faulty(action="status", status=503, retry_after=60),
        request=twilio,
        body=lambda _: {"success": True, "message": SAID},
    ),
)

#: What is said of a field that the service judges.
SAYS = {
    "sip_username": "sip_username and sip_password together",
    "sip_password": "sip_username and sip_password together",
    "sip_server_address": "SIP address|Give sip_server_address",
    "inbound_pin": "4 to 10 digits",
}

SHAPES = (
    *(
        refused(f"{name} is required", without(name), says=f"{name}: .*required")
        for name in ("phone_number", "provider", "integration_id")
    ),
    *(
        refused(
            f"{name} is not {value!r}", changed(twilio, **{name: value}), says=f"{name}: |E.164"
        )
        for name, values in {
            "phone_number": (None, "", 15551234567, "5551234567", "+1 555 123 4567", "+0155512345"),
            "provider": (None, "", "telnyx", "plivo", "Twilio", 1),
            "integration_id": (None, "", 1, ["intg_a1b2c3d4e5f6"]),
            "supports_inbound": ("true", 1, "yes"),
            "supports_outbound": ("false", 0, {}),
        }.items()
        for value in values
    ),
    *(
        refused(
            f"{name} is not {value!r}",
            changed(carrier, **{name: value}),
            says=f"{name}: |{SAYS.get(name, name)}",
        )
        for name, values in {
            "sip_trunk_name": (1, "x" * 65),
            "sip_username": (1, "", None),
            "sip_password": (1, "", None),
            "sip_server_address": (1, "", None, "sip:sip.example.com", "user@sip.example.com"),
            "inbound_room_name": (1, "", "x" * 65),
            "inbound_pin": (4711, "", "123", "12345678901", "12a4", "12*4", "١٢٣٤"),
            "media_encryption": (1, "", "always", "REQUIRE"),
        }.items()
        for value in values
    ),
    refused(
        "outbound calls need a SIP server",
        without("sip_server_address", carrier),
        says="sip_server_address",
    ),
    refused(
        "inbound calls need a login, or anybody could call",
        lambda world: plain(world, supports_inbound=True),
        says="give sip_username and sip_password",
    ),
    refused(
        "encrypted media is not promised where a webhook brings the call",
        changed(twilio, media_encryption="require"),
        says="for provider sip",
    ),
    refused("the names are snake_case", lambda world: {"phoneNumber": world.order().number}),
    refused("no JSON", lambda _: "{", says="not JSON"),
    refused("no object", lambda _: [1]),
    refused("no body", lambda _: ""),
)

REFUSALS = (
    refused("X-API-Key is required", twilio, 401, headers=lambda world: headers(world, "")),
    refused("an unknown key", twilio, 401, headers=lambda world: headers(world, "tl_no_key")),
    refused(
        "X-Organization-Id is required",
        twilio,
        headers=lambda world: {"X-API-Key": world.key},
    ),
    refused(
        "another organization's id",
        twilio,
        403,
        headers=lambda world: {
            "X-API-Key": world.key,
            "X-Organization-Id": world.other_organization_id,
        },
    ),
    refused(
        "the key is looked at before the body",
        lambda _: "{",
        401,
        headers=lambda world: headers(world, "tl_no_key"),
    ),
    refused(
        "a viewer's key may not",
        twilio,
        403,
        headers=lambda world: headers(world, world.viewer_key),
    ),
    *(
        refused(f"integration {kind} is unknown", changed(twilio, integration_id=name), 404)
        for kind, name in {
            "of the example": "intg_a1b2c3d4e5f6",
            "of our shape": f"intg_{'0' * 32}",
            "of nonsense": "twilio",
        }.items()
    ),
    refused(
        "another organization's integration",
        lambda world: twilio(
            world, integration_id=f"intg_{world.credential(key=world.other_key).hex}"
        ),
        403,
    ),
    refused(
        "an integration that is not Twilio's",
        lambda world: twilio(world, integration_id=f"intg_{world.credential('telnyx').hex}"),
    ),
    Case(
        name="a number that is there already",
        status=409,
        before=import_it,
        request=twilio,
        body=saying("imp_"),
    ),
    Case(
        name="a number that goes elsewhere is not replaced",
        status=400,
        before=remembered,
        request=twilio,
        body=saying("POST /v1/imports"),
        after=as_before,
    ),
    Case(
        name="Twilio rejects the integration's credentials",
        status=400,
        before=faulty(action="status", status=401, code=20003),
        request=twilio,
        body=saying("rejected"),
    ),
    Case(
        name="the number is not in the account",
        status=400,
        request=lambda world: twilio(world, phone_number="+13125558888"),
        body=saying("does not own"),
    ),
)


CONTRACT = Contract(
    name="butter",
    method="POST",
    path="/api/phone-numbers",
    headers=headers,
    cases=(*SUCCESSES, *SHAPES, *REFUSALS),
)
