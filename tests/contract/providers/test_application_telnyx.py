"""A TeXML application and the outbound voice profile that its calls to LiveKit go out with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count, pairwise
from typing import Any

import pytest

from tests.contract.providers.case import ProviderCase
from tests.contract.providers.cases.telnyx import ACCOUNT, CASE, KEY, OTHER, made_up
from tests.contract.providers.test_trunks import DOUBTS
from tests.contract.providers.world import PLAN, TAG, URLS, World
from worker.domain.errors import (
    LeaseLost,
    ProviderUnavailable,
    TransientError,
    UndoFailed,
    WebhookSetupFailed,
)
from worker.domain.values import ImportTag, Objects, RoutingMode
from worker.providers import Provider
from worker.providers._core import Record

NAME = "trunkline-imp-1-application"
KINDS = ["application_voice_profile", "application", "messaging_profile"]
KNOWN = pytest.mark.parametrize("known", [True, False], ids=["recorded", "by_name"])


@pytest.fixture
def case() -> ProviderCase:
    return CASE


def prepare(provider: Provider, tag: ImportTag = TAG, record: Record = lambda _: None) -> Objects:
    return provider.prepare_application(tag, RoutingMode.WEBHOOK, URLS, sms=True, record=record)


def prepare_trunk(provider: Provider) -> Objects:
    return provider.prepare_trunk(TAG, PLAN, record=lambda _: None).objects


def documents(world: World, kind: str) -> dict[str, dict[str, Any]]:
    accounts: Any = world.state()["accounts"]
    found: dict[str, dict[str, Any]] = accounts[ACCOUNT][kind]
    return found


def profile_of(world: World, connection: str) -> object:
    return documents(world, "connections")[connection]["outbound"]["outbound_voice_profile_id"]


def add(world: World, **document: object) -> None:
    world.add({"accounts": [{"id": ACCOUNT, "api_key": KEY, **document}]})


def one_of_each(world: World, objects: Objects) -> None:
    assert list(objects) == KINDS
    assert world.made() == {kind: {found} for kind, found in objects.items()}
    profile = documents(world, "outbound_voice_profiles")[objects["application_voice_profile"]]
    assert (profile["name"], profile["enabled"]) == (NAME, True)
    assert profile_of(world, objects["application"]) == profile["id"]


def failure(call: Callable[[], object]) -> TransientError | None:
    try:
        call()
    except TransientError as error:
        return error
    return None


def test_the_application_has_a_profile_of_its_own(world: World, provider: Provider) -> None:
    objects = prepare(provider)
    one_of_each(world, objects)

    assert prepare(world.provider(number=2)) == objects
    one_of_each(world, objects)


def test_ids_are_recorded_before_anything_else_is_written(world: World, provider: Provider) -> None:
    recorded: list[Objects] = []
    written = [0]

    def record(objects: Objects) -> None:
        recorded.append(objects)
        written.append(len(world.journal(write=True)))

    objects = prepare(provider, record=record)

    assert recorded[-1] == objects
    assert [list(each)[-1] for each in recorded] == KINDS
    assert all(later - earlier == 1 for earlier, later in pairwise(written))


def test_a_worker_that_dies_while_recording_leaves_no_second_one(world: World) -> None:
    for deadly in range(1, len(KINDS) + 1):
        world.reset()
        seen: list[Objects] = []

        def record(objects: Objects, seen: list[Objects] = seen, deadly: int = deadly) -> None:
            seen.append(objects)
            if len(seen) == deadly:
                raise LeaseLost

        with pytest.raises(LeaseLost):
            prepare(world.provider(), record=record)
        one_of_each(world, prepare(world.provider(number=2)))


@DOUBTS
def test_in_doubt_about_any_write_the_next_attempt_leaves_one_of_everything(
    world: World, action: str, rest: dict[str, Any]
) -> None:
    for nth in count(1):
        world.reset()
        world.fault(action, match={"write": True}, nth=nth, **rest)

        error = failure(partial(prepare, world.provider()))
        world.clear_faults()

        one_of_each(world, prepare(world.provider(number=2)))
        if error is None:
            break
        assert error.outcome_unknown
    assert nth == len(KINDS) + 1, "every object is made by a write of its own"


def test_a_write_that_lands_late_leaves_one_of_everything(world: World) -> None:
    for nth in count(1):
        world.reset()
        world.fault("hold", match={"write": True}, nth=nth, when="before")

        error = failure(partial(prepare, world.provider(read_timeout_seconds=0.1)))
        world.clear_faults()
        prepare(world.provider(number=2))
        world.release()

        objects = prepare(world.provider(number=3))
        one_of_each(world, objects)
        world.provider(number=4).remove_application(TAG, objects)
        assert not world.made()
        if error is None:
            break
    assert nth == len(KINDS) + 1, "every object is made by a write of its own"


@DOUBTS
@KNOWN
def test_in_doubt_about_any_deletion_the_next_attempt_leaves_nothing(
    world: World, action: str, rest: dict[str, Any], *, known: bool
) -> None:
    for nth in count(1):
        world.reset()
        made = prepare(world.provider())
        objects = made if known else {}
        world.fault(action, match={"write": True}, nth=nth, **rest)

        error = failure(partial(world.provider(number=2).remove_application, TAG, objects))

        if error is None:
            assert not world.made()
            break
        assert error.outcome_unknown
        world.provider(number=3).remove_application(TAG, objects)
        assert not world.made()
    assert nth == len(KINDS) + 1, "every object is deleted by a write of its own"


@KNOWN
def test_what_was_refused_half_way_is_removed(world: World, *, known: bool) -> None:
    for nth in range(1, len(KINDS) + 1):
        world.reset()
        recorded: dict[str, str] = {}
        world.fault("status", match={"write": True}, nth=nth, status=422)

        with pytest.raises(WebhookSetupFailed):
            prepare(world.provider(), record=recorded.update)

        assert list(recorded) == KINDS[: nth - 1]
        world.provider(number=2).remove_application(TAG, recorded if known else {})
        assert not world.made()


def test_of_several_profiles_the_oldest_is_left(world: World, provider: Provider) -> None:
    application = {
        "record_type": "texml_application",
        "friendly_name": TAG.name,
        "voice_url": URLS.voice,
        "outbound": {"outbound_voice_profile_id": made_up(52)},
    }
    copies = [{"id": made_up(number), "name": NAME} for number in (51, 52, 53)]
    add(world, outbound_voice_profiles=copies, connections=[application])

    objects = prepare(provider)

    assert objects["application_voice_profile"] == made_up(51)
    one_of_each(world, objects)


@KNOWN
def test_all_of_several_profiles_are_removed(
    world: World, provider: Provider, *, known: bool
) -> None:
    objects = prepare(provider)
    add(world, outbound_voice_profiles=[{"name": NAME}, {"name": NAME}])

    provider.remove_application(TAG, objects if known else {})

    assert not world.made()


def test_the_profile_goes_after_the_application(world: World, provider: Provider) -> None:
    objects = prepare(provider)
    before = len(world.journal())

    provider.remove_application(TAG, objects)

    deleted = [entry["operation"] for entry in world.journal()[before:] if entry["write"]]
    assert deleted == [
        "telnyx.texml_applications.delete",
        "telnyx.outbound_voice_profiles.delete",
        "telnyx.messaging_profiles.delete",
    ]


def test_an_application_that_stays_keeps_its_profile(world: World, provider: Provider) -> None:
    # Were both left to Telnyx: it may delete what is in use, and calls would fail from then on.
    add(world, rules={"deletes_in_use": True})
    objects = prepare(provider)
    world.change(
        {
            "account": ACCOUNT,
            "phone_number": OTHER,
            "set": {"connection_id": objects["application"]},
        }
    )

    with pytest.raises(UndoFailed, match="nother"):
        provider.remove_application(TAG, objects)

    one_of_each(world, objects)


@pytest.mark.parametrize("trunk_first", [True, False])
def test_trunk_and_application_do_not_share_a_profile(
    world: World, provider: Provider, *, trunk_first: bool
) -> None:
    # The filter of the list finds the longer name for the shorter one.
    steps = [prepare, prepare_trunk]
    objects: dict[str, str] = {}
    for _ in range(2):
        for step in reversed(steps) if trunk_first else steps:
            objects |= step(provider)

    assert world.made() == {kind: {found} for kind, found in objects.items()}
    names = {
        found: row["name"] for found, row in documents(world, "outbound_voice_profiles").items()
    }
    assert names == {
        objects["application_voice_profile"]: NAME,
        objects["outbound_voice_profile"]: TAG.name,
    }
    for kind, profile in (
        ("application", "application_voice_profile"),
        ("connection", "outbound_voice_profile"),
    ):
        assert profile_of(world, objects[kind]) == objects[profile]


@KNOWN
@pytest.mark.parametrize("rules", [{}, {"deletes_in_use": True}], ids=["refuses", "deletes"])
def test_neither_takes_away_the_others_profile(
    world: World, provider: Provider, *, known: bool, rules: dict[str, bool]
) -> None:
    add(world, rules=rules)
    for removed in ("trunk", "application"):
        application, trunk = prepare(provider), prepare_trunk(provider)
        objects = {**application, **trunk} if known else {}
        if removed == "trunk":
            provider.remove_trunk(TAG, objects)
            one_of_each(world, application)
            provider.remove_application(TAG, objects)
        else:
            provider.remove_application(TAG, objects)
            assert world.made() == {kind: {found} for kind, found in trunk.items()}
            provider.remove_trunk(TAG, objects)
        assert not world.made()


def test_imports_do_not_share_a_profile(world: World, provider: Provider) -> None:
    other = ImportTag(import_id="imp_12")

    one, two = prepare(provider), prepare(provider, other)
    assert not set(one.values()) & set(two.values())

    provider.remove_application(TAG, {})
    assert world.made() == {kind: {found} for kind, found in two.items()}


def test_could_not_look_up_is_not_absent(world: World, provider: Provider) -> None:
    operation = "telnyx.outbound_voice_profiles.list"
    world.fault("status", match={"operation": operation}, status=500, times=None)

    with pytest.raises(ProviderUnavailable) as caught:
        prepare(provider)

    assert not caught.value.outcome_unknown
    assert not world.journal(write=True)
