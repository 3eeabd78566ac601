"""What an import makes at Plivo: planned as it is found, and found out when it drifts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from tests.contract.providers.case import ProviderCase
from tests.contract.providers.cases.plivo import ACCOUNT, CASE, UNTRUNKED_LOGIN, URI, move
from tests.contract.providers.world import LOGIN, PLAN, TAG, URLS, World
from worker.domain.errors import InsufficientPermission, LeaseLost, ProviderUnavailable
from worker.domain.job import Lease
from worker.domain.values import Fields, Objects, RoutingMode, SipLogin, TrunkPlan
from worker.providers import Provider

INBOUND_LOGIN = SipLogin(username="inbound1", password="Planted-Password-2")
BOTH_WAYS = dataclasses.replace(PLAN, origination_login=INBOUND_LOGIN)
OUTBOUND = dataclasses.replace(PLAN, origination_host=None)
#: Kind of object → what the sandbox calls it.
KINDS = {
    "application": "application",
    "origination_uri": "uri",
    "inbound_trunk": "trunk",
    "credential": "credential",
    "outbound_trunk": "trunk",
}


@pytest.fixture
def case() -> ProviderCase:
    return CASE


def make(
    provider: Provider, mode: RoutingMode, trunk: TrunkPlan | None, *, sms: bool = True
) -> Objects:
    made = dict(
        provider.prepare_application(TAG, mode, URLS, sms=sms, record=lambda _: None),
    )
    if trunk is not None:
        made |= provider.prepare_trunk(TAG, trunk, record=lambda _: None).objects
    return made


def everything(provider: Provider) -> Objects:
    """All five kinds, as no single import makes them."""
    return {
        **make(provider, RoutingMode.WEBHOOK, None),
        **make(provider, RoutingMode.SIP_TRUNK, BOTH_WAYS),
    }


def by_hand(world: World, objects: Objects, key: str, **edit: object) -> None:
    world.change({"account": ACCOUNT, "kind": KINDS[key], "id": objects[key], **edit})


def drift(planned: Mapping[str, Fields], found: Mapping[str, Fields | None]) -> dict[str, Any]:
    """Returns what differs: the planned fields alone count."""
    differing: dict[str, Any] = {}
    for key, fields in planned.items():
        there = found[key]
        if there is None:
            differing[key] = None
        elif wrong := {name: there[name] for name in fields if there[name] != fields[name]}:
            differing[key] = wrong
    return differing


PLANS = pytest.mark.parametrize(
    ("mode", "trunk"),
    [
        (RoutingMode.WEBHOOK, None),
        (RoutingMode.WEBHOOK, OUTBOUND),
        (RoutingMode.SIP_TRUNK, dataclasses.replace(PLAN, termination=None)),
        (RoutingMode.SIP_TRUNK, PLAN),
        (RoutingMode.SIP_TRUNK, BOTH_WAYS),
        (RoutingMode.SIP_TRUNK, dataclasses.replace(BOTH_WAYS, secure=True)),
    ],
    ids=["webhook", "webhook_outbound", "inbound", "both", "with_login", "secure"],
)


@PLANS
@pytest.mark.parametrize("sms", [True, False], ids=["sms", "no_sms"])
def test_what_was_planned_is_found(
    world: World, provider: Provider, mode: RoutingMode, trunk: TrunkPlan | None, *, sms: bool
) -> None:
    planned = provider.planned_objects(mode, URLS, trunk, sms=sms)
    assert not world.journal(), "planning asked Plivo"

    objects = make(provider, mode, trunk, sms=sms)
    before = len(world.journal(write=True))
    found = provider.read_objects(TAG, objects)

    assert list(planned) == list(objects), "in the order of making"
    assert set(found) == set(planned)
    assert drift(planned, found) == {}
    assert len(world.journal(write=True)) == before
    shown = f"{planned} {found}"
    assert LOGIN.password not in shown
    assert INBOUND_LOGIN.password not in shown


def test_what_is_planned_in_plivos_words(provider: Provider) -> None:
    planned = provider.planned_objects(RoutingMode.WEBHOOK, URLS, BOTH_WAYS, sms=True)

    assert planned == {
        "application": {
            "answer_url": URLS.voice,
            "answer_method": "POST",
            "hangup_url": URLS.status,
            "hangup_method": "POST",
            "message_url": URLS.sms,
            "message_method": "POST",
            "enabled": "true",
        },
        "origination_uri": {
            "uri": "project.sip.example.com;transport=tcp",
            "authentication_needed": "true",
            "username": INBOUND_LOGIN.username,
        },
        "inbound_trunk": {
            "trunk_status": "enabled",
            "secure": "false",
            "primary_uri_uuid": "ours",
        },
        "credential": {"username": LOGIN.username},
        "outbound_trunk": {
            "trunk_status": "enabled",
            "secure": "false",
            "credential_uuid": "ours",
        },
    }


@pytest.mark.parametrize("key", KINDS)
def test_what_is_gone_is_none_and_the_rest_is_as_it_was(
    world: World, provider: Provider, key: str
) -> None:
    objects = everything(provider)
    before = provider.read_objects(TAG, objects)

    by_hand(world, objects, key, remove=True)

    found = provider.read_objects(TAG, objects)
    assert found == {**before, key: None}


OTHER_URL = "https://other.example.com/"


CHANGES: list[tuple[str, str, object]] = [
    ("application", "answer_url", OTHER_URL),
    ("application", "answer_method", "GET"),
    ("application", "hangup_url", OTHER_URL),
    ("application", "hangup_method", "GET"),
    ("application", "message_url", OTHER_URL),
    ("application", "message_url", ""),
    ("application", "message_method", "GET"),
    ("application", "enabled", False),
    ("origination_uri", "uri", "elsewhere.example.com;transport=tcp"),
    ("origination_uri", "authentication_needed", False),
    ("origination_uri", "username", "somebody"),
    ("inbound_trunk", "trunk_status", "disabled"),
    ("inbound_trunk", "secure", True),
    ("credential", "username", "somebody"),
    ("outbound_trunk", "trunk_status", "disabled"),
    ("outbound_trunk", "secure", True),
]


@pytest.mark.parametrize(("key", "name", "value"), CHANGES)
def test_a_changed_field_differs_and_no_other(
    world: World, provider: Provider, key: str, name: str, value: object
) -> None:
    objects = everything(provider)
    planned = provider.planned_objects(RoutingMode.WEBHOOK, URLS, BOTH_WAYS, sms=True)
    assert drift(planned, provider.read_objects(TAG, objects)) == {}

    by_hand(world, objects, key, set={name: value})

    shown = str(value).lower() if isinstance(value, bool) else value
    assert drift(planned, provider.read_objects(TAG, objects)) == {key: {name: shown}}


def test_no_planned_field_goes_unwatched(provider: Provider) -> None:
    planned = provider.planned_objects(RoutingMode.WEBHOOK, URLS, BOTH_WAYS, sms=True)
    references = {("inbound_trunk", "primary_uri_uuid"), ("outbound_trunk", "credential_uuid")}

    assert {(key, name) for key, fields in planned.items() for name in fields} == {
        *((key, name) for key, name, _ in CHANGES),
        *references,
    }


def test_a_trunk_that_refers_to_another_says_so(world: World, provider: Provider) -> None:
    objects = everything(provider)
    login = {"name": "customer", "username": "customer", "password": "sandbox-password"}
    other = "00000000-0000-4000-8000-000000000077"
    zentrunk = {"credentials": [{"credential_uuid": other, **login}]}
    world.add({"accounts": [{"auth_id": ACCOUNT, "zentrunk": zentrunk}]})

    by_hand(world, objects, "inbound_trunk", set={"primary_uri_uuid": URI})
    by_hand(world, objects, "outbound_trunk", set={"credential_uuid": other})

    found = provider.read_objects(TAG, objects)
    assert found["inbound_trunk"] is not None
    assert found["inbound_trunk"]["primary_uri_uuid"] == "another"
    assert found["outbound_trunk"] is not None
    assert found["outbound_trunk"]["credential_uuid"] == "another"


def test_an_application_that_is_gone_takes_the_number_off(world: World, provider: Provider) -> None:
    objects = make(provider, RoutingMode.WEBHOOK, None)
    world.change(move(CASE.number, objects["application"]))

    by_hand(world, objects, "application", remove=True)

    assert provider.read_objects(TAG, objects) == {"application": None}
    routing = provider.read_routing(CASE.number_id)
    assert routing is not None
    assert routing.parts["voice"] == {"app_id": ""}


def test_objects_of_others_are_not_asked_for(world: World, provider: Provider) -> None:
    assert provider.read_objects(TAG, {"livekit_inbound_trunk": "ST_1"}) == {}
    assert not world.journal()


def test_could_not_look_up_is_not_gone(world: World, provider: Provider) -> None:
    objects = everything(provider)
    for fault in ({"status": 500}, {"status": 404, "body": "<html>planted</html>"}):
        world.fault("status", match={"write": False}, times=None, **fault)
        with pytest.raises(ProviderUnavailable):
            provider.read_objects(TAG, objects)
        world.clear_faults()
    with pytest.raises(InsufficientPermission):
        world.provider(UNTRUNKED_LOGIN).read_objects(TAG, {"inbound_trunk": "20000000000000001"})
    with pytest.raises(LeaseLost):
        world.provider(lease=Lease(seconds=0.1)).read_objects(TAG, objects)


def test_a_short_fault_heals_itself(world: World, provider: Provider) -> None:
    objects = make(provider, RoutingMode.WEBHOOK, None)
    world.fault("cut", match={"write": False})

    assert provider.read_objects(TAG, objects)["application"] is not None
