"""Weya's document: contracts/weya.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from tests.contract.dialects.case import Case, Contract, Matching
from tests.contract.dialects.world import World

PATH = "/api/call/add-phone"
TIME = Matching(shape=r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
OBJECT_ID = Matching(shape="[0-9a-f]{24}")
#: A sentence in which nothing of what the client keeps secret is repeated.
SENTENCE = Matching(shape=r"(?s)(?!.*(sandbox-|planted)).+")
OURS = "https://voice.trunkline.example/callbacks"

Request = Callable[[World], Any]


def headers(_: World, key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def user_id(world: World) -> str:
    return f"usr_{world.user().hex}"


def request(world: World, vendor: str = "twilio", **changes: Any) -> dict[str, Any]:
    """The document's own example; ids and keys are this world's."""
    order = world.order(vendor)
    account = dict(order.body["credentials"])
    account.pop("public_key", None)
    token = account.pop("api_key", None) or account.pop("auth_token")
    return {
        "userId": user_id(world),
        "phoneNumber": order.number.removeprefix("+"),
        "integration": vendor,
        "authToken": token,
        "accSId": next(iter(account.values()), "1293384261075731499"),
        **changes,
    }


def of(vendor: str = "twilio", **changes: Any) -> Request:
    return lambda world: request(world, vendor, **changes)


def without(name: str, vendor: str = "twilio") -> Request:
    return lambda world: {k: v for k, v in request(world, vendor).items() if k != name}


def added(vendor: str = "twilio", **changes: Any) -> Request:
    return lambda world: {
        "message": "Phone number added successfully",
        "status": True,
        "code": 201,
        "errorMessage": "",
        "data": {
            "_id": OBJECT_ID,
            "userId": user_id(world),
            "phoneNumber": world.order(vendor).number.removeprefix("+"),
            "integration": vendor,
            "createdAt": TIME,
            **changes,
        },
    }


def refused(status: int, sentence: object = SENTENCE) -> Request:
    return lambda _: {
        "message": SENTENCE,
        "status": False,
        "code": status,
        "errorMessage": sentence,
        "data": None,
    }


def submit(world: World, **changes: Any) -> None:
    url = f"{world.rig.stack.api_url}/dialects/weya{PATH}"
    answer = httpx.post(
        url,
        json=request(world, **changes),
        headers=headers(world, world.key),
        timeout=60,
        trust_env=False,
    )
    assert answer.status_code == 201, answer.text


def imported(world: World, vendor: str) -> dict[str, Any]:
    """The number in our own words: active, the user's, and both ways."""
    with world.api() as client:
        listed = client.get("/v1/phone-numbers", params={"limit": 100}).json()["items"]
    number = world.order(vendor).number
    found: dict[str, Any] = next(one for one in listed if one["phone_number"] == number)
    assert found["status"] == "active"
    assert found["user_id"] == user_id(world)
    assert found["provider"] == vendor
    assert found["inbound_trunk_id"]
    assert found["outbound_trunk_id"]
    assert found["dispatch_rule_id"]
    return found


def account(world: World, vendor: str) -> dict[str, Any]:
    order = world.order(vendor)
    state = world.rig.sandbox.get("/_sandbox/state").json()
    found: dict[str, Any] = state[vendor]["accounts"][order.account]
    return found


def rings_at_twilio(world: World) -> None:
    assert imported(world, "twilio")["routing_mode"] == "webhook"
    held = world.number_of(world.order())
    assert held["voice_url"].startswith(f"{OURS}/twilio/voice/")
    assert held["status_callback"].startswith(f"{OURS}/twilio/status/")


def rings_at_plivo(world: World) -> None:
    assert imported(world, "plivo")["routing_mode"] == "webhook"
    held = account(world, "plivo")
    application = held["applications"][world.number_of(world.order("plivo"))["app_id"]]
    assert application["answer_url"].startswith(f"{OURS}/plivo/voice/")


def rings_at_telnyx(metadata: dict[str, str]) -> Callable[[World], None]:
    def check(world: World) -> None:
        found = imported(world, "telnyx")
        assert found["routing_mode"] == "sip_trunk"
        assert found["metadata"] == metadata
        held = account(world, "telnyx")
        connection = held["connections"][world.number_of(world.order("telnyx"))["connection_id"]]
        assert connection["record_type"] == "fqdn_connection"

    return check


def untouched(vendor: str) -> Callable[[World], None]:
    """The import left nothing: the number answers as it did, and nobody here has it."""

    def check(world: World) -> None:
        held = world.number_of(world.order(vendor))
        if vendor == "twilio":
            assert held["voice_url"] == "https://pbx.example.com/voice"
        with world.api() as client:
            listed = client.get("/v1/phone-numbers", params={"limit": 100}).json()["items"]
        assert world.order(vendor).number not in [one["phone_number"] for one in listed]

    return check


def failing(vendor: str, **fault: Any) -> Callable[[World], None]:
    return lambda world: world.fault(world.order(vendor), times=None, **fault)


def user_of_another(world: World) -> str:
    rows = world.rig.sql(
        "INSERT INTO users (id, organization_id, name) VALUES (gen_random_uuid(), "  # noqa: S608 -- our own id
        f"'{world.other_organization_id.removeprefix('org_')}', 'Eve') RETURNING id"
    )
    return f"usr_{rows[0][0].hex}"


