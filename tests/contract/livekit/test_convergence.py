"""However often, however interrupted: one of each in the end, and nothing of anybody else's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.livekit.conftest import (
    NAMES,
    NUMBER,
    Connect,
    Sandbox,
    inbound,
    make_attempt,
    outbound,
    rule,
)
from worker.domain.errors import LiveKitUnavailable, TrunkConflict
from worker.domain.values import MediaEncryption, SipLogin
from worker.livekit import LiveKit

#: Makes one kind of object, given a trunk id for the rule.
ENSURE: dict[str, Callable[[LiveKit, str], str]] = {
    "inbound_trunk": lambda lk, _: lk.ensure_inbound_trunk(inbound()),
    "outbound_trunk": lambda lk, _: lk.ensure_outbound_trunk(outbound()),
    "dispatch_rule": lambda lk, trunk_id: lk.ensure_dispatch_rule(rule(trunk_id)),
}
CHANGE: dict[str, Callable[[LiveKit, str], str]] = {
    "inbound_trunk": lambda lk, _: lk.ensure_inbound_trunk(
        inbound(login=None, allowed_addresses=("203.0.113.0/24",))
    ),
    "outbound_trunk": lambda lk, _: lk.ensure_outbound_trunk(outbound(address="sip.new.example")),
    "dispatch_rule": lambda lk, trunk_id: lk.ensure_dispatch_rule(rule(trunk_id, pin="4711")),
}
REMOVE: dict[str, Callable[[LiveKit, str | None], None]] = {
    "inbound_trunk": lambda lk, known: lk.remove_inbound_trunk(NAMES.inbound, NUMBER, known),
    "outbound_trunk": lambda lk, known: lk.remove_outbound_trunk(NAMES.outbound, NUMBER, known),
    "dispatch_rule": lambda lk, known: lk.remove_dispatch_rule(NAMES.rule, NUMBER, known),
}
DELETE = {
    "inbound_trunk": "delete_sip_trunk",
    "outbound_trunk": "delete_sip_trunk",
    "dispatch_rule": "delete_sip_dispatch_rule",
}
KINDS = list(ENSURE)
ANY_RULE = {"dispatch_rule_individual": {"room_prefix": "x"}}


def objects(sandbox: Sandbox, kind: str) -> dict[str, dict[str, object]]:
    return {
        "inbound_trunk": sandbox.inbound,
        "outbound_trunk": sandbox.outbound,
        "dispatch_rule": sandbox.rules,
    }[kind]


def test_makes_what_a_call_needs(sandbox: Sandbox, connect: Connect) -> None:
    lk = connect()
    lk.verify()
    inbound_id, outbound_id = lk.ensure_trunks(inbound(), outbound())
    assert inbound_id
    assert outbound_id
    rule_id = lk.ensure_dispatch_rule(rule(inbound_id))

    trunk = sandbox.inbound[inbound_id]
    assert trunk["numbers"] == [NUMBER]
    assert trunk["media"] == {"encryption": "SIP_MEDIA_ENCRYPT_ALLOW"}
    assert trunk["auth_username"] == "trunkline"
    assert sandbox.outbound[outbound_id]["address"] == "sip.carrier.example:5061"
    made = sandbox.rules[rule_id]
    assert made["trunk_ids"] == [inbound_id]
    assert made["rule"] == {"dispatch_rule_individual": {"room_prefix": "call-"}}
    assert made["room_config"]["agents"][0]["agent_name"] == "receptionist"


@pytest.mark.parametrize("kind", KINDS)
def test_second_time_changes_nothing(sandbox: Sandbox, connect: Connect, kind: str) -> None:
    first = ENSURE[kind](connect(), "ST_x")
    again = ENSURE[kind](connect(make_attempt(number=2)), "ST_x")
    assert again == first
    assert sandbox.writes() == [f"livekit.create_sip_{kind}"]


def test_either_half_may_be_left_out(sandbox: Sandbox, connect: Connect) -> None:
    inbound_id, nothing = connect().ensure_trunks(inbound(), None)
    assert (list(sandbox.inbound), nothing) == ([inbound_id], None)
    nothing, outbound_id = connect().ensure_trunks(None, outbound())
    assert (nothing, list(sandbox.outbound)) == (None, [outbound_id])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lost", [{"action": "lost"}, {"action": "lost_status", "status": 503}])
def test_lost_answer_of_a_create_is_unknown_and_adopted(
    sandbox: Sandbox, connect: Connect, kind: str, lost: dict[str, object]
) -> None:
    sandbox.fault(f"create_sip_{kind}", **lost)  # type: ignore[arg-type]
    with pytest.raises(LiveKitUnavailable) as caught:
        ENSURE[kind](connect(), "ST_x")
    assert caught.value.outcome_unknown
    assert len(sandbox.journal("create_*")) == 1
    adopted = ENSURE[kind](connect(make_attempt(number=2)), "ST_x")
    assert list(objects(sandbox, kind)) == [adopted]
    assert len(sandbox.journal("create_*")) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_lost_answer_of_an_update_is_unknown_and_found_done(
    sandbox: Sandbox, connect: Connect, kind: str
) -> None:
    made = ENSURE[kind](connect(), "ST_x")
    sandbox.fault(f"update_sip_{kind}", "lost")
    with pytest.raises(LiveKitUnavailable) as caught:
        CHANGE[kind](connect(), "ST_x")
    assert caught.value.outcome_unknown
    assert CHANGE[kind](connect(make_attempt(number=2)), "ST_x") == made
    assert len(sandbox.journal("update_*")) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_lost_answer_of_a_delete_is_unknown_and_found_done(
    sandbox: Sandbox, connect: Connect, kind: str
) -> None:
    made = ENSURE[kind](connect(), "ST_x")
    sandbox.fault(DELETE[kind], "lost")
    with pytest.raises(LiveKitUnavailable) as caught:
        REMOVE[kind](connect(), made)
    assert caught.value.outcome_unknown
    REMOVE[kind](connect(make_attempt(number=2)), made)
    assert objects(sandbox, kind) == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["id", "name"])
def test_removing_twice_is_removing_once(
    sandbox: Sandbox, connect: Connect, kind: str, by: str
) -> None:
    made = ENSURE[kind](connect(), "ST_x")
    known = made if by == "id" else None
    REMOVE[kind](connect(), known)
    assert objects(sandbox, kind) == {}
    REMOVE[kind](connect(), known)


def test_changed_login_and_addresses_are_brought_to_the_trunk(
    sandbox: Sandbox, connect: Connect
) -> None:
    made = connect().ensure_inbound_trunk(inbound())
    before = sandbox.inbound[made]["auth_fingerprint"]
    new = SipLogin(username="trunkline", password="another planted password")
    assert connect().ensure_inbound_trunk(inbound(login=new)) == made
    assert sandbox.inbound[made]["auth_fingerprint"] != before
    only = inbound(
        login=None,
        allowed_addresses=("203.0.113.0/24", "198.51.100.7"),
        encryption=MediaEncryption.REQUIRE,
    )
    assert connect().ensure_inbound_trunk(only) == made
    trunk = sandbox.inbound[made]
    assert trunk["allowed_addresses"] == ["203.0.113.0/24", "198.51.100.7"]
    assert trunk["media"] == {"encryption": "SIP_MEDIA_ENCRYPT_REQUIRE"}
    assert not trunk.keys() & {"auth_username", "auth_fingerprint"}
    assert connect().ensure_inbound_trunk(only) == made
    assert len(sandbox.journal("update_*")) == 2


def test_callers_that_somebody_put_on_our_trunk_are_taken_off(
    sandbox: Sandbox, connect: Connect
) -> None:
    sandbox.seed(
        inbound_trunks=[
            {"name": NAMES.inbound, "numbers": [NUMBER], "allowed_numbers": ["+12025550123"]}
        ]
    )
    made = connect().ensure_inbound_trunk(inbound())
    assert "allowed_numbers" not in sandbox.inbound[made]


def test_rule_is_corrected_in_place(sandbox: Sandbox, connect: Connect) -> None:
    made = connect().ensure_dispatch_rule(rule("ST_1"))
    changed = rule("ST_1", pin="4711", agent_name=None, attributes={})
    assert connect().ensure_dispatch_rule(changed) == made
    assert sandbox.rules[made]["rule"]["dispatch_rule_individual"].keys() == {"room_prefix", "pin"}
    assert not sandbox.rules[made].get("room_config")
    assert sandbox.rules[made]["attributes"] == {"trunkline.import_id": "imp_0189aaaa"}


def test_rule_of_a_trunk_that_is_gone_is_pointed_to_the_new_one(
    sandbox: Sandbox, connect: Connect
) -> None:
    made = connect().ensure_dispatch_rule(rule("ST_gone"))
    assert connect(make_attempt(number=2)).ensure_dispatch_rule(rule("ST_new")) == made
    assert [each["trunk_ids"] for each in sandbox.rules.values()] == [["ST_new"]]


def test_oldest_of_several_is_kept_and_the_rest_removed(sandbox: Sandbox, connect: Connect) -> None:
    times = {"ST_c": "2026-01-03", "ST_a": "2026-01-02", "ST_b": "2026-01-01"}
    dated = [
        {"sip_trunk_id": each, "numbers": [NUMBER], "created_at": f"{day}T00:00:00Z"}
        for each, day in times.items()
    ]
    sandbox.seed(
        inbound_trunks=[{"name": NAMES.inbound, **each} for each in dated],
        outbound_trunks=[
            {"name": NAMES.outbound, "address": "old.example", **each, "sip_trunk_id": f"{n}"}
            for n, each in enumerate(dated)
        ],
        dispatch_rules=[
            {"name": NAMES.rule, "trunk_ids": ["ST_c"], "rule": ANY_RULE},
            {"name": "somebody's", "trunk_ids": ["ST_c"], "rule": ANY_RULE},
        ],
    )
    assert connect().ensure_trunks(inbound(), outbound()) == ("ST_b", "2")
    assert list(sandbox.inbound) == ["ST_b"]
    assert list(sandbox.outbound) == ["2"]
    assert sandbox.inbound["ST_b"]["auth_username"] == "trunkline"
    assert sandbox.outbound["2"]["address"] == "sip.carrier.example:5061"
    assert [each["name"] for each in sandbox.rules.values()] == ["somebody's"]


def test_without_times_the_lowest_id_is_kept(sandbox: Sandbox, connect: Connect) -> None:
    sandbox.seed(
        inbound_trunks=[
            {"sip_trunk_id": each, "name": NAMES.inbound, "numbers": [NUMBER]}
            for each in ("ST_2", "ST_1", "ST_3")
        ]
    )
    assert connect().ensure_inbound_trunk(inbound()) == "ST_1"
    assert list(sandbox.inbound) == ["ST_1"]


def test_foreign_trunk_of_the_number_is_a_conflict_and_stays(
    sandbox: Sandbox, connect: Connect
) -> None:
    foreign = {"sip_trunk_id": "ST_f", "name": "somebody's", "numbers": ["1 (415) 555-0100"]}
    sandbox.seed(inbound_trunks=[foreign])
    with pytest.raises(TrunkConflict):
        connect().ensure_inbound_trunk(inbound())
    connect().remove_inbound_trunk(NAMES.inbound, NUMBER, None)
    assert list(sandbox.inbound) == ["ST_f"]
    assert "livekit.delete_sip_trunk" not in sandbox.writes()


def test_foreign_trunk_for_chosen_callers_is_no_conflict(
    sandbox: Sandbox, connect: Connect
) -> None:
    foreign = {"name": "vip", "numbers": [NUMBER], "allowed_numbers": ["+12025550123"]}
    sandbox.seed(inbound_trunks=[foreign])
    assert connect().ensure_inbound_trunk(inbound()) in sandbox.inbound


def test_foreign_rule_of_the_trunk_is_a_conflict_and_stays(
    sandbox: Sandbox, connect: Connect
) -> None:
    foreign = {
        "sip_dispatch_rule_id": "SDR_f",
        "name": "x",
        "trunk_ids": ["ST_1"],
        "rule": ANY_RULE,
    }
    sandbox.seed(dispatch_rules=[foreign])
    with pytest.raises(TrunkConflict):
        connect().ensure_dispatch_rule(rule("ST_1"))
    connect().remove_dispatch_rule(NAMES.rule, NUMBER, None)
    assert list(sandbox.rules) == ["SDR_f"]


@pytest.mark.parametrize("name", ["catch-all", NAMES.inbound])
def test_catch_alls_are_neither_adopted_nor_deleted(
    sandbox: Sandbox, connect: Connect, name: str
) -> None:
    sandbox.seed(
        inbound_trunks=[
            {"sip_trunk_id": "ST_any", "name": name, "allowed_addresses": ["203.0.113.1"]}
        ],
        dispatch_rules=[{"sip_dispatch_rule_id": "SDR_any", "name": "catch-all", "rule": ANY_RULE}],
    )
    lk = connect()
    trunk_id = lk.ensure_inbound_trunk(inbound())
    rule_id = lk.ensure_dispatch_rule(rule(trunk_id))
    assert (trunk_id, rule_id) != ("ST_any", "SDR_any")
    lk.remove_dispatch_rule(NAMES.rule, NUMBER, rule_id)
    lk.remove_inbound_trunk(NAMES.inbound, NUMBER, trunk_id)
    assert (list(sandbox.inbound), list(sandbox.rules)) == (["ST_any"], ["SDR_any"])


def test_zombie_and_successor_end_with_one_trunk(sandbox: Sandbox, connect: Connect) -> None:
    sandbox.fault("create_sip_inbound_trunk", "hold", when="before")
    with ThreadPoolExecutor() as pool:
        zombie = pool.submit(connect().ensure_inbound_trunk, inbound())
        sandbox.held()
        successor = connect(make_attempt(number=2)).ensure_inbound_trunk(inbound())
        sandbox.release()
        assert zombie.result() == successor
    assert list(sandbox.inbound) == [successor]


def test_foreign_trunk_that_slips_in_during_the_create_wins(
    sandbox: Sandbox, connect: Connect
) -> None:
    sandbox.fault("create_sip_inbound_trunk", "hold", when="after")
    with ThreadPoolExecutor() as pool:
        ours = pool.submit(connect().ensure_inbound_trunk, inbound())
        sandbox.held()
        sandbox.seed(
            inbound_trunks=[{"sip_trunk_id": "ST_f", "name": "x", "numbers": [NUMBER]}],
        )
        sandbox.release()
        with pytest.raises(TrunkConflict):
            ours.result()
    assert list(sandbox.inbound) == ["ST_f"]


def test_conflict_beside_our_trunk_leaves_it_to_the_undo(
    sandbox: Sandbox, connect: Connect
) -> None:
    """Something may depend on a trunk that was there before; undo deletes it in order."""
    sandbox.seed(
        inbound_trunks=[
            {"sip_trunk_id": "ST_f", "name": "x", "numbers": [NUMBER]},
            {"sip_trunk_id": "ST_o", "name": NAMES.inbound, "numbers": [NUMBER]},
        ]
    )
    with pytest.raises(TrunkConflict):
        connect().ensure_inbound_trunk(inbound())
    assert sandbox.writes() == []
    connect().remove_inbound_trunk(NAMES.inbound, NUMBER, None)
    assert list(sandbox.inbound) == ["ST_f"]


def test_trunk_takes_our_rule_along_and_no_other(sandbox: Sandbox, connect: Connect) -> None:
    trunk_id = connect().ensure_inbound_trunk(inbound())
    connect().ensure_dispatch_rule(rule(trunk_id))
    sandbox.seed(
        dispatch_rules=[
            {
                "sip_dispatch_rule_id": "SDR_x",
                "name": "x",
                "trunk_ids": [trunk_id],
                "rule": ANY_RULE,
            }
        ]
    )
    connect().remove_inbound_trunk(NAMES.inbound, NUMBER, trunk_id)
    assert (sandbox.inbound, list(sandbox.rules)) == ({}, ["SDR_x"])
    assert sandbox.writes()[-2:] == ["livekit.delete_sip_dispatch_rule", "livekit.delete_sip_trunk"]


def test_rule_without_a_known_id_is_found_among_many(sandbox: Sandbox, connect: Connect) -> None:
    sandbox.seed(
        dispatch_rules=[
            {"sip_dispatch_rule_id": f"SDR_{n:05}", "trunk_ids": [f"ST_{n}"], "rule": ANY_RULE}
            for n in range(1200)
        ]
    )
    sandbox.seed(
        dispatch_rules=[
            {
                "sip_dispatch_rule_id": "SDR_z",
                "name": NAMES.rule,
                "trunk_ids": ["x"],
                "rule": ANY_RULE,
            }
        ]
    )
    connect().remove_dispatch_rule(NAMES.rule, NUMBER, None)
    assert len(sandbox.rules) == 1200


def test_two_threads_make_one_of_each(sandbox: Sandbox, connect: Connect) -> None:
    start = threading.Barrier(4)

    def ensure() -> tuple[str | None, str | None]:
        lk = connect(make_attempt(number=2))
        start.wait()
        return lk.ensure_trunks(inbound(), None)

    with ThreadPoolExecutor() as pool:
        made = {each.result() for each in [pool.submit(ensure) for _ in range(4)]}
    assert len(made) == 1
    assert len(sandbox.inbound) == 1
