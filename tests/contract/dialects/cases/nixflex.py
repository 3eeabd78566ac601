"""Nixflex's document: contracts/nixflex.md, and the shape of errors in docs.nixflex.com's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.contract.dialects.case import Case, Contract, Matching
from tests.contract.dialects.world import World

TOKEN = "sandbox-token-1"
WRONG = "sandbox-token-planted-wrong"
#: Words, and none of them a secret.
SAID = Matching(shape=r"(?s)(?!.*sandbox-token).+")
SID = Matching(shape="PN[0-9a-f]{32}")
NOBODY = "agent_125207e452f8714a"


def headers(_: World, key: str) -> dict[str, str]:
    """A key of ours, tl_ID_SECRET, as this contract writes keys."""
    key_id, secret = key.removeprefix("tl_").split("_", 1)
    return {"Authorization": f"Bearer {key_id}:{secret}"}


def request(world: World, **changes: Any) -> dict[str, Any]:
    """The document's example, for a number and an agent of the world's."""
    order = world.order()
    agent = {"agent_id": f"agent_{world.agent().hex}"} if "agent_id" not in changes else {}
    return {
        "phone_number": order.number,
        "twilio_sid": order.account,
        "twilio_token": TOKEN,
        **agent,
        **changes,
    }


def wrong(world: World, **changes: Any) -> dict[str, Any]:
    """A request that is wrong in every way but its formats."""
    return request(world, **{"agent_id": NOBODY, "twilio_token": WRONG, **changes})


def imported(world: World) -> dict[str, Any]:
    return {
        "phone_number": {
            "phone_number": world.order().number,
            "agent_id": f"agent_{world.agent().hex}",
            "twilio_number_sid": world.number_of(world.order())["sid"],
            "inbound_enabled": True,
            "outbound_enabled": True,
        }
    }


def error(code: str, kind: str, field: str | None = None) -> Callable[[World], Any]:
    return lambda _: {
        "error": {
            "type": kind,
            "code": code,
            "message": SAID,
            "doc_url": f"https://docs.nixflex.com/reference/errors#{code}",
            "details": {} if field is None else {"field": field},
        }
    }


MISSING = "missing_field", "invalid_request"
PHONE = error("invalid_phone_format", "invalid_request", "phone_number")
TWILIO_SID = error("invalid_twilio_sid", "invalid_request", "twilio_sid")
NO_AGENT = error("agent_not_found", "not_found", "agent_id")
NOT_MINE = error("agent_not_owned", "permission_error", "agent_id")
NOT_THERE = error("number_not_in_twilio", "not_found")
UNUSABLE = error("twilio_invalid_credentials", "authentication_error")
AUTH_FAILED = error("twilio_auth_failed", "authentication_error")
TAKEN = error("number_already_imported", "conflict")
FORBIDDEN = error("forbidden", "permission_error")
NO_KEY = error("invalid_api_key", "authentication_error")
HALF_A_KEY = error("key_secret_required", "authentication_error")


def listed(world: World) -> dict[str, Any]:
    """The number as /v1 has it."""
    with world.api() as client:
        items = client.get("/v1/phone-numbers", params={"limit": 100}).json()["items"]
    found: dict[str, Any] = next(
        one for one in items if one["phone_number"] == world.order().number
    )
    return found


def rings(world: World) -> None:
    """Every webhook is ours, and a call reaches the agent."""
    order = world.order()
    assert listed(world)["agent_id"] == f"agt_{world.agent().hex}"
    number = world.number_of(order)
    for field, kind in (("voice_url", "voice"), ("sms_url", "sms"), ("status_callback", "status")):
        assert f"/callbacks/twilio/{kind}/" in number[field]
    call = {"vendor": "twilio", "account": order.account, "number": order.number}
    called = world.rig.control("calls", {**call, "from": "+12025550123"})
    assert called["outcome"] == "agent", called
    assert called["agent_name"], called


def nothing(world: World) -> None:
    with world.api() as client:
        params = {"phone_number": world.order().number}
        assert client.get("/v1/imports", params=params).json()["items"] == []
    assert world.number_of(world.order())["voice_url"] == "https://pbx.example.com/voice"


def put_back(world: World) -> None:
    """Whatever was done has been undone."""
    assert world.number_of(world.order())["voice_url"] == "https://pbx.example.com/voice"


def seeded(world: World) -> None:
    """The document's number, in an account of its own."""
    number = {"phone_number": "+447446466847", "sid": "PN451e0ddf654327e36baab58dfbcd30d6"}
    account = {"sid": "AC" + "c" * 32, "auth_token": TOKEN, "numbers": [number]}
    world.rig.control("seed", {"twilio": {"accounts": [account]}})