def _wrong_fields() -> tuple[Case, ...]:
    wrong: dict[str, tuple[object, ...]] = {
        "userId": (None, 64, "", "64e5f12345abcdef1234567", "64e5f12345abcdef1234567g", "Ada"),
        "phoneNumber": (None, 12125551234, "", "+", "++12125551234", "12", "(212) 555-1234"),
        "integration": (None, 1, "", "sip", "Twilio", "vonage"),
        "authToken": (None, 7, "", "planted token"),
        "accSId": (None, 7, "", "planted", ["AC"]),
    }
    return tuple(
        Case(
            name=f"{field} must not be {value!r}",
            status=400,
            request=of("twilio", **{field: value}),
            body=refused(400),
        )
        for field, values in wrong.items()
        for value in values
    )


CONTRACT = Contract(
    name="weya",
    method="POST",
    path=PATH,
    headers=headers,
    cases=(
        Case(
            name="a number at Twilio is added",
            status=201,
            request=request,
            body=added(),
            after=rings_at_twilio,
        ),
        Case(
            name="a number at Plivo is added",
            status=201,
            request=of("plivo"),
            body=added("plivo"),
            after=rings_at_plivo,
        ),
        Case(
            name="a number at Telnyx is added",
            status=201,
            request=of("telnyx"),
            body=added("telnyx"),
            after=rings_at_telnyx({"accSId": "1293384261075731499"}),
        ),
        Case(
            name="Telnyx needs no accSId",
            status=201,
            request=without("accSId", "telnyx"),
            body=added("telnyx"),
            after=rings_at_telnyx({}),
        ),
        Case(
            name="a key where Telnyx has its App ID is not kept",
            status=201,
            request=of("telnyx", accSId="planted-KEY0123"),
            body=added("telnyx"),
            after=rings_at_telnyx({}),
        ),
        Case(
            name="the + is optional",
            status=201,
            request=lambda world: request(world, phoneNumber=world.order().number),
            body=lambda world: added(phoneNumber=world.order().number)(world),
            after=rings_at_twilio,
        ),
        Case(
            name="the user's id may be a UUID",
            status=201,
            request=lambda world: request(world, userId=str(world.user())),
            body=lambda world: added(userId=str(world.user()))(world),
            after=rings_at_twilio,
        ),
        Case(
            name="unknown fields are ignored",
            status=201,
            request=of(label="Support"),
            body=added(),
        ),
        *(
            Case(
                name=f"{field} is required",
                status=400,
                request=without(field),
                body=refused(400, f"{field}: Field required"),
                after=untouched("twilio"),
            )
            for field in ("userId", "phoneNumber", "integration", "authToken", "accSId")
        ),
        *_wrong_fields(),
        Case(
            name="a malformed userId is named",
            status=400,
            request=of(userId="64e5f12345abcdef1234567x"),
            body=refused(400, "Invalid User ID format"),
        ),
        Case(
            name="an unknown user of the platform's own shape",
            status=404,
            request=of(userId="64e5f12345abcdef12345678"),
            body=refused(404, "There is no user with this userId."),
            after=untouched("twilio"),
        ),
        Case(
            name="an unknown user",
            status=404,
            request=lambda world: request(world, userId=str(world.unknown_uuid())),
            body=refused(404),
        ),
        Case(
            name="another workspace's user",
            status=404,
            request=lambda world: request(world, userId=user_of_another(world)),
            body=refused(404),
            after=untouched("twilio"),
        ),
        Case(
            name="a number is unique per user",
            status=400,
            before=submit,
            request=request,
            body=refused(400, Matching(shape=".*release the number first.*")),
            after=rings_at_twilio,
        ),
        *(
            Case(
                name=f"credentials that {vendor} rejects",
                status=400,
                request=of(vendor, authToken="sandbox-wrong"),
                body=refused(400, Matching(shape=".*rejected these credentials.*")),
                after=untouched(vendor),
            )
            for vendor in ("twilio", "plivo", "telnyx")
        ),
        Case(
            name="the account's name is named as the contract does",
            status=400,
            request=of(accSId="AC1"),
            body=refused(400, "accSId: must be AC followed by 32 hexadecimal digits"),
        ),
        *(
            Case(
                name=f"a number that the {vendor} account does not own",
                status=400,
                request=of(vendor, phoneNumber="13125559999"),
                body=refused(400, Matching(shape=".*does not own this number.*")),
            )
            for vendor in ("twilio", "plivo", "telnyx")
        ),
        Case(
            name="webhooks that cannot be set",
            status=500,
            before=failing("twilio", write=True, action="status", status=400, step="route_number"),
            request=request,
            body=refused(500, Matching(shape="The number's webhooks could not be set.*")),
            after=untouched("twilio"),
        ),
        Case(
            name="a token is required",
            status=401,
            request=request,
            headers=lambda _: {},
            body=refused(401),
        ),
        Case(
            name="an unknown token",
            status=401,
            request=request,
            headers=lambda world: headers(world, "planted-unknown"),
            body=refused(401),
        ),
        Case(
            name="a viewer may not",
            status=403,
            request=request,
            headers=lambda world: headers(world, world.viewer_key),
            body=refused(403),
        ),
        Case(
            name="the user is of the token's workspace",
            status=404,
            request=request,
            headers=lambda world: headers(world, world.other_key),
            body=refused(404),
        ),
        Case(name="no JSON", status=400, request=lambda _: "{", body=refused(400)),
        Case(name="no body", status=400, request=lambda _: "", body=refused(400)),
        Case(name="no object", status=400, request=lambda _: [], body=refused(400)),
    ),
)
