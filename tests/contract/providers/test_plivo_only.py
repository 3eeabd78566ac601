"""What only Plivo does."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.contract.providers.case import ProviderCase
from tests.contract.providers.cases.plivo import (
    ACCOUNT,
    APP,
    CASE,
    OTHER,
    OTHER_APP,
    UNROUTED,
    UNTRUNKED_LOGIN,
    account_of,
    digits,
    move,
)
from tests.contract.providers.world import LOGIN, PLAN, TAG, URLS, World
from worker.domain.errors import (
    InsufficientPermission,
    ProviderUnavailable,
    SipTrunkProvisionFailed,
    UndoFailed,
)
from worker.domain.values import E164, NOWHERE, Objects, RoutingMode
from worker.providers import Provider


@pytest.fixture
def case() -> ProviderCase:
    return CASE


def prepare(provider: Provider, *, sms: bool = True) -> Objects:
    return provider.prepare_application(
        TAG, RoutingMode.WEBHOOK, URLS, sms=sms, record=lambda _: None
    )


def application(world: World, objects: Objects) -> dict[str, Any]:
    found: dict[str, Any] = account_of(world.state())["applications"][objects["application"]]
    return found


# --- application ------------------------------------------------------------------------------


@pytest.mark.parametrize("sms", [True, False])
def test_the_application_carries_our_urls_and_is_nobodys_default(
    world: World, provider: Provider, *, sms: bool
) -> None:
    found = application(world, prepare(provider, sms=sms))

    assert found["app_name"] == TAG.name
    assert (found["answer_url"], found["answer_method"]) == (URLS.voice, "POST")
    assert (found["hangup_url"], found["hangup_method"]) == (URLS.status, "POST")
    assert found["message_url"] == (URLS.sms if sms else "")
    assert found["fallback_answer_url"] == ""
    assert (found["default_number_app"], found["default_endpoint_app"]) == (False, False)


def test_the_id_of_the_application_is_recorded_at_once(world: World, provider: Provider) -> None:
    recorded: list[Objects] = []
    objects = provider.prepare_application(
        TAG, RoutingMode.WEBHOOK, URLS, sms=True, record=recorded.append
    )

    assert recorded == [objects]
    assert world.made() == {"application": {objects["application"]}}


def test_a_number_on_a_trunk_needs_no_application(world: World, provider: Provider) -> None:
    made = provider.prepare_application(
        TAG, RoutingMode.SIP_TRUNK, URLS, sms=True, record=lambda _: None
    )

    assert made == {}
    assert not world.journal()


@pytest.mark.parametrize(
    ("action", "rest"),
    [("lost", {}), ("lost_status", {"status": 500}), ("garbage", {}), ("empty", {})],
    ids=str,
)
def test_an_application_whose_answer_was_lost_is_adopted(
    world: World, action: str, rest: dict[str, Any]
) -> None:
    world.fault(action, match={"write": True}, **rest)
    with pytest.raises(ProviderUnavailable) as caught:
        prepare(world.provider())
    assert caught.value.outcome_unknown

    objects = prepare(world.provider(number=2))

    assert world.made() == {"application": {objects["application"]}}


def test_a_name_that_was_taken_just_now_is_adopted(world: World, provider: Provider) -> None:
    # As if a write of an earlier attempt had landed between the look and the write of this one.
    world.fault("lost_status", match={"write": True}, status=400)

    objects = prepare(provider)

    assert world.made() == {"application": {objects["application"]}}


def test_the_oldest_of_several_applications_is_adopted_and_set_right(
    world: World, provider: Provider
) -> None:
    copies = ["30000000000000008", "30000000000000009"]
    stale = {"app_name": TAG.name, "answer_url": "https://stale.example.com/", "public_uri": False}
    world.add(
        {
            "accounts": [
                {
                    "auth_id": ACCOUNT,
                    "applications": [{"app_id": copy, **stale} for copy in copies],
                }
            ]
        }
    )

    objects = prepare(provider)

    assert objects == {"application": copies[0]}
    assert application(world, objects)["answer_url"] == URLS.voice
    assert world.made() == {"application": {copies[0]}}


def test_an_application_that_another_number_uses_stays(world: World, provider: Provider) -> None:
    objects = prepare(provider)
    world.change(move(OTHER, objects["application"]))

    with pytest.raises(UndoFailed, match="Another phone number"):
        provider.remove_application(TAG, objects)
    assert world.made() == {"application": {objects["application"]}}

    world.change(move(OTHER, APP))
    provider.remove_application(TAG, objects)
    assert not world.made()


@pytest.mark.parametrize("known", [True, False], ids=["recorded", "by_name"])
def test_foreign_applications_are_left_alone(
    world: World, provider: Provider, *, known: bool
) -> None:
    before = account_of(world.state())["applications"]

    provider.remove_application(TAG, prepare(provider) if known else {})

    assert account_of(world.state())["applications"] == before
    written = {entry["operation"] for entry in world.journal(write=True)}
    assert written <= {"plivo.applications.create", "plivo.applications.delete"}


def test_endpoints_that_somebody_added_survive(world: World, provider: Provider) -> None:
    found = {
        "app_id": "30000000000000008",
        "app_name": TAG.name,
        "answer_url": URLS.voice,
        "endpoints": ["phone"],
    }
    world.add({"accounts": [{"auth_id": ACCOUNT, "applications": [found]}]})

    provider.remove_application(TAG, {})

    account = account_of(world.state())
    assert "30000000000000008" not in account["applications"]
    assert "phone" in account["endpoints"]


# --- number -----------------------------------------------------------------------------------


def test_a_number_without_an_application_cannot_be_put_back(
    world: World, provider: Provider
) -> None:
    found = provider.find_number(E164(UNROUTED), None)
    voice = found.routing.parts["voice"]
    assert provider.target("voice", voice) == NOWHERE
    assert "choose another application" in found.warnings[0]
    provider.write_routing(found.id, {"app_id": OTHER_APP})
    before = len(world.journal())

    with pytest.raises(UndoFailed, match="no application"):
        provider.write_routing(found.id, voice)

    assert len(world.journal()) == before
    assert account_of(world.state())["numbers"][digits(UNROUTED)]["app_id"] == OTHER_APP


def test_other_settings_of_the_number_stay(world: World, provider: Provider) -> None:
    world.edit({"alias": "front desk"})

    provider.write_routing(CASE.number_id, {"app_id": OTHER_APP})

    number: Any = world.number()
    assert (number["alias"], number["app_id"]) == ("front desk", OTHER_APP)


# --- trunk ------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", [LOGIN.password, "Another-Password-2"])
def test_calls_can_answer_livekits_challenge(
    world: World, provider: Provider, password: str
) -> None:
    plan = dataclasses.replace(PLAN, origination_login=LOGIN)
    provider.prepare_trunk(TAG, plan, record=lambda _: None)
    plan = dataclasses.replace(
        PLAN, origination_login=dataclasses.replace(LOGIN, password=password)
    )

    trunk = provider.prepare_trunk(TAG, plan, record=lambda _: None)

    world.case.check_trunk(world.state(), TAG, plan, trunk)


def test_an_account_without_trunking_is_told_so_and_can_be_undone(world: World) -> None:
    provider = world.provider(UNTRUNKED_LOGIN)

    with pytest.raises(InsufficientPermission, match="Zentrunk"):
        provider.verify_credentials(RoutingMode.SIP_TRUNK)
    with pytest.raises(SipTrunkProvisionFailed, match="not enabled"):
        provider.prepare_trunk(TAG, PLAN, record=lambda _: None)
    provider.remove_trunk(TAG, {})
    with pytest.raises(InsufficientPermission):
        provider.remove_trunk(TAG, {"inbound_trunk": "20000000000000005"})

    assert not world.journal(write=True)


def test_a_trunk_that_was_renamed_by_hand_is_found_by_its_id(
    world: World, provider: Provider
) -> None:
    trunk = provider.prepare_trunk(TAG, PLAN, record=lambda _: None)
    provider._client.request(  # type: ignore[attr-defined] # as the customer would, in the console
        "POST", ("Zentrunk", "Trunk", trunk.objects["inbound_trunk"]), {"name": "renamed"}
    )

    provider.remove_trunk(TAG, trunk.objects)

    assert not world.made()


def test_a_trunk_that_is_used_is_kept_whole_and_the_number_rings_on(
    world: World, provider: Provider
) -> None:
    trunk = provider.prepare_trunk(TAG, PLAN, record=lambda _: None)
    world.change(world.case.use_trunk(trunk))
    before = len(world.journal(write=True))

    with pytest.raises(UndoFailed, match="Another phone number"):
        provider.remove_trunk(TAG, trunk.objects)

    assert len(world.journal(write=True)) == before, "refused before anything was deleted"
