"""Whether we see what LiveKit would do with a call: against a plain retelling of its own code."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit import api

from worker.livekit.fields import normalized, pin_of, rule_shadows
from worker.livekit.requests import id_of

CALLED, CALLER, STRANGER = "+14155550100", "+12025550123", "+12025550199"
PINS = ("", "1111", "2222")
Rule = api.SIPDispatchRuleInfo


def make(
    rule_id: str,
    *,
    kind: str = "individual",
    pin: str = "",
    trunk_ids: Sequence[str] = ("ST_1",),
    inbound_numbers: Sequence[str] = (),
    numbers: Sequence[str] = (),
) -> Rule:
    rule = Rule(
        sip_dispatch_rule_id=rule_id,
        trunk_ids=trunk_ids,
        inbound_numbers=inbound_numbers,
        numbers=numbers,
    )
    getattr(rule.rule, f"dispatch_rule_{kind}").pin = pin
    return rule


class RefusedError(Exception):
    """Two rules hold the same PIN, trunk and numbers."""


def select(rules: Sequence[Rule], caller: str, *, typed: str = "") -> Rule | None:
    """MatchDispatchRuleIter of livekit/protocol sip/sip.go, for a call to trunk ST_1."""
    held: set[tuple[str, ...]] = set()
    specific: list[Rule] = []
    default: list[Rule] = []
    for rule in rules:
        if rule.trunk_ids and "ST_1" not in rule.trunk_ids:
            continue  # the store lists those of the trunk, and those of none
        trunks, calling = rule.trunk_ids or [""], rule.inbound_numbers or [""]
        keys = set(product([pin_of(rule)], trunks, calling, rule.numbers or [""]))
        if keys & held:
            raise RefusedError
        held |= keys
        if rule.inbound_numbers and caller not in rule.inbound_numbers:
            continue
        if rule.numbers and CALLED not in rule.numbers:
            continue
        if typed and pin_of(rule) != typed:
            continue
        (specific if rule.trunk_ids else default).append(rule)

    def priority(rule: Rule) -> int:
        kind = str(rule.rule.WhichOneof("rule"))
        order = {"direct": 0, "individual": 1, "callee": 2}[kind.removeprefix("dispatch_rule_")]
        order += 0 if pin_of(rule) else 100
        order += 0 if rule.inbound_numbers else 1000
        return order + (0 if rule.numbers else 1000)

    chosen = sorted(specific, key=priority) or sorted(default, key=priority)
    return chosen[0] if chosen else None


def reaches(rules: Sequence[Rule], ours: Rule, caller: str) -> bool:
    """Whether somebody who types our PIN when asked for one gets to our rule."""
    try:
        first = select(rules, caller)
        if first is None or bool(pin_of(first)) != bool(pin_of(ours)):
            return False
        last = select(rules, caller, typed=pin_of(ours)) if pin_of(first) else first
    except RefusedError:
        return False
    return last == ours


some = st.sampled_from
foreign = st.builds(
    make,
    some([f"SDR_{n}" for n in range(9)]),
    kind=some(["direct", "individual", "callee"]),
    pin=some(PINS),
    trunk_ids=some([[], ["ST_1"], ["ST_2"], ["ST_1", "ST_2"]]),
    inbound_numbers=some([[], [CALLER]]),
    numbers=some([[], [CALLED], [STRANGER]]),
)


def reached(others: Sequence[Rule], ours: Rule) -> bool:
    return all(reaches([ours, *others], ours, caller) for caller in (CALLER, STRANGER))


@given(other=foreign, pin=some(PINS))
def test_one_rule_shadows_ours_exactly_when_a_call_does_not_reach_it(other: Rule, pin: str) -> None:
    ours = make("", pin=pin)
    assert (rule_shadows([other], ours, CALLED) == ()) is reached([other], ours)


@given(others=st.lists(foreign, max_size=4, unique_by=id_of), pin=some(PINS))
def test_a_call_that_does_not_reach_our_rule_has_somebody_to_blame(
    others: list[Rule], pin: str
) -> None:
    """Not the other way round: of two that would win over ours, one may win over the other."""
    ours = make("", pin=pin)
    assert rule_shadows(others, ours, CALLED) or reached(others, ours)


@pytest.mark.parametrize(
    ("number", "compared"),
    [
        ("+14155550100", CALLED),
        ("14155550100", CALLED),
        ("1 (415) 555-0100", CALLED),
        ("14155550100-fallback", "14155550100-fallback"),
        ("+14155550100;x", "+14155550100;x"),
        ("", ""),
    ],
)
def test_numbers_are_compared_as_livekit_does(number: str, compared: str) -> None:
    assert normalized(number) == compared
