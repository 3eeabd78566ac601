"""What an import makes at Twilio: as planned, found again, and each drift of it seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import requests

from tests.contract.providers.case import ProviderCase
from tests.contract.providers.cases.twilio import (
    ACCOUNT,
    CASE,
    NUMBERS_KEY,
    STANDARD_KEY,
    STRANGER,
    SUBACCOUNT,
    TOKEN,
    sid,
)
from tests.contract.providers.world import LOGIN, PLAN, TAG, URLS, World
from worker.domain.errors import InsufficientPermission, ProviderUnavailable
from worker.domain.values import Objects, RoutingMode, TrunkPlan
from worker.providers import Provider
from worker.providers._twilio_trunks import trunk_domain

INBOUND = replace(PLAN, termination=None)
OUTBOUND = replace(PLAN, origination_host=None)
KINDS = ("trunk", "origination", "credential_list", "credential")


@pytest.fixture
def case() -> ProviderCase:
    return CASE


def make(provider: Provider, mode: RoutingMode, plan: TrunkPlan) -> Objects:
    """Makes all that an import makes."""
    made = dict(provider.prepare_application(TAG, mode, URLS, sms=True, record=lambda _: None))
    return made | dict(provider.prepare_trunk(TAG, plan, record=lambda _: None).objects)


def change(world: World, kind: str, id_: str, **settings: object) -> None:
    document = {"set": settings} if settings else {"remove": True}
    world.change({"account": ACCOUNT, "kind": kind, "id": id_, **document})


@pytest.mark.parametrize(
    ("mode", "plan"),
    [
        (RoutingMode.SIP_TRUNK, PLAN),
        (RoutingMode.SIP_TRUNK, INBOUND),
        (RoutingMode.SIP_TRUNK, replace(PLAN, secure=True)),
        (RoutingMode.WEBHOOK, OUTBOUND),
        (RoutingMode.WEBHOOK, replace(OUTBOUND, secure=True)),
    ],
)
@pytest.mark.parametrize("login", [{}, STANDARD_KEY], ids=["token", "key"])
def test_what_was_made_is_what_was_planned(
    world: World, mode: RoutingMode, plan: TrunkPlan, login: Mapping[str, str]
) -> None:
    provider = world.provider({"account_sid": ACCOUNT, **login} if login else None)
    planned = provider.planned_objects(mode, URLS, plan, sms=True)
    assert not world.journal(), "a plan asks nobody"

    objects = make(provider, mode, plan)
    writes = world.journal(write=True)
    found = provider.read_objects(TAG, objects)

    assert tuple(planned) == tuple(objects), "in the order of making"
    assert found == planned
    assert world.journal(write=True) == writes
    assert LOGIN.password not in f"{planned} {found}"


@pytest.mark.parametrize("mode", RoutingMode)
def test_without_a_trunk_nothing_is_made(provider: Provider, mode: RoutingMode) -> None:
    assert provider.planned_objects(mode, URLS, None, sms=True) == {}
    assert provider.read_objects(TAG, {}) == {}


def test_a_trunk_that_got_another_domain_is_still_ours(world: World, provider: Provider) -> None:
    taken = {"domain_name": trunk_domain(TAG.import_id)}
    world.add({"accounts": [{"sid": STRANGER, "trunks": [taken]}]})

    objects = make(provider, RoutingMode.SIP_TRUNK, PLAN)

    planned = provider.planned_objects(RoutingMode.SIP_TRUNK, URLS, PLAN, sms=False)
    assert provider.read_objects(TAG, objects) == planned


@pytest.mark.parametrize("removed", KINDS)
def test_what_was_deleted_by_hand_is_gone(world: World, provider: Provider, removed: str) -> None:
    objects = make(provider, RoutingMode.SIP_TRUNK, PLAN)
    if removed == "credential_list":  # the vendor deletes none that is mapped
        change(world, "mapping", f"{objects['trunk']}/{objects[removed]}")
    change(world, removed, objects[removed])

    found = provider.read_objects(TAG, objects)

    # A part goes with what it is a part of.
    parts = {
        "trunk": {"trunk", "origination"},
        "credential_list": {"credential_list", "credential"},
    }
    gone = parts.get(removed, {removed})
    assert {kind for kind, fields in found.items() if fields is None} == gone
    assert tuple(found) == KINDS


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("trunk", {"secure": True}, {"trunk": {"secure": "true"}}),
        (
            "trunk",
            {"domain_name": "theirs.pstn.twilio.com"},
            {"trunk": {"domain_name": "another"}},
        ),
        ("trunk", {"domain_name": ""}, {"trunk": {"domain_name": "none"}}),
        (
            "origination",
            {"sip_url": "sip:other.sip.example.com;transport=tcp"},
            {"origination": {"sip_url": "sip:other.sip.example.com;transport=tcp"}},
        ),
        (
            "origination",
            {"enabled": False},
            {"origination": {"enabled": "false"}, "trunk": {"origination": "none"}},
        ),
        ("origination", {"weight": 7}, {"origination": {"weight": "7"}}),
        ("origination", {"priority": 7}, {"origination": {"priority": "7"}}),
    ],
)
def test_what_was_changed_by_hand_differs(
    world: World,
    provider: Provider,
    kind: str,
    settings: dict[str, object],
    expected: dict[str, dict[str, str]],
) -> None:
    objects = make(provider, RoutingMode.SIP_TRUNK, PLAN)
    planned = provider.planned_objects(RoutingMode.SIP_TRUNK, URLS, PLAN, sms=False)
    change(world, kind, objects[kind], **settings)

    found = provider.read_objects(TAG, objects)

    differing: dict[str, dict[str, str]] = {}
    for found_kind, fields in found.items():
        assert fields is not None
        for name, value in fields.items():
            if value != planned[found_kind][name]:
                differing.setdefault(found_kind, {})[name] = value
    assert differing == expected


def test_a_login_that_was_unmapped_or_replaced_is_seen(world: World, provider: Provider) -> None:
    objects = make(provider, RoutingMode.SIP_TRUNK, PLAN)
    change(world, "mapping", f"{objects['trunk']}/{objects['credential_list']}")
    assert _trunk(provider, objects)["credential_list"] == "none"

    theirs = _post(world, "api", "SIP/CredentialLists.json", FriendlyName="theirs")
    _post(
        world,
        "trunking",
        f"v1/Trunks/{objects['trunk']}/CredentialLists",
        CredentialListSid=theirs["sid"],
    )
    assert _trunk(provider, objects)["credential_list"] == "another"


@pytest.mark.parametrize(
    ("priority", "enabled", "expected"),
    [
        (0, "true", "another"),
        (1, "true", "another"),  # they share the calls
        (2, "true", "ours"),
        (0, "false", "ours"),
    ],
)
def test_another_url_that_takes_calls_is_seen(
    world: World, provider: Provider, priority: int, enabled: str, expected: str
) -> None:
    objects = make(provider, RoutingMode.SIP_TRUNK, PLAN)
    _post(
        world,
        "trunking",
        f"v1/Trunks/{objects['trunk']}/OriginationUrls",
        FriendlyName="theirs",
        SipUrl="sip:other.sip.example.com",
        Weight=1,
        Priority=priority,
        Enabled=enabled,
    )

    assert _trunk(provider, objects)["origination"] == expected


def test_what_cannot_be_looked_up_is_not_gone(world: World, provider: Provider) -> None:
    objects = make(provider, RoutingMode.SIP_TRUNK, PLAN)
    parents = {"account_sid": SUBACCOUNT, "auth_token": TOKEN, "parent_account_sid": ACCOUNT}

    for login in (parents, {"account_sid": ACCOUNT, **NUMBERS_KEY}):
        with pytest.raises(InsufficientPermission):
            world.provider(login).read_objects(TAG, objects)
    for kind in ("trunks", "origination_urls", "credential_lists", "credentials"):
        world.fault("status", match={"operation": f"twilio.{kind}.*"}, status=503, times=3)
        with pytest.raises(ProviderUnavailable):
            provider.read_objects(TAG, objects)
        world.clear_faults()


def test_only_what_an_import_makes_here_is_read(world: World, provider: Provider) -> None:
    assert provider.read_objects(TAG, {"inbound_trunk": "ST_1"}) == {}
    assert not world.journal()


def test_a_trunk_of_another_account_is_gone(provider: Provider) -> None:
    assert provider.read_objects(TAG, {"trunk": sid("TK", 77)}) == {"trunk": None}


def _trunk(provider: Provider, objects: Objects) -> Mapping[str, str]:
    fields = provider.read_objects(TAG, objects)["trunk"]
    assert fields is not None
    return fields


def _post(world: World, product: str, path: str, **form: object) -> dict[str, str]:
    settings = world.settings()
    base = getattr(settings, f"twilio_{product}_base_url")
    prefix = f"/2010-04-01/Accounts/{ACCOUNT}" if product == "api" else ""
    answer = requests.post(f"{base}{prefix}/{path}", form, auth=(ACCOUNT, TOKEN), timeout=5)
    answer.raise_for_status()
    document: dict[str, str] = answer.json()
    return document
