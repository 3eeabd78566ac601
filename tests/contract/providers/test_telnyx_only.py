"""What only Telnyx does."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.contract.providers.case import ProviderCase
from tests.contract.providers.cases.telnyx import (
    ACCOUNT,
    CALL_CONTROL,
    CASE,
    KEY,
    OTHER,
    OWNED,
    PROFILE,
    made_up,
)
from tests.contract.providers.world import LOGIN, PLAN, TAG, URLS, World
from worker.domain.errors import InvalidCredentials, NumberNotActive, PermanentError, UndoFailed
from worker.domain.values import E164, NOWHERE, Objects, RoutingMode
from worker.providers import Provider
from worker.steps import _routing

#: What webhook mode makes, with or without SMS.
APPLICATION = {"application_voice_profile", "application"}


@pytest.fixture
def case() -> ProviderCase:
    return CASE


def prepare(provider: Provider, mode: RoutingMode = RoutingMode.WEBHOOK) -> Objects:
    return provider.prepare_application(TAG, mode, URLS, sms=True, record=lambda _: None)


def route(world: World, provider: Provider, objects: Objects) -> None:
    fields = provider.plan_voice(RoutingMode.WEBHOOK, URLS, objects)
    provider.write_routing(world.case.number_id, fields)
    for part in provider.plan_webhooks(URLS, objects, sms=True).values():
        provider.write_routing(world.case.number_id, part)


def rules(world: World, **chosen: bool) -> None:
    world.add({"accounts": [{"id": ACCOUNT, "api_key": KEY, "rules": chosen}]})


def documents(world: World, kind: str) -> dict[str, dict[str, object]]:
    accounts = world.state()["accounts"]
    assert isinstance(accounts, dict)
    found: dict[str, dict[str, object]] = accounts[ACCOUNT][kind]
    return found


def test_the_application_carries_our_urls(world: World, provider: Provider) -> None:
    objects = prepare(provider)

    application = documents(world, "connections")[objects["application"]]
    profile = documents(world, "messaging_profiles")[objects["messaging_profile"]]
    assert application["friendly_name"] == profile["name"] == TAG.name
    assert (application["voice_url"], application["voice_method"]) == (URLS.voice, "post")
    assert application["status_callback"] == URLS.status
    assert profile["webhook_url"] == URLS.sms


def test_an_application_that_was_changed_by_hand_is_set_right(
    world: World, provider: Provider
) -> None:
    first = prepare(provider)
    urls = replace(URLS, voice=URLS.voice + "2")

    second = provider.prepare_application(
        TAG, RoutingMode.WEBHOOK, urls, sms=True, record=lambda _: None
    )

    assert first == second
    assert documents(world, "connections")[first["application"]]["voice_url"] == urls.voice


@pytest.mark.parametrize(
    ("mode", "sms", "fields", "made"),
    [
        (RoutingMode.WEBHOOK, True, None, {*APPLICATION, "messaging_profile"}),
        (RoutingMode.WEBHOOK, False, None, APPLICATION),
        (RoutingMode.WEBHOOK, True, {"api_key": KEY}, APPLICATION),
        (RoutingMode.SIP_TRUNK, True, None, {"messaging_profile"}),
        (RoutingMode.SIP_TRUNK, False, None, set()),
        (RoutingMode.SIP_TRUNK, True, {"api_key": KEY}, set()),
    ],
)
def test_only_what_carries_a_url_is_made(
    world: World, mode: RoutingMode, *, sms: bool, fields: dict[str, str] | None, made: set[str]
) -> None:
    provider = world.provider(fields)
    recorded: list[Objects] = []

    objects = provider.prepare_application(TAG, mode, URLS, sms=sms, record=recorded.append)

    assert set(objects) == set(world.made()) == made
    assert len(recorded) == len(made)


def test_of_several_applications_one_is_left(world: World, provider: Provider) -> None:
    copies = [
        {
            "id": made_up(number),
            "record_type": "texml_application",
            "friendly_name": TAG.name,
            "voice_url": URLS.voice,
        }
        for number in (41, 42)
    ]
    world.add({"accounts": [{"id": ACCOUNT, "api_key": KEY, "connections": copies}]})

    assert prepare(provider)["application"] == made_up(41)
    assert len(world.made()["application"]) == 1


def test_spare_voice_profiles_go_when_nothing_uses_them(world: World, provider: Provider) -> None:
    copies = [{"id": made_up(number), "name": TAG.name} for number in (51, 52)]
    connection = {
        "record_type": "fqdn_connection",
        "connection_name": TAG.name,
        "outbound": {"outbound_voice_profile_id": made_up(52)},
    }
    document = {"outbound_voice_profiles": copies, "connections": [connection]}
    world.add({"accounts": [{"id": ACCOUNT, "api_key": KEY, **document}]})

    trunk = provider.prepare_trunk(TAG, PLAN, record=lambda _: None)

    assert trunk.objects["outbound_voice_profile"] == made_up(51)
    assert world.made()["outbound_voice_profile"] == {made_up(51)}
    world.case.check_trunk(world.state(), TAG, PLAN, trunk)


@pytest.mark.parametrize("chosen", [{}, {"deletes_in_use": True}], ids=["refuses", "deletes"])
@pytest.mark.parametrize("kind", ["application", "messaging_profile"])
def test_what_another_number_uses_is_left(
    world: World, provider: Provider, kind: str, chosen: dict[str, bool]
) -> None:
    rules(world, **chosen)
    objects = prepare(provider)
    field = "connection_id" if kind == "application" else "messaging_profile_id"
    other = {"account": ACCOUNT, "phone_number": OTHER}
    world.change({**other, "set": {field: objects[kind]}})

    with pytest.raises(UndoFailed, match="nother"):
        provider.remove_application(TAG, objects)
    assert kind in world.made()

    world.change({**other, "set": {field: None}})
    provider.remove_application(TAG, objects)
    assert not world.made()


@pytest.mark.parametrize("kind", ["application", "messaging_profile"])
def test_what_was_renamed_is_removed_by_its_recorded_id(
    world: World, provider: Provider, kind: str
) -> None:
    objects = prepare(provider)
    # Whoever renames it, to the adapter its name is another import's.
    other = type(TAG)(import_id="imp_99")
    assert kind in objects

    provider.remove_application(other, {})
    assert world.made()
    provider.remove_application(other, objects)
    assert not world.made()


def test_a_number_that_was_on_nothing_and_cannot_go_back(world: World, provider: Provider) -> None:
    rules(world, null_unassigns=False)
    original = provider.read_routing(world.case.number_id)
    assert original is not None
    objects = prepare(provider)
    route(world, provider, objects)

    with pytest.raises(UndoFailed, match="portal"):
        provider.write_routing(world.case.number_id, original.parts["voice"])
    provider.write_routing(world.case.number_id, original.parts["sms"])
    with pytest.raises(UndoFailed, match="nother"):
        provider.remove_application(TAG, objects)

    # What the sentence asks for; the next attempt then finds nothing of ours on the number.
    world.edit({})
    provider.remove_application(TAG, objects)
    assert not world.made()
    assert provider.read_routing(world.case.number_id) == original


@pytest.mark.parametrize("before", [{}, {"connection_id": CALL_CONTROL}], ids=["nothing", "theirs"])
@pytest.mark.parametrize("mode", RoutingMode)
def test_the_steps_move_voice_there_and_back(
    world: World, provider: Provider, mode: RoutingMode, before: dict[str, str]
) -> None:
    world.edit(before)
    original = provider.read_routing(world.case.number_id)
    ctx: Any = SimpleNamespace(provider=provider, number_id=world.case.number_id, original=original)
    objects = dict(prepare(provider, mode))
    objects |= provider.prepare_trunk(TAG, PLAN, record=lambda _: None).objects
    planned = provider.plan_voice(mode, URLS, objects)

    # Undo of a step that never ran: nothing of ours is there to take away.
    _routing.restore(ctx, "voice", planned)
    _routing.restore(ctx, "voice", provider.plan_voice(mode, URLS, {}))
    assert provider.read_routing(world.case.number_id) == original

    for _ in range(2):
        _routing.apply(ctx, "voice", planned)
        assert provider.read_routing(world.case.number_id) != original
    for _ in range(2):
        _routing.restore(ctx, "voice", planned)
        assert provider.read_routing(world.case.number_id) == original
    provider.remove_application(TAG, objects)
    provider.remove_trunk(TAG, objects)
    assert not world.made()


def test_undo_of_what_was_never_made_restores_nothing(provider: Provider) -> None:
    for mode in RoutingMode:
        assert provider.plan_voice(mode, URLS, {}) == {}
    assert provider.target("voice", {}) == NOWHERE
    assert provider.plan_webhooks(URLS, {}, sms=True) == {}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, ()),
        ({"call_forwarding_enabled": True}, ()),
        ({"forwards_to": OTHER, "call_forwarding_enabled": False}, ()),
        ({"forwards_to": OTHER, "forwarding_type": "always"}, ("none reaches",)),
        ({"forwards_to": OTHER, "forwarding_type": "on-failure"}, ("fail",)),
        ({"translated_number": OTHER}, ("rewrites",)),
    ],
)
def test_what_bends_calls_is_told(
    world: World, provider: Provider, settings: dict[str, object], words: tuple[str, ...]
) -> None:
    world.edit(settings)

    found = provider.find_number(E164(OWNED), None)
    warnings = found.warnings

    if words:
        kept = {name: value for name, value in settings.items() if isinstance(value, str)}
        assert kept.items() <= found.bends.items()
    else:
        assert not any(found.bends[name] for name in ("forwards_to", "translated_number"))
    assert len(warnings) == len(words)
    for word, warning in zip(words, warnings, strict=True):
        assert word in warning
        assert OTHER not in warning


@pytest.mark.parametrize(
    ("number", "told"),
    [
        ("+13125550110", False),
        ("+16045550100", False),
        ("+442079460123", True),
        ("+18765550100", True),
    ],
    ids=["US", "CA", "GB", "JM"],
)
def test_a_number_from_elsewhere_is_told_where_calls_may_go(
    world: World, provider: Provider, number: str, *, told: bool
) -> None:
    world.add(
        {"accounts": [{"id": ACCOUNT, "api_key": KEY, "numbers": [{"phone_number": number}]}]}
    )

    warnings = provider.find_number(E164(number), None).warnings

    assert ["US and Canada only" in warning for warning in warnings] == [True] * told


def test_a_connection_that_is_gone_is_still_told(world: World, provider: Provider) -> None:
    world.edit({"connection_id": CALL_CONTROL, "messaging_profile_id": PROFILE})
    world.fault(
        "status", match={"operation": "telnyx.connections.retrieve"}, status=404, times=None
    )

    routing = provider.read_routing(world.case.number_id)

    assert routing is not None
    assert routing.parts["voice"] == {"connection_id": CALL_CONTROL, "connection_type": ""}


def test_an_inactive_number_is_named_as_such_when_written(world: World, provider: Provider) -> None:
    objects = prepare(provider)
    world.edit({"status": "ported-out"})

    with pytest.raises(NumberNotActive):
        route(world, provider, objects)


def test_the_password_of_an_adopted_connection_is_set_again(
    world: World, provider: Provider
) -> None:
    world.add({"accounts": [{"id": ACCOUNT, "api_key": KEY, "hides_passwords": True}]})
    plan = PLAN
    provider.prepare_trunk(TAG, plan, record=lambda _: None)
    changed = type(LOGIN)(username=LOGIN.username, password="Another-Password-2")
    plan = type(PLAN)(
        origination_host=PLAN.origination_host,
        origination_login=None,
        termination=changed,
        secure=False,
    )

    trunk = provider.prepare_trunk(TAG, plan, record=lambda _: None)

    world.case.check_trunk(world.state(), TAG, plan, trunk)


def test_a_login_that_somebody_has_is_refused(provider: Provider) -> None:
    provider.prepare_trunk(TAG, PLAN, record=lambda _: None)
    other = type(TAG)(import_id="imp_2")

    with pytest.raises(PermanentError) as caught:
        provider.prepare_trunk(other, PLAN, record=lambda _: None)

    assert LOGIN.username not in str(caught.value)
    provider.remove_trunk(other, {})


@pytest.mark.parametrize("key", ["KEY\nwith-a-line", "KEY-é"])
def test_a_key_that_fits_no_header_is_a_bad_key(world: World, provider: Provider, key: str) -> None:
    # The credentials refuse such a key; whatever gets past them must not look like an outage.
    provider._wire.client.api_key = key  # type: ignore[attr-defined]

    with pytest.raises(InvalidCredentials):
        provider.verify_credentials(RoutingMode.WEBHOOK)

    assert not world.journal()
