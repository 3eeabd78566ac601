from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from itertools import count, pairwise
from typing import Any

import pytest

from tests.contract.providers.case import ProviderCase
from tests.contract.providers.cases import CASES
from tests.contract.providers.world import LOGIN, PLAN, TAG, World
from worker.domain.errors import (
    LeaseLost,
    PermanentError,
    ProviderUnavailable,
    SipTrunkProvisionFailed,
    TransientError,
)
from worker.domain.values import ImportTag, Objects, ProviderTrunk, SipLogin, TrunkPlan
from worker.providers import Provider

#: Faults that leave the adapter in doubt about a write, applied or not.
DOUBTS = pytest.mark.parametrize(
    ("action", "rest"),
    [
        ("lost", {}),
        ("lost_status", {"status": 500}),
        ("cut", {}),
        ("status", {"status": 503}),
        ("garbage", {}),
        ("empty", {}),
    ],
    ids=["lost", "lost_500", "cut", "503", "garbage", "empty"],
)


@pytest.fixture(
    params=[case for case in CASES.values() if case.no_trunk_because is None],
    ids=lambda case: str(case.name),
)
def case(request: pytest.FixtureRequest) -> ProviderCase:
    """Those with trunks: the others' steps never ask for one."""
    found: ProviderCase = request.param
    return found


def prepare(provider: Provider, plan: TrunkPlan = PLAN, tag: ImportTag = TAG) -> ProviderTrunk:
    return provider.prepare_trunk(tag, plan, record=lambda _: None)


def one_of_each(world: World, trunk: ProviderTrunk) -> None:
    """Asserts that there is what was planned and nothing besides."""
    world.case.check_trunk(world.state(), TAG, PLAN, trunk)
    made = world.made()
    assert {kind: len(ids) for kind, ids in made.items()} == dict.fromkeys(made, 1)
    assert set(trunk.objects.values()) <= frozenset[str]().union(*made.values())


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        dataclasses.replace(PLAN, termination=None),
        dataclasses.replace(PLAN, origination_host=None),
        dataclasses.replace(PLAN, secure=True),
        dataclasses.replace(PLAN, origination_host="project.sip.example.com:5062"),
    ],
    ids=["both_ways", "inbound", "outbound", "secure", "host_with_port"],
)
def test_a_trunk_does_what_was_planned(world: World, provider: Provider, plan: TrunkPlan) -> None:
    before = world.number()

    trunk = prepare(provider, plan)

    world.case.check_trunk(world.state(), TAG, plan, trunk)
    assert world.number() == before, "a number was moved"


def test_twice_is_once(world: World, provider: Provider) -> None:
    first = prepare(provider)
    second = prepare(world.provider(number=2))

    assert first == second
    one_of_each(world, second)


def test_imports_do_not_share_a_trunk(world: World, provider: Provider) -> None:
    other = ImportTag(import_id="imp_12")
    plan = dataclasses.replace(
        PLAN, termination=SipLogin(username="other2", password="Another-Password-2")
    )

    one, two = prepare(provider), prepare(provider, plan, other)
    assert not set(one.objects.values()) & set(two.objects.values())

    provider.remove_trunk(TAG, one.objects)
    world.case.check_trunk(world.state(), other, plan, two)


def test_ids_are_recorded_before_anything_else_is_written(world: World, provider: Provider) -> None:
    recorded: list[Objects] = []
    written = [0]

    def record(objects: Objects) -> None:
        recorded.append(dict(objects))
        written.append(len(world.journal(write=True)))

    trunk = provider.prepare_trunk(TAG, PLAN, record=record)

    assert recorded[-1] == trunk.objects
    assert all(earlier.items() <= later.items() for earlier, later in pairwise(recorded))
    assert all(later - earlier <= 1 for earlier, later in pairwise(written))


def test_a_worker_that_dies_while_recording_leaves_no_second_trunk(
    world: World, provider: Provider
) -> None:
    full = prepare(provider)
    provider.remove_trunk(TAG, full.objects)

    for deadly in range(1, len(full.objects) + 1):
        seen: list[Objects] = []

        def record(objects: Objects, seen: list[Objects] = seen, deadly: int = deadly) -> None:
            seen.append(objects)
            if len(seen) == deadly:
                raise LeaseLost

        with pytest.raises(LeaseLost):
            provider.prepare_trunk(TAG, PLAN, record=record)
        trunk = prepare(world.provider(number=2))
        one_of_each(world, trunk)
        provider.remove_trunk(TAG, trunk.objects)
        assert not world.made()


def failure(call: Callable[[], object]) -> TransientError | None:
    """Returns what the call raises, if it does."""
    try:
        call()
    except TransientError as error:
        return error
    return None


