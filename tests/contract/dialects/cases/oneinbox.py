"""OneInbox's document: contracts/oneinbox.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import httpx

from tests.contract.dialects.case import TIME, WORDS, Case, Contract, Matching
from tests.contract.dialects.world import World

PATH = "/v1/phone-numbers"
PASSWORD: Final = "planted-sip-password"
A_UUID = Matching(shape="[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TRUNK = Matching(shape="ST_.+")
RULE = Matching(shape="SDR_.+")
#: A sentence that does not repeat the password.
SENTENCE = Matching(shape=r"(?s)(?!.*planted).+")
CONFIG: Final = {
    "trunk_address": "sip.telnyx.com",
    "auth_username": "acme",
    "auth_password": PASSWORD,
}
#: In the networks that the vendors say they signal from, and in nobody's.
SOURCES: Final = {"twilio": "54.172.60.1", "telnyx": "192.76.120.10"}
STRANGER: Final = "198.51.100.7"

Request = Callable[[World], Any]


#: One agent of an organisation serves all cases: making one takes the command line seconds.
_agents: dict[tuple[str, str], UUID] = {}


def agent(world: World, organization: str = "Acme") -> UUID:
    key = (world.rig.stack.api_url, organization)
    if key not in _agents:
        _agents[key] = world.agent(organization)
    return _agents[key]


def headers(_: World, key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def request(world: World, provider: str = "telnyx", **changes: Any) -> dict[str, Any]:
    return {
        "phone_number": world.order(provider).number,
        "friendly_name": "Front desk",
        "provider": provider,
        "agent_id": str(agent(world)),
        "provider_config": CONFIG,
        **changes,
    }


def of(provider: str = "telnyx", **changes: Any) -> Request:
    return lambda world: request(world, provider, **changes)


def unlike(changes: dict[str, Any]) -> Request:
    return lambda world: {**request(world), **changes}


def without(name: str) -> Request:
    return lambda world: {k: v for k, v in request(world).items() if k != name}


def config(**changes: Any) -> Request:
    return lambda world: request(world, provider_config={**CONFIG, **changes})


def stored(provider: str, **changes: Any) -> Request:
    """From a stored account; without provider_config the login is made at the provider."""

    def make(world: World) -> dict[str, Any]:
        found = request(world, provider, credential_id=str(world.credential(provider)), **changes)
        return found if "provider_config" in changes else {**found, "provider_config": {}}

    return make


def registered(provider: str = "telnyx", **changes: Any) -> Request:
    def make(world: World) -> dict[str, Any]:
        return {
            "id": A_UUID,
            "phone_number": world.order(provider).number,
            "friendly_name": "Front desk",
            "provider": provider,
            "agent_id": str(agent(world)),
            "status": "active",
            "inbound_trunk_id": TRUNK,
            "outbound_trunk_id": TRUNK,
            "dispatch_rule_id": RULE,
            "inbound_routing": None,
            "sms_capable": None,
            "created_at": TIME,
            "updated_at": TIME,
            **changes,
        }

    return make


def refused(code: str, sentence: object = SENTENCE) -> Request:
    return lambda _: {"detail": {"code": code, "message": sentence}}


def unfit(*faults: tuple[tuple[str, ...], str]) -> Request:
    return lambda _: {
        "detail": [{"loc": list(loc), "msg": SENTENCE, "type": kind} for loc, kind in faults]
    }


def imported(world: World, provider: str = "telnyx") -> dict[str, Any]:
    with world.api() as client:
        listed = client.get("/v1/phone-numbers", params={"limit": 100}).json()["items"]
    number = world.order(provider).number
    found: dict[str, Any] = next(one for one in listed if one["phone_number"] == number)
    assert PASSWORD not in str(found)
    return found


def trunks(world: World, kind: str, provider: str = "telnyx") -> list[dict[str, Any]]:
    held = world.rig.sandbox.get("/_sandbox/state").json()["livekit"][f"{kind}_trunks"]
    return [trunk for trunk in held.values() if world.order(provider).number in trunk["numbers"]]


def call(world: World, provider: str, source: str) -> Any:
    """A call as the carrier's trunk sends it: without a login, to what the answer told."""
    order = {
        "vendor": "sip",
        "number": world.order(provider).number,
        "from": "+12025550123",
        "address": "sandbox.sip.livekit.example;transport=tcp",
        "source": source,
    }
    return world.rig.control("calls", order)


