"""The fallback route: a second way in beside the main one, made and removed without touching it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.livekit.conftest import (
    NAMES,
    NUMBER,
    PIN,
    Connect,
    Sandbox,
    fallback,
    inbound,
    make,
    make_attempt,
    rule,
    setup,
)
from worker.domain.errors import LeaseLost, LiveKitUnavailable, TrunkConflict
from worker.livekit import FALLBACK_INBOUND, FALLBACK_RULE, LiveKit, fallback_user

USER = "14155550100-fallback"
WRITES = ["create_sip_inbound_trunk", "create_sip_dispatch_rule"]
DELETES = ["delete_sip_dispatch_rule", "delete_sip_trunk"]


def ensure(lk: LiveKit, known: Mapping[str, str] | None = None) -> dict[str, str]:
    recorded = dict(known or {})
    made = lk.ensure_fallback(fallback(), known or {}, record=recorded.update)
    assert made.items() <= recorded.items()
    return dict(made)


def test_is_the_main_route_for_another_user_and_agent(sandbox: Sandbox, connect: Connect) -> None:
    lk = connect()
    recorded = make(lk, setup())
    trunk = sandbox.inbound[recorded[FALLBACK_INBOUND]]
    main = sandbox.inbound[recorded["livekit_inbound_trunk"]]
    assert trunk["numbers"] == [USER] == [fallback_user(NUMBER)] == [fallback().user]
    assert trunk["name"] == NAMES.fallback_inbound == "trunkline:imp_0189aaaa:fallback-inbound"
    told = {"numbers", "name", "sip_trunk_id"}
    assert {k: v for k, v in trunk.items() if k not in told} == {
        k: v for k, v in main.items() if k not in told
    }
    made, first = sandbox.rules[recorded[FALLBACK_RULE]], sandbox.rules[recorded["dispatch_rule"]]
    assert made["name"] == NAMES.fallback_rule == "trunkline:imp_0189aaaa:fallback-rule"
    assert made["trunk_ids"] == [recorded[FALLBACK_INBOUND]]
    assert made["room_config"]["agents"][0].pop("agent_name") == "night-shift"
    assert first["room_config"]["agents"][0].pop("agent_name") == "receptionist"
    told = {"trunk_ids", "name", "sip_dispatch_rule_id"}
    assert {k: v for k, v in made.items() if k not in told} == {
        k: v for k, v in first.items() if k not in told
    }


def test_ids_are_recorded_before_anything_depends_on_them(
    sandbox: Sandbox, connect: Connect
) -> None:
    seen: list[tuple[list[str], int]] = []
    connect().ensure_fallback(
        fallback(), {}, record=lambda ids: seen.append((list(ids), len(sandbox.rules)))
    )
    assert seen == [([FALLBACK_INBOUND], 0), ([FALLBACK_RULE], 1)]


def test_worker_that_lost_the_job_makes_no_rule(sandbox: Sandbox, connect: Connect) -> None:
    def lose(_: Mapping[str, str]) -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        connect().ensure_fallback(fallback(), {}, record=lose)
    assert sandbox.rules == {}


def test_rule_without_a_trunk_is_never_sent(sandbox: Sandbox, connect: Connect) -> None:
    with pytest.raises(ValueError, match="every trunk"):
        connect().ensure_dispatch_rule(fallback().rule)
    assert sandbox.journal() == []


def test_second_time_changes_nothing(sandbox: Sandbox, connect: Connect) -> None:
    first = ensure(connect())
    assert ensure(connect(make_attempt(number=2))) == first
    assert ensure(connect(), first) == first
    assert sandbox.writes() == [f"livekit.{each}" for each in WRITES]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("lost", [{"action": "lost"}, {"action": "lost_status", "status": 503}])
def test_lost_answer_of_a_create_is_unknown_and_adopted(
    sandbox: Sandbox, connect: Connect, write: str, lost: dict[str, object]
) -> None:
    sandbox.fault(write, **lost)  # type: ignore[arg-type]
    with pytest.raises(LiveKitUnavailable) as caught:
        ensure(connect())
    assert caught.value.outcome_unknown
    made = ensure(connect(make_attempt(number=2)))
    assert list(sandbox.inbound) == [made[FALLBACK_INBOUND]]
    assert list(sandbox.rules) == [made[FALLBACK_RULE]]
    assert sandbox.writes() == [f"livekit.{each}" for each in WRITES]


@pytest.mark.parametrize("write", DELETES)
def test_lost_answer_of_a_delete_is_unknown_and_found_done(
    sandbox: Sandbox, connect: Connect, write: str
) -> None:
    made = ensure(connect())
    sandbox.fault(write, "lost")
    with pytest.raises(LiveKitUnavailable) as caught:
        connect().remove_fallback(NUMBER, made)
    assert caught.value.outcome_unknown
    connect(make_attempt(number=2)).remove_fallback(NUMBER, made)
    assert (sandbox.inbound, sandbox.rules) == ({}, {})


@pytest.mark.parametrize("known", [(), (FALLBACK_INBOUND,), (FALLBACK_INBOUND, FALLBACK_RULE)])
def test_removal_takes_the_rule_first_and_leaves_the_main_route(
    sandbox: Sandbox, connect: Connect, known: tuple[str, ...]
) -> None:
    lk = connect()
    recorded = make(lk, setup(fallback=None))
    main = (sandbox.inbound, sandbox.rules)
    made = ensure(lk)
    before = len(sandbox.writes())
    ids = {**recorded, **{key: made[key] for key in known}}
    lk.remove_fallback(NUMBER, ids)
    assert (sandbox.inbound, sandbox.rules) == main
    assert sandbox.writes()[before:] == [f"livekit.{each}" for each in DELETES]
    lk.remove_fallback(NUMBER, ids)
    assert (sandbox.inbound, sandbox.rules) == main


def test_removing_what_never_was_costs_one_read(sandbox: Sandbox, connect: Connect) -> None:
    connect().remove_fallback(NUMBER, {})
    assert [entry["operation"] for entry in sandbox.journal()] == ["livekit.list_sip_inbound_trunk"]


def test_main_route_is_removed_without_the_fallback(sandbox: Sandbox, connect: Connect) -> None:
    lk = connect()
    recorded = make(lk, setup(outbound=None))
    lk.remove_dispatch_rule(NAMES.rule, NUMBER, recorded["dispatch_rule"])
    lk.remove_inbound_trunk(NAMES.inbound, NUMBER, recorded["livekit_inbound_trunk"])
    assert list(sandbox.inbound) == [recorded[FALLBACK_INBOUND]]
    assert list(sandbox.rules) == [recorded[FALLBACK_RULE]]


def test_duplicate_trunk_goes_with_its_own_rule(sandbox: Sandbox, connect: Connect) -> None:
    individual = {"dispatch_rule_individual": {"room_prefix": "x"}}
    sandbox.seed(
        inbound_trunks=[
            {"sip_trunk_id": each, "name": NAMES.fallback_inbound, "numbers": [USER]}
            for each in ("ST_1", "ST_2")
        ],
        dispatch_rules=[
            {"name": NAMES.fallback_rule, "trunk_ids": ["ST_2"], "rule": individual},
            {"sip_dispatch_rule_id": "SDR_x", "trunk_ids": ["ST_2"], "rule": individual},
        ],
    )
    made = ensure(connect())
    assert list(sandbox.inbound) == [made[FALLBACK_INBOUND]] == ["ST_1"]
    assert sandbox.rules.keys() == {"SDR_x", made[FALLBACK_RULE]}


def test_foreign_trunk_of_the_user_is_a_conflict_and_stays(
    sandbox: Sandbox, connect: Connect
) -> None:
    sandbox.seed(inbound_trunks=[{"sip_trunk_id": "ST_f", "name": "x", "numbers": [USER]}])
    with pytest.raises(TrunkConflict):
        ensure(connect())
    connect().remove_fallback(NUMBER, {})
    assert list(sandbox.inbound) == ["ST_f"]


def test_two_threads_make_one_of_each(sandbox: Sandbox, connect: Connect) -> None:
    start = threading.Barrier(4)

    def work() -> tuple[str, str]:
        lk = connect(make_attempt(number=2))
        start.wait()
        made = ensure(lk)
        return made[FALLBACK_INBOUND], made[FALLBACK_RULE]

    with ThreadPoolExecutor() as pool:
        ids = {each.result() for each in [pool.submit(work) for _ in range(4)]}
    assert len(ids) == 1
    assert (len(sandbox.inbound), len(sandbox.rules)) == (1, 1)


def test_rule_of_a_trunk_that_was_deleted_moves_to_the_new_one(
    sandbox: Sandbox, connect: Connect
) -> None:
    """Although it is a first attempt, as that of a repair is."""
    lk = connect()
    first = lk.ensure_dispatch_rule(rule("ST_gone", pin=PIN))
    trunk_id = lk.ensure_inbound_trunk(inbound(), "ST_gone")
    assert lk.ensure_dispatch_rule(rule(trunk_id, pin=PIN), first) == first
    assert [each["trunk_ids"] for each in sandbox.rules.values()] == [[trunk_id]]


def test_rule_that_serves_the_trunk_outlives_an_older_one_that_does_not(
    sandbox: Sandbox, connect: Connect
) -> None:
    individual = {"dispatch_rule_individual": {"room_prefix": "x"}}
    about = {"name": NAMES.rule, "rule": individual}
    sandbox.seed(
        dispatch_rules=[
            {"sip_dispatch_rule_id": "SDR_1", "trunk_ids": ["ST_gone"], **about},
            {"sip_dispatch_rule_id": "SDR_2", "trunk_ids": ["ST_new"], **about},
        ]
    )
    assert connect().ensure_dispatch_rule(rule("ST_new"), "SDR_1") == "SDR_2"
    assert list(sandbox.rules) == ["SDR_2"]