@DOUBTS
def test_in_doubt_about_any_write_the_next_attempt_leaves_one_of_everything(
    world: World, action: str, rest: dict[str, Any]
) -> None:
    for nth in count(1):
        world.reset()
        world.fault(action, match={"write": True}, nth=nth, **rest)

        error = failure(partial(prepare, world.provider()))
        world.clear_faults()

        trunk = prepare(world.provider(number=2))
        one_of_each(world, trunk)
        if error is None:
            break
        assert error.outcome_unknown
    assert nth > len(trunk.objects), "every object is made by a write of its own"


def test_a_write_that_lands_late_leaves_one_of_everything(world: World) -> None:
    for nth in count(1):
        world.reset()
        world.fault("hold", match={"write": True}, nth=nth, when="before")

        error = failure(partial(prepare, world.provider(read_timeout_seconds=0.1)))
        world.clear_faults()
        prepare(world.provider(number=2))
        world.release()

        trunk = prepare(world.provider(number=3))
        one_of_each(world, trunk)
        world.provider(number=4).remove_trunk(TAG, trunk.objects)
        assert not world.made()
        if error is None:
            break
    assert nth > len(trunk.objects), "every object is made by a write of its own"


@DOUBTS
@pytest.mark.parametrize("known", [True, False], ids=["recorded", "by_name"])
def test_in_doubt_about_any_deletion_the_next_attempt_leaves_nothing(
    world: World, action: str, rest: dict[str, Any], *, known: bool
) -> None:
    for nth in count(1):
        world.reset()
        trunk = prepare(world.provider())
        objects = trunk.objects if known else {}
        world.fault(action, match={"write": True}, nth=nth, **rest)

        error = failure(partial(world.provider(number=2).remove_trunk, TAG, objects))

        if error is None:
            assert not world.made()
            break
        assert error.outcome_unknown
        world.provider(number=3).remove_trunk(TAG, objects)
        assert not world.made()
    assert nth > 1, "nothing was deleted"


@pytest.mark.parametrize("known", [True, False], ids=["recorded", "by_name"])
def test_a_trunk_that_was_refused_half_way_is_removed(world: World, *, known: bool) -> None:
    for nth in count(1):
        world.reset()
        recorded: dict[str, str] = {}
        world.fault("status", match={"write": True}, nth=nth, status=400)
        # What the vendor refuses once it may be asked again in other words, so the rest is refused.
        world.fault("status", match={"write": True}, nth=nth + 1, status=400)
        try:
            world.provider().prepare_trunk(TAG, PLAN, record=recorded.update)
        except SipTrunkProvisionFailed:
            refused = True
        else:
            refused = False
        world.clear_faults()
        world.provider(number=2).remove_trunk(TAG, recorded if known else {})
        assert not world.made()
        if not refused:
            break
    assert nth > 1, "nothing was refused"


def test_removing_what_is_not_there_is_done(world: World, provider: Provider) -> None:
    provider.remove_trunk(TAG, {})

    trunk = prepare(provider)
    provider.remove_trunk(TAG, trunk.objects)
    provider.remove_trunk(TAG, trunk.objects)
    provider.remove_trunk(TAG, {})

    assert not world.made()


def test_a_trunk_can_be_made_again_after_its_removal(world: World, provider: Provider) -> None:
    provider.remove_trunk(TAG, prepare(provider).objects)

    one_of_each(world, prepare(provider))


def test_the_oldest_of_several_is_adopted_and_completed(world: World, provider: Provider) -> None:
    world.add(world.case.duplicates(TAG))

    trunk = prepare(provider)

    assert world.case.oldest_duplicate() in trunk.objects.values()
    one_of_each(world, trunk)


def test_all_of_several_are_removed(world: World, provider: Provider) -> None:
    world.add(world.case.duplicates(TAG))

    provider.remove_trunk(TAG, {})

    assert not world.made()


def test_a_trunk_that_somebody_uses_is_not_removed(world: World, provider: Provider) -> None:
    trunk = prepare(provider)
    world.change(world.case.use_trunk(trunk))

    with pytest.raises(PermanentError, match="nother"):
        provider.remove_trunk(TAG, trunk.objects)
    one_of_each(world, trunk)

    world.change(world.case.free_trunk())
    provider.remove_trunk(TAG, trunk.objects)
    assert not world.made()


def test_a_changed_plan_is_carried_out(world: World, provider: Provider) -> None:
    prepare(provider)
    plan = TrunkPlan(
        origination_host="other.sip.example.com",
        origination_login=None,
        termination=dataclasses.replace(LOGIN, password="Another-Password-2"),
        secure=True,
    )

    trunk = prepare(provider, plan)

    world.case.check_trunk(world.state(), TAG, plan, trunk)


@pytest.mark.parametrize(
    "call",
    [
        prepare,
        lambda provider: provider.remove_trunk(TAG, {}),
    ],
    ids=["prepare", "remove"],
)
def test_could_not_look_up_is_not_absent(
    world: World, provider: Provider, call: Callable[[Provider], object]
) -> None:
    world.fault("status", match={"write": False}, status=500, times=None)

    with pytest.raises(ProviderUnavailable) as caught:
        call(provider)

    assert not caught.value.outcome_unknown
    assert not world.journal(write=True)