def rings(provider: str) -> Callable[[World], None]:
    """Asserted: the carrier's calls ring, a stranger's do not, and nothing there was touched."""

    def check(world: World) -> None:
        found = imported(world, provider)
        assert (found["provider"], found["ownership"]) == ("sip", "asserted")
        assert found["carrier"] == {"address": "sandbox.sip.livekit.example", "transport": "auto"}
        assert call(world, provider, SOURCES[provider])["outcome"] == "agent"
        assert call(world, provider, STRANGER)["outcome"] == "failed"
        (outbound,) = trunks(world, "outbound", provider)
        assert (outbound["address"], outbound["auth_username"]) == ("sip.telnyx.com", "acme")
        held = world.number_of(world.order(provider))
        if provider == "twilio":
            assert held["voice_url"] == "https://pbx.example.com/voice"

    return check


def is_proven(provider: str) -> Callable[[World], None]:
    def check(world: World) -> None:
        found = imported(world, provider)
        assert (found["provider"], found["ownership"]) == (provider, "proven")

    return check


def proven_with_login(world: World) -> None:
    is_proven("twilio")(world)
    (outbound,) = trunks(world, "outbound", "twilio")
    assert (outbound["address"], outbound["auth_username"]) == ("sip.telnyx.com", "acme")


def free(provider: str) -> Callable[[World], None]:
    """The number answers nobody yet."""
    unset = {"twilio": {"voice_url": ""}, "telnyx": {"connection_id": None}}[provider]

    def do(world: World) -> None:
        order = world.order(provider)
        where = {"vendor": provider, "account": order.account, "phone_number": order.number}
        world.rig.control("edit", {**where, "set": unset})

    return do


def keeps(metadata: dict[str, Any]) -> Callable[[World], None]:
    def check(world: World) -> None:
        assert imported(world)["metadata"] == metadata

    return check


def absent(world: World) -> None:
    with world.api() as client:
        listed = client.get("/v1/phone-numbers", params={"limit": 100}).json()["items"]
    assert world.order("telnyx").number not in [one["phone_number"] for one in listed]
    assert not trunks(world, "inbound")
    assert not trunks(world, "outbound")


def submit(world: World) -> None:
    url = f"{world.rig.stack.api_url}/dialects/oneinbox{PATH}"
    answer = httpx.post(
        url, json=request(world), headers=headers(world, world.key), timeout=60, trust_env=False
    )
    assert answer.status_code == 201, answer.text


def routing(world: World, **changes: Any) -> dict[str, Any]:
    return {"agent_id": str(agent(world)), **changes}


def backup(world: World) -> dict[str, Any]:
    return routing(
        world,
        fallback={"agent_id": str(agent(world))},
        voicemail_message="Please leave a message.",
    )


def _wrong_fields() -> tuple[Case, ...]:
    at = "provider_config"
    nobody = "3f2b8c1e-0d4a-4c55-9a52-1f0c9b7e6d21"
    in_routing = {"inbound_routing": {"agent_id": nobody}}
    rows: list[tuple[dict[str, Any], tuple[str, ...], str]] = [
        ({"phone_number": None}, ("phone_number",), "string_type"),
        ({"phone_number": 14155550100}, ("phone_number",), "string_type"),
        ({"phone_number": "14155550100"}, ("phone_number",), "string_pattern_mismatch"),
        ({"phone_number": "+14155550100\n"}, ("phone_number",), "string_pattern_mismatch"),
        ({"phone_number": "+12"}, ("phone_number",), "value_error"),
        ({"phone_number": "+١٤١٥٥٥٥٠١٠٠"}, ("phone_number",), "string_pattern_mismatch"),
        ({"friendly_name": 7}, ("friendly_name",), "string_type"),
        ({"friendly_name": "n" * 65}, ("friendly_name",), "string_too_long"),
        ({"provider": None}, ("provider",), "literal_error"),
        ({"provider": "plivo"}, ("provider",), "literal_error"),
        ({"provider": 1}, ("provider",), "literal_error"),
        ({"agent_id": None}, ("agent_id",), "uuid_type"),
        ({"agent_id": "planted"}, ("agent_id",), "uuid_parsing"),
        ({"agent_id": 7}, ("agent_id",), "uuid_type"),
        ({"credential_id": "planted"}, ("credential_id",), "uuid_parsing"),
        ({"credential_id": 7}, ("credential_id",), "uuid_type"),
        ({at: None}, (at,), "model_attributes_type"),
        ({at: "planted"}, (at,), "model_attributes_type"),
        ({at: {**CONFIG, "trunk_address": "a" * 256}}, (at, "trunk_address"), "string_too_long"),
        ({at: {**CONFIG, "trunk_address": 1}}, (at, "trunk_address"), "string_type"),
        ({at: {**CONFIG, "auth_username": "a" * 256}}, (at, "auth_username"), "string_too_long"),
        ({at: {**CONFIG, "auth_username": []}}, (at, "auth_username"), "string_type"),
        ({at: {**CONFIG, "auth_password": "planted" * 40}}, (at, "auth_password"), "too_long"),
        ({at: {**CONFIG, "auth_password": 7}}, (at, "auth_password"), "string_type"),
        ({"inbound_routing": 7}, ("inbound_routing",), "model_attributes_type"),
        ({"inbound_routing": {}}, ("inbound_routing", "agent_id"), "missing"),
        (
            {"inbound_routing": {"agent_id": "planted"}},
            ("inbound_routing", "agent_id"),
            "uuid_parsing",
        ),
        (
            {"inbound_routing": {**in_routing["inbound_routing"], "fallback": {"agent_id": "x"}}},
            ("inbound_routing", "fallback", "agent_id"),
            "uuid_parsing",
        ),
        (
            {"inbound_routing": {**in_routing["inbound_routing"], "voicemail_message": 7}},
            ("inbound_routing", "voicemail_message"),
            "string_type",
        ),
        (
            {"inbound_routing": {**in_routing["inbound_routing"], "voicemail_message": "v" * 1001}},
            ("inbound_routing", "voicemail_message"),
            "string_too_long",
        ),
    ]
    return tuple(
        Case(
            name=f"{'.'.join(loc)} is wrong ({kind}, {index})",
            status=422,
            # Refused before anybody asks whose agent that is.
            request=unlike({"agent_id": nobody, **changes}),
            body=unfit((("body", *loc), kind)),
        )
        for index, (changes, loc, kind) in enumerate(rows)
    )


