from __future__ import annotations

import dataclasses
import json

import pytest

from tests.contract.providers.case import RoutingExample
from tests.contract.providers.cases import each
from tests.contract.providers.world import PLAN, TAG, URLS, World
from worker.domain.errors import NumberNotOwned, PermanentError, WebhookSetupFailed
from worker.domain.values import NOWHERE, Fields, Objects, Routing, RoutingMode
from worker.providers import Provider

PARTS = ("voice", "sms", "status")
ROUTINGS = pytest.mark.parametrize(("case", "example"), each("routings"), indirect=["case"])


def read(world: World, provider: Provider) -> Routing:
    routing = provider.read_routing(world.case.number_id)
    assert routing is not None
    return routing


def prepare(world: World, provider: Provider, mode: RoutingMode) -> Objects:
    """Makes what a number is pointed at, as the steps before the routing do."""
    objects: dict[str, str] = {}
    objects |= provider.prepare_application(TAG, mode, URLS, sms=True, record=lambda _: None)
    if mode is RoutingMode.SIP_TRUNK and world.case.no_trunk_because is None:
        plan = dataclasses.replace(PLAN, termination=None)
        objects |= provider.prepare_trunk(TAG, plan, record=lambda _: None).objects
    return objects


def plans(provider: Provider, mode: RoutingMode, objects: Objects) -> dict[str, Fields]:
    return {
        **provider.plan_webhooks(URLS, objects, sms=True),
        "voice": provider.plan_voice(mode, URLS, objects),
    }


@ROUTINGS
def test_the_routing_is_read_whole(
    world: World, provider: Provider, example: RoutingExample
) -> None:
    world.edit(example.settings)

    routing = read(world, provider)

    assert set(routing.parts) == set(PARTS)
    assert Routing.from_json(json.loads(json.dumps(routing.to_json()))) == routing
    targets = {part: provider.target(part, routing.parts[part]) for part in PARTS}
    won = {part: target.kind for part, target in targets.items() if target != NOWHERE}
    assert won == dict(example.targets)
    shown = {name: value for fields in routing.parts.values() for name, value in fields.items()}
    for name, value in example.settings.items():
        assert shown[name] == (str(value).lower() if isinstance(value, bool) else value)


@ROUTINGS
@pytest.mark.parametrize("mode", RoutingMode)
def test_what_is_planned_reads_back_and_what_was_there_comes_back(
    world: World, provider: Provider, example: RoutingExample, mode: RoutingMode
) -> None:
    if mode not in provider.modes:
        assert world.case.no_trunk_because
        return
    world.edit(example.settings)
    before, original = world.number(), read(world, provider)
    objects = prepare(world, provider, mode)
    planned = plans(provider, mode, objects)

    for part, fields in planned.items():
        provider.write_routing(world.case.number_id, fields)
        written = read(world, provider).parts
        assert {name: written[part][name] for name in fields} == dict(fields)
        assert provider.target(part, written[part]) == provider.target(part, fields) != NOWHERE
    assert {part: provider.target(part, written[part]) for part in planned} == {
        part: provider.target(part, fields) for part, fields in planned.items()
    }, "one part's write moved another part"

    for part, fields in reversed(planned.items()):
        back = {name: original.parts[part][name] for name in fields}
        provider.write_routing(world.case.number_id, back)
    assert world.number() == before
    assert read(world, provider) == original


@ROUTINGS
def test_a_routing_is_restored_whole_over_any_other(
    world: World, provider: Provider, example: RoutingExample
) -> None:
    for between in world.case.routings:
        world.reset()
        world.edit(example.settings)
        before, original = world.number(), read(world, provider)
        world.edit(between.settings)

        provider.write_routing(
            world.case.number_id,
            {name: value for fields in original.parts.values() for name, value in fields.items()},
        )

        assert world.number() == before
        apart = world.case.parts_apart_because is not None
        filled = [fields for fields in original.parts.values() if fields]
        assert len(world.journal(write=True)) == (len(filled) if apart else 1)


@ROUTINGS
def test_writing_twice_is_writing_once(
    world: World, provider: Provider, example: RoutingExample
) -> None:
    world.edit(example.settings)
    planned = plans(provider, RoutingMode.WEBHOOK, prepare(world, provider, RoutingMode.WEBHOOK))
    for fields in planned.values():
        provider.write_routing(world.case.number_id, fields)
    once = world.number()

    for fields in planned.values():
        provider.write_routing(world.case.number_id, fields)

    assert world.number() == once


def test_a_part_is_written_in_one_request(world: World, provider: Provider) -> None:
    objects = prepare(world, provider, RoutingMode.WEBHOOK)
    before = len(world.journal(write=True))

    provider.write_routing(
        world.case.number_id, provider.plan_voice(RoutingMode.WEBHOOK, URLS, objects)
    )

    assert len(world.journal(write=True)) == before + 1


def test_a_number_that_has_left_is_not_an_error_to_read_but_to_write(
    world: World, provider: Provider
) -> None:
    objects = prepare(world, provider, RoutingMode.WEBHOOK)
    world.edit({"remove": True})

    assert provider.read_routing(world.case.number_id) is None
    with pytest.raises(NumberNotOwned):
        provider.write_routing(
            world.case.number_id, provider.plan_voice(RoutingMode.WEBHOOK, URLS, objects)
        )


def test_a_refused_value_is_the_customers_to_read_about(world: World, provider: Provider) -> None:
    urls = dataclasses.replace(URLS, voice="http://localhost/planted", status="http://localhost/x")
    before = world.number()

    def set_up() -> None:
        objects = provider.prepare_application(
            TAG, RoutingMode.WEBHOOK, urls, sms=True, record=lambda _: None
        )
        fields = provider.plan_voice(RoutingMode.WEBHOOK, urls, objects)
        provider.write_routing(world.case.number_id, fields)

    with pytest.raises(PermanentError) as caught:
        set_up()

    assert type(caught.value) is WebhookSetupFailed
    assert "planted" not in str(caught.value)
    assert world.number() == before


@pytest.mark.parametrize("mode", RoutingMode)
def test_an_application_is_made_once_and_removed_twice(
    world: World, provider: Provider, mode: RoutingMode
) -> None:
    if mode not in provider.modes:
        assert world.case.no_trunk_because
        return
    first = provider.prepare_application(TAG, mode, URLS, sms=True, record=lambda _: None)
    second = provider.prepare_application(TAG, mode, URLS, sms=True, record=lambda _: None)

    assert first == second
    provider.remove_application(TAG, first)
    provider.remove_application(TAG, first)
    assert not world.made()
