"""What an import makes at Telnyx is what was planned, and what became of it is seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from tests.contract.providers.case import ProviderCase
from tests.contract.providers.cases.telnyx import ACCOUNT, CASE, KEY, made_up
from tests.contract.providers.world import LOGIN, PLAN, TAG, URLS, World
from worker.domain.errors import InsufficientPermission, ProviderUnavailable
from worker.domain.values import Objects, RoutingMode, SipLogin, TrunkPlan
from worker.providers import Provider

#: What an import calls its objects → what the vendor does.
RECORD_TYPES = {
    "application_voice_profile": "outbound_voice_profile",
    "application": "texml_application",
    "messaging_profile": "messaging_profile",
    "outbound_voice_profile": "outbound_voice_profile",
    "connection": "fqdn_connection",
    "fqdn": "fqdn",
}
OTHER_PROFILE = made_up(61)
OTHER_CONNECTION = made_up(62)


@pytest.fixture
def case() -> ProviderCase:
    return CASE


def prepare(
    provider: Provider, mode: RoutingMode, plan: TrunkPlan | None = PLAN, *, sms: bool = True
) -> Objects:
    objects = provider.prepare_application(TAG, mode, URLS, sms=sms, record=lambda _: None)
    if plan is None:
        return objects
    trunk = provider.prepare_trunk(TAG, plan, record=lambda _: None)
    return {**objects, **trunk.objects}


def change(world: World, kind: str, objects: Objects, **rest: object) -> None:
    where = {"account": ACCOUNT, "kind": RECORD_TYPES[kind], "id": objects[kind]}
    world.change({**where, **rest})


@pytest.mark.parametrize(
    "plan",
    [
        None,
        PLAN,
        dataclasses.replace(PLAN, termination=None),
        dataclasses.replace(PLAN, origination_host=None),
        dataclasses.replace(PLAN, secure=True),
        dataclasses.replace(PLAN, origination_host="project.sip.example.com:5062"),
    ],
    ids=["no_trunk", "both_ways", "inbound", "outbound", "secure", "host_with_port"],
)
@pytest.mark.parametrize("fields", [None, {"api_key": KEY}], ids=["verifiable", "unverifiable"])
@pytest.mark.parametrize("sms", [True, False])
@pytest.mark.parametrize("mode", RoutingMode)
def test_what_was_planned_is_what_was_made(
    world: World,
    mode: RoutingMode,
    plan: TrunkPlan | None,
    fields: Mapping[str, str] | None,
    *,
    sms: bool,
) -> None:
    provider = world.provider(fields)
    planned = provider.planned_objects(mode, URLS, plan, sms=sms)
    assert not world.journal()

    objects = prepare(provider, mode, plan, sms=sms)

    assert list(planned) == list(objects)
    assert set(world.made()) == set(planned)
    found = provider.read_objects(TAG, objects)
    assert found.keys() == planned.keys()
    for kind, fields_ in planned.items():
        assert fields_.items() <= (found[kind] or {}).items()
        assert all(isinstance(value, str) for value in (found[kind] or {}).values())
    assert LOGIN.password not in f"{planned} {found}"


def test_what_was_never_made_is_not_read(world: World, provider: Provider) -> None:
    assert provider.read_objects(TAG, {}) == {}
    assert provider.read_objects(TAG, {"livekit_trunk": "ST_1"}) == {}
    assert not world.journal()


@pytest.mark.parametrize("kind", list(RECORD_TYPES))
def test_what_is_gone_is_told(world: World, provider: Provider, kind: str) -> None:
    objects = prepare(provider, RoutingMode.WEBHOOK)

    change(world, kind, objects, remove=True)

    found = provider.read_objects(TAG, objects)
    # An FQDN does not outlive its connection.
    gone = {kind, "fqdn"} if kind == "connection" else {kind}
    assert {name for name, fields in found.items() if fields is None} == gone


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        ("application", {"active": False}, ("active", "false")),
        ("application", {"voice_url": "https://x.example.com/"}, ("voice_url", None)),
        ("application", {"voice_method": "get"}, ("voice_method", "get")),
        ("application", {"status_callback": ""}, ("status_callback", "")),
        ("application", {"status_callback": None}, ("status_callback", "")),
        ("application", {"status_callback_method": "get"}, ("status_callback_method", "get")),
        (
            "application",
            {"outbound": {"outbound_voice_profile_id": OTHER_PROFILE}},
            ("outbound.outbound_voice_profile_id", "another"),
        ),
        (
            "application",
            {"outbound": {"outbound_voice_profile_id": None}},
            ("outbound.outbound_voice_profile_id", "none"),
        ),
        ("application_voice_profile", {"enabled": False}, ("enabled", "false")),
        ("messaging_profile", {"enabled": False}, ("enabled", "false")),
        ("messaging_profile", {"webhook_url": None}, ("webhook_url", "")),
        ("messaging_profile", {"webhook_api_version": "1"}, ("webhook_api_version", "1")),
        (
            "messaging_profile",
            {"whitelisted_destinations": ["US", "CA"]},
            ("whitelisted_destinations", "US,CA"),
        ),
        ("outbound_voice_profile", {"enabled": False}, ("enabled", "false")),
        ("connection", {"active": False}, ("active", "false")),
        ("connection", {"anchorsite_override": "London, UK"}, ("anchorsite_override", None)),
        ("connection", {"transport_protocol": "UDP"}, ("transport_protocol", "UDP")),
        (
            "connection",
            {"inbound": {"ani_number_format": "E.164-national"}},
            ("inbound.ani_number_format", "E.164-national"),
        ),
        (
            "connection",
            {"inbound": {"dnis_number_format": "e164"}},
            ("inbound.dnis_number_format", "e164"),
        ),
        (
            "connection",
            {"outbound": {"outbound_voice_profile_id": OTHER_PROFILE}},
            ("outbound.outbound_voice_profile_id", "another"),
        ),
        (
            "connection",
            {"outbound": {"outbound_voice_profile_id": None}},
            ("outbound.outbound_voice_profile_id", "none"),
        ),
        (
            "connection",
            {"outbound": {"ip_authentication_method": None}},
            ("outbound.ip_authentication_method", ""),
        ),
        ("connection", {"user_name": "somebody1"}, ("user_name", "somebody1")),
        ("connection", {"user_name": None, "password": None}, ("user_name", "")),
        ("fqdn", {"fqdn": "other.sip.example.com"}, ("fqdn", "other.sip.example.com")),
        ("fqdn", {"port": 5070}, ("port", "5070")),
        ("fqdn", {"dns_record_type": "srv", "port": None}, ("dns_record_type", "srv")),
        ("fqdn", {"connection_id": OTHER_CONNECTION}, ("connection_id", "another")),
    ],
)
def test_what_was_changed_is_told(
    world: World,
    provider: Provider,
    kind: str,
    given: Mapping[str, object],
    told: tuple[str, str | None],
) -> None:
    field, value = told
    other: dict[str, object] = {
        "id": OTHER_CONNECTION,
        "record_type": "fqdn_connection",
        "connection_name": "x",
    }
    profile = {"id": OTHER_PROFILE, "name": "theirs"}
    document = {"connections": [other], "outbound_voice_profiles": [profile]}
    world.add({"accounts": [{"id": ACCOUNT, "api_key": KEY, **document}]})
    objects = prepare(provider, RoutingMode.WEBHOOK)
    planned = provider.planned_objects(RoutingMode.WEBHOOK, URLS, PLAN, sms=True)

    change(world, kind, objects, set=given)

    found = provider.read_objects(TAG, objects)
    differing = {
        (name, setting)
        for name, fields in planned.items()
        for setting, wanted in fields.items()
        if (found[name] or {}).get(setting) != wanted
    }
    assert (kind, field) in differing
    assert {name for name, _ in differing} == {kind}
    if value is not None:
        assert (found[kind] or {})[field] == value


@pytest.mark.parametrize(
    ("kind", "profile"),
    [("application", "outbound_voice_profile"), ("connection", "application_voice_profile")],
)
def test_the_profile_of_the_other_is_another(
    world: World, provider: Provider, kind: str, profile: str
) -> None:
    objects = prepare(provider, RoutingMode.WEBHOOK)

    change(world, kind, objects, set={"outbound": {"outbound_voice_profile_id": objects[profile]}})

    found = provider.read_objects(TAG, objects)
    assert (found[kind] or {})["outbound.outbound_voice_profile_id"] == "another"


def test_a_repeated_import_sets_right_what_was_changed(world: World, provider: Provider) -> None:
    objects = prepare(provider, RoutingMode.WEBHOOK)
    outbound = {"outbound_voice_profile_id": None}
    change(world, "application", objects, set={"active": False, "outbound": outbound})
    change(world, "application_voice_profile", objects, set={"enabled": False})
    change(world, "outbound_voice_profile", objects, set={"enabled": False})
    change(world, "connection", objects, set={"active": False})
    change(world, "fqdn", objects, set={"port": 5070})

    assert prepare(world.provider(number=2), RoutingMode.WEBHOOK) == objects

    planned = provider.planned_objects(RoutingMode.WEBHOOK, URLS, PLAN, sms=True)
    found = provider.read_objects(TAG, objects)
    assert all(fields.items() <= (found[kind] or {}).items() for kind, fields in planned.items())


def test_a_login_of_another_plan_differs(provider: Provider) -> None:
    objects = prepare(provider, RoutingMode.SIP_TRUNK)
    other = dataclasses.replace(PLAN, termination=SipLogin(username="other2", password="x" * 8))

    planned = provider.planned_objects(RoutingMode.SIP_TRUNK, URLS, other, sms=False)

    found = provider.read_objects(TAG, objects)
    assert (found["connection"] or {})["user_name"] == LOGIN.username
    assert planned["connection"]["user_name"] == "other2"


@pytest.mark.parametrize(
    ("status", "expected"), [(500, ProviderUnavailable), (403, InsufficientPermission)]
)
def test_could_not_look_is_not_gone(
    world: World, provider: Provider, status: int, expected: type[Exception]
) -> None:
    objects = prepare(provider, RoutingMode.SIP_TRUNK)
    world.fault("status", status=status, times=None)

    with pytest.raises(expected):
        provider.read_objects(TAG, objects)