def taken(world: World) -> None:
    """Another organisation has the number."""
    with world.api(world.other_key) as client:
        answer = client.post("/v1/imports", json=world.order().body, headers={"Prefer": "wait=20"})
    assert answer.status_code == 201, answer.text


def suspended(world: World) -> None:
    order = world.order()
    world.fault(order, action="status", status=401, code=20005, times=None)


def faulty(**fault: Any) -> Callable[[World], None]:
    return lambda world: world.fault(world.order(), **fault)


def refused(
    name: str,
    status: int,
    body: Callable[[World], Any],
    sent: Callable[[World], Any],
    **more: Any,
) -> Case:
    return Case(name=name, status=status, request=sent, body=body, **{"after": nothing, **more})


def bad(**changes: Any) -> Callable[[World], Mapping[str, Any]]:
    return lambda world: wrong(world, **changes)


def without(name: str) -> Callable[[World], Mapping[str, Any]]:
    return lambda world: {key: value for key, value in wrong(world).items() if key != name}


SUCCESSES = (
    Case(
        name="the example",
        status=201,
        before=seeded,
        request=lambda world: {
            **request(world),
            "phone_number": "+447446466847",
            "twilio_sid": "AC" + "c" * 32,
        },
        body=lambda world: {
            "phone_number": {
                "phone_number": "+447446466847",
                "agent_id": f"agent_{world.agent().hex}",
                "twilio_number_sid": "PN451e0ddf654327e36baab58dfbcd30d6",
                "inbound_enabled": True,
                "outbound_enabled": True,
            }
        },
    ),
    Case(
        name="all webhooks are replaced, and the agent answers",
        status=201,
        request=request,
        body=imported,
        after=rings,
    ),
    Case(
        name="camelCase works, and fields it does not name are ignored",
        status=201,
        request=lambda world: {
            "phoneNumber": world.order().number,
            "twilioSid": world.order().account,
            "twilioToken": TOKEN,
            "agentId": f"agent_{world.agent().hex}",
            "foo": {"bar": 1},
        },
        body=imported,
        after=rings,
    ),
    Case(
        name="the key's id may have its prefix",
        status=201,
        request=request,
        headers=lambda world: {
            "Authorization": headers(world, world.key)["Authorization"].replace(
                "Bearer ", "Bearer tl_"
            )
        },
        body=imported,
    ),
    Case(
        name="the import goes on when it takes longer than a request may",
        status=202,
        before=faulty(action="status", status=503, retry_after=60, times=None),
        request=request,
        body=lambda world: {
            "phone_number": {
                **imported(world)["phone_number"],
                "twilio_number_sid": None,
                "inbound_enabled": False,
                "outbound_enabled": False,
            }
        },
    ),
)

BAD_NUMBERS: tuple[Any, ...] = (
    447446466847,
    "447446466847",
    "+44 7446 466847",
    "+0447446466847",
    [],
)
BAD_SIDS: tuple[Any, ...] = (5, "AC1", "SK" + "0" * 32, "AC" + "A" * 32, "AC" + "0" * 32 + "\n", {})

FORMATS = (
    *(
        refused(f"{name} is missing", 400, error(*MISSING, name), without(name))
        for name in ("phone_number", "twilio_sid", "twilio_token", "agent_id")
    ),
    *(
        refused(f"{name} is {value!r}", 400, error(*MISSING, name), bad(**{name: value}))
        for name in ("phone_number", "twilio_sid", "twilio_token", "agent_id")
        for value in (None, "", "  ")
    ),
    *(
        refused(f"{name} is {value!r}", 400, error(*MISSING, name), bad(**{name: value}))
        for name in ("twilio_token", "agent_id")
        for value in (5, ["a"], {"a": 1}, True)
    ),
    *(
        refused(f"phone_number is {value!r}", 400, PHONE, bad(phone_number=value))
        for value in BAD_NUMBERS
    ),
    *(
        refused(f"twilio_sid is {value!r}", 400, TWILIO_SID, bad(twilio_sid=value))
        for value in BAD_SIDS
    ),
    refused(
        "a missing field comes before a wrong format",
        400,
        error(*MISSING, "agent_id"),
        bad(agent_id="", phone_number="1", twilio_sid="1"),
    ),
    refused(
        "the number's format comes before the SID's",
        400,
        PHONE,
        bad(phone_number="1", twilio_sid="1"),
    ),
    refused("no JSON", 400, error(*MISSING), lambda _: "{"),
    refused("no object", 400, error(*MISSING), lambda _: [1]),
    refused("no body", 400, error(*MISSING), lambda _: ""),
)