CONTRACT = Contract(
    name="oneinbox",
    method="POST",
    path=PATH,
    headers=headers,
    cases=(
        *(
            Case(
                name=f"a number at {provider} is registered",
                status=201,
                request=of(provider),
                body=registered(provider),
                after=rings(provider),
            )
            for provider in ("telnyx", "twilio")
        ),
        Case(
            name="friendly_name, inbound_routing and credential_id may be null",
            status=201,
            request=of(friendly_name=None, inbound_routing=None, credential_id=None),
            body=registered(friendly_name=None),
        ),
        Case(
            name="friendly_name may be absent, and unknown fields are ignored",
            status=201,
            request=lambda world: {**without("friendly_name")(world), "label": "x"},
            body=registered(friendly_name=None),
        ),
        Case(
            name="unknown keys of provider_config are kept, secrets are not",
            status=201,
            request=config(
                messaging_service_sid="MG1",
                edge={"region": "us1", "sip_password": PASSWORD, "notes": [f"is {PASSWORD}", "a"]},
                api_key="planted-key",
                authPassword=PASSWORD,
            ),
            body=registered(),
            after=keeps(
                {
                    "provider_config": {
                        "messaging_service_sid": "MG1",
                        "edge": {"region": "us1", "notes": [None, "a"]},
                    }
                }
            ),
        ),
        Case(
            name="inbound_routing with backup agent and voicemail",
            status=201,
            request=lambda world: request(world, inbound_routing=backup(world)),
            body=lambda world: registered(inbound_routing=backup(world))(world),
        ),
        Case(
            name="inbound_routing without a backup",
            status=201,
            request=lambda world: request(world, inbound_routing=routing(world, fallback={})),
            body=lambda world: registered(
                inbound_routing=routing(world, fallback=None, voicemail_message=None)
            )(world),
        ),
        Case(
            name="a number of a stored Twilio account",
            status=201,
            before=free("twilio"),
            request=stored("twilio"),
            body=registered("twilio", sms_capable=True),
            after=is_proven("twilio"),
        ),
        Case(
            name="a number of a stored Telnyx account",
            status=201,
            before=free("telnyx"),
            request=stored("telnyx"),
            body=registered("telnyx", sms_capable=True),
            after=is_proven("telnyx"),
        ),
        Case(
            name="a stored account with an outbound login",
            status=201,
            before=free("twilio"),
            request=stored("twilio", provider_config=CONFIG),
            body=registered("twilio", sms_capable=True),
            after=proven_with_login,
        ),
        Case(
            name="a number that goes elsewhere is not replaced",
            status=409,
            request=stored("twilio"),
            body=refused("NUMBER_IN_USE"),
        ),
        *(
            Case(
                name=f"without {missing} the trunk cannot be provisioned",
                status=400,
                request=of(provider_config={k: v for k, v in CONFIG.items() if k not in missing}),
                body=refused("SIP_TRUNK_PROVISION_FAILED"),
                after=absent,
            )
            for missing in (
                ("trunk_address",),
                ("auth_username",),
                ("auth_password",),
                ("auth_username", "auth_password"),
                tuple(CONFIG),
            )
        ),
        *(
            Case(
                name=f"{field} null and empty are as if absent ({value!r})",
                status=400,
                request=config(**{field: value}),
                body=refused(
                    "SIP_TRUNK_PROVISION_FAILED", Matching(shape=r".*provider_config\..*")
                ),
            )
            for field in CONFIG
            for value in (None, "")
        ),
        Case(
            name="without provider_config",
            status=400,
            request=without("provider_config"),
            body=refused("SIP_TRUNK_PROVISION_FAILED"),
            after=absent,
        ),
        Case(
            name="half a login beside a stored account",
            status=400,
            request=stored("twilio", provider_config={"auth_username": "acme"}),
            body=refused("SIP_TRUNK_PROVISION_FAILED"),
        ),
        Case(
            name="a trunk that LiveKit refuses",
            status=400,
            before=lambda world: world.rig.fault(
                vendor="livekit",
                operation="livekit.create_sip_outbound_trunk",
                action="status",
                status=400,
                code="invalid_argument",
                message="planted",
            ),
            request=request,
            body=refused("SIP_TRUNK_PROVISION_FAILED"),
            after=absent,
        ),
        Case(
            name="an address with a scheme",
            status=400,
            request=config(trunk_address="sip:sip.telnyx.com"),
            body=refused("INVALID_REQUEST"),
        ),
        *(
            Case(
                name=f"{field} is required",
                status=422,
                request=without(field),
                body=unfit((("body", field), "missing")),
            )
            for field in ("phone_number", "provider", "agent_id")
        ),
        Case(
            name="every violation is named at once",
            status=422,
            request=lambda _: {},
            body=unfit(
                *((("body", name), "missing") for name in ("phone_number", "provider", "agent_id"))
            ),
        ),
        *_wrong_fields(),
        Case(
            name="no JSON",
            status=422,
            request=lambda _: '{"provider_config": {"auth_password": "planted',
            body=unfit((("body",), "json_invalid")),
        ),
        Case(name="no body", status=422, request=lambda _: "", body=unfit((("body",), "missing"))),
        Case(
            name="no object",
            status=422,
            request=lambda _: ["planted"],
            body=unfit((("body",), "model_attributes_type")),
        ),
        Case(
            name="an unknown agent",
            status=404,
            request=lambda world: request(world, agent_id=str(world.unknown_uuid())),
            body=refused("AGENT_NOT_FOUND"),
        ),
        Case(
            name="another organisation's agent",
            status=403,
            request=lambda world: request(world, agent_id=str(agent(world, "Umbrella"))),
            body=refused("AGENT_NOT_OWNED"),
        ),
        Case(
            name="an unknown agent beside the one that answers",
            status=404,
            request=lambda world: request(
                world, agent_id=str(world.unknown_uuid()), inbound_routing=routing(world)
            ),
            body=refused("AGENT_NOT_FOUND"),
            after=absent,
        ),
        Case(
            name="an unknown backup agent",
            status=404,
            request=lambda world: request(
                world,
                inbound_routing=routing(world, fallback={"agent_id": str(world.unknown_uuid())}),
            ),
            body=refused("AGENT_NOT_FOUND"),
        ),
        Case(
            name="an unknown account",
            status=404,
            request=lambda world: request(world, credential_id=str(world.unknown_uuid())),
            body=refused("CREDENTIAL_NOT_FOUND"),
        ),
        Case(
            name="another organisation's account",
            status=403,
            request=lambda world: request(
                world, credential_id=str(world.credential("telnyx", world.other_key))
            ),
            body=refused("CREDENTIAL_NOT_OWNED"),
        ),
        Case(
            name="a number is registered once",
            status=409,
            before=submit,
            request=request,
            body=refused("NUMBER_ALREADY_IMPORTED"),
        ),
        Case(
            name="a key is required",
            status=401,
            request=request,
            headers=lambda _: {},
            body=lambda _: {"detail": {"code": "UNAUTHENTICATED", "message": WORDS}},
        ),
        Case(
            name="an unknown key",
            status=401,
            request=lambda _: {},
            headers=lambda world: headers(world, "oi_sk_planted"),
            body=refused("UNAUTHENTICATED"),
        ),
        Case(
            name="a viewer's key may not",
            status=403,
            request=request,
            headers=lambda world: headers(world, world.viewer_key),
            body=refused("FORBIDDEN"),
        ),
    ),
)