KEYS = (
    refused("no key", 401, NO_KEY, wrong, headers=lambda _: {}),
    refused(
        "a key without its secret",
        401,
        HALF_A_KEY,
        wrong,
        headers=lambda world: {"Authorization": f"Bearer {world.key}"},
    ),
    refused(
        "an unknown key",
        401,
        NO_KEY,
        wrong,
        headers=lambda world: {"Authorization": headers(world, world.key)["Authorization"] + "x"},
    ),
    refused(
        "the key is looked at before the body",
        401,
        NO_KEY,
        lambda _: "{",
        headers=lambda _: {"Authorization": "Bearer a:b"},
    ),
    refused(
        "a viewer's key may not",
        403,
        FORBIDDEN,
        wrong,
        headers=lambda world: headers(world, world.viewer_key),
    ),
)

#: In the document's order: what stands above is said, whatever below is wrong as well.
CHECKS = (
    refused("Twilio's 20003", 401, AUTH_FAILED, wrong),
    refused(
        "Twilio's 20003 comes out of the import, too",
        401,
        AUTH_FAILED,
        lambda world: request(world, twilio_token=WRONG),
        after=put_back,
    ),
    refused(
        "an account that is suspended",
        401,
        UNUSABLE,
        request,
        before=suspended,
        after=put_back,
    ),
    refused(
        "an account that is suspended comes before the agent",
        401,
        UNUSABLE,
        lambda world: request(world, agent_id=NOBODY),
        before=suspended,
    ),
    refused("a token that cannot be one", 401, UNUSABLE, bad(twilio_token="two words")),
    refused(
        "a number of another account comes before the agent",
        404,
        NOT_THERE,
        lambda world: request(world, phone_number="+13125558888", agent_id=NOBODY),
    ),
    refused(
        "a number of another account",
        404,
        NOT_THERE,
        lambda world: request(world, phone_number="+13125558888"),
    ),
    refused(
        "an agent that does not exist",
        404,
        NO_AGENT,
        lambda world: request(world, agent_id=NOBODY),
    ),
    refused(
        "an agent that does not exist, of our shape",
        404,
        NO_AGENT,
        lambda world: request(world, agent_id=f"agent_{world.unknown_uuid().hex}"),
    ),
    refused(
        "another organization's agent",
        403,
        NOT_MINE,
        lambda world: request(world, agent_id=f"agent_{world.agent('Umbrella').hex}"),
    ),
    refused(
        "the agent comes before the number that is taken",
        404,
        NO_AGENT,
        lambda world: request(world, agent_id=NOBODY),
        before=taken,
        after=lambda _: None,
    ),
    refused("a number that is taken", 409, TAKEN, request, before=taken, after=lambda _: None),
    refused(
        "who cannot prove the number does not learn that it is taken",
        401,
        AUTH_FAILED,
        lambda world: request(world, twilio_token=WRONG),
        before=taken,
        after=lambda _: None,
    ),
    refused(
        "a refusal holds while Twilio is away",
        404,
        NO_AGENT,
        lambda world: request(world, agent_id=NOBODY),
        before=faulty(action="status", status=503, times=None),
    ),
    refused(
        "Twilio refuses the webhooks",
        502,
        error("webhook_setup_failed", "provider_error"),
        request,
        before=faulty(
            step="configure_webhooks", write=True, action="status", status=400, times=None
        ),
        after=put_back,
    ),
)

CONTRACT = Contract(
    name="nixflex",
    method="POST",
    path="/v1/phone-numbers",
    headers=headers,
    cases=(*SUCCESSES, *FORMATS, *KEYS, *CHECKS),
)
