"""What LiveKit holds beside what we set: every change by hand is found, and no secret is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from livekit import api
from livekit.api.sip_service import SipService

from tests.contract.livekit.conftest import (
    NUMBER,
    PASSWORD,
    PIN,
    Connect,
    Sandbox,
    inbound,
    make,
    make_attempt,
    outbound,
    rule,
    setup,
)
from worker.domain.errors import LiveKitMisconfigured, LiveKitUnavailable, TrunkConflict
from worker.domain.values import E164, MediaEncryption
from worker.livekit import (
    FALLBACK_INBOUND,
    FALLBACK_RULE,
    INBOUND,
    OUTBOUND,
    RULE,
    SipSetup,
    fallback_user,
    planned_objects,
)

KEYS = [INBOUND, OUTBOUND, RULE, FALLBACK_INBOUND, FALLBACK_RULE]
#: A list, an update and a delete of each kind of object.
CALLS: dict[str, Any] = {
    INBOUND: ("inbound_trunk", api.ListSIPInboundTrunkRequest, "trunk_ids"),
    OUTBOUND: ("outbound_trunk", api.ListSIPOutboundTrunkRequest, "trunk_ids"),
    RULE: ("dispatch_rule", api.ListSIPDispatchRuleRequest, "dispatch_rule_ids"),
}
CALLS |= {FALLBACK_INBOUND: CALLS[INBOUND], FALLBACK_RULE: CALLS[RULE]}
Change = Callable[[Any], object]


def change(sandbox: Sandbox, key: str, object_id: str, how: Change) -> None:
    kind, request, ids = CALLS[key]

    async def act(sip: SipService) -> None:
        [info] = (await getattr(sip, f"list_{kind}")(request(**{ids: [object_id]}))).items
        how(info)
        await getattr(sip, f"update_{kind}")(object_id, info)

    sandbox.by_hand(act)


def delete(sandbox: Sandbox, key: str, object_id: str) -> None:
    if CALLS[key] is CALLS[RULE]:
        gone = api.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=object_id)
        sandbox.by_hand(lambda sip: sip.delete_dispatch_rule(gone))
    else:
        request = api.DeleteSIPTrunkRequest(sip_trunk_id=object_id)
        sandbox.by_hand(lambda sip: sip.delete_trunk(request))


def assign(field: str, value: object) -> Change:
    """Sets a field, given with dots between its parts; a list is replaced."""
    *path, last = field.split(".")

    def apply(info: Any) -> None:
        for part in path:
            info = getattr(info, part)
        if isinstance(value, list):
            del getattr(info, last)[:]
            getattr(info, last).extend(value)
        else:
            setattr(info, last, value)

    return apply


INDIVIDUAL = "rule.dispatch_rule_individual"
TRUNK_CHANGES: list[tuple[Change, dict[str, str]]] = [
    (assign("name", "mine now"), {"name": "another"}),
    (assign("name", ""), {"name": "none"}),
    (assign("metadata", "{}"), {"metadata": "another"}),
    (assign("auth_username", "intruder"), {"auth_username": "intruder"}),
    (assign("auth_password", "planted-other"), {"auth_password": "another"}),
    (assign("auth_password", ""), {"auth_password": "none"}),
    (assign("media.encryption", "SIP_MEDIA_ENCRYPT_DISABLE"), {"media_encryption": "disable"}),
]
INBOUND_CHANGES = [
    *TRUNK_CHANGES,
    (assign("numbers", ["+12025550123"]), {"numbers": "+12025550123"}),
    (assign("allowed_addresses", ["203.0.113.1"]), {"allowed_addresses": "203.0.113.1"}),
    (assign("allowed_numbers", ["+12025550123"]), {"allowed_numbers": "+12025550123"}),
]
RULE_CHANGES: list[tuple[Change, dict[str, str]]] = [
    (assign("name", "mine now"), {"name": "another"}),
    (assign("metadata", ""), {"metadata": "none"}),
    (assign("trunk_ids", ["ST_other"]), {"trunk_ids": "another"}),
    (assign("trunk_ids", []), {"trunk_ids": "none"}),
    (assign("inbound_numbers", ["+12025550123"]), {"inbound_numbers": "+12025550123"}),
    (assign("numbers", ["+12025550123"]), {"numbers": "+12025550123"}),
    (assign(f"{INDIVIDUAL}.pin", "1234"), {"pin": "another"}),
    (assign(f"{INDIVIDUAL}.pin", ""), {"pin": "none"}),
    (assign(f"{INDIVIDUAL}.room_prefix", "theirs"), {"room_prefix": "theirs"}),
    (assign(f"{INDIVIDUAL}.no_randomness", value=True), {"no_randomness": "true"}),
    (
        lambda info: info.rule.dispatch_rule_direct.CopyFrom(
            api.SIPDispatchRuleDirect(room_name="one", pin=PIN)
        ),
        {"rule": "direct", "room_prefix": ""},
    ),
    (
        lambda info: info.room_config.agents.add(agent_name="spy"),
        {"room_config": "another"},
    ),
    (lambda info: info.ClearField("room_config"), {"agent_name": "", "room_config": "none"}),
    (lambda info: info.attributes.update({"trunkline.agent_id": "x"}), {"attributes": "another"}),
    (lambda info: info.attributes.clear(), {"attributes": "none"}),
    (
        assign("media_encryption", "SIP_MEDIA_ENCRYPT_REQUIRE"),
        {"media_encryption": "require"},
    ),
]
CHANGES: list[tuple[str, Change, dict[str, str]]] = [
    *((key, how, found) for key in (INBOUND, FALLBACK_INBOUND) for how, found in INBOUND_CHANGES),
    *((OUTBOUND, how, found) for how, found in TRUNK_CHANGES),
    (OUTBOUND, assign("numbers", ["+12025550123"]), {"numbers": "+12025550123"}),
    (OUTBOUND, assign("address", "sip.new.example"), {"address": "sip.new.example"}),
    (OUTBOUND, assign("transport", "SIP_TRANSPORT_UDP"), {"transport": "udp"}),
    *((key, how, found) for key in (RULE, FALLBACK_RULE) for how, found in RULE_CHANGES),
]


@pytest.mark.parametrize(
    "wanted",
    [
        setup(),
        setup(fallback=None),
        setup(inbound=None, rule=None, fallback=None),
        setup(
            inbound=inbound(
                login=None,
                allowed_addresses=("203.0.113.0/24", "198.51.100.7"),
                encryption=MediaEncryption.DISABLE,
            ),
            outbound=outbound(login=None),
            rule=rule("", pin="", agent_name=None, attributes={}),
            fallback=None,
        ),
    ],
    ids=["everything", "no fallback", "outbound only", "addresses, no PIN, no agent"],
)
def test_planned_is_what_is_read_right_after_the_import(
    connect: Connect, sandbox: Sandbox, wanted: SipSetup
) -> None:
    lk = connect()
    recorded = make(lk, wanted)
    before = len(sandbox.journal())
    assert lk.read_objects(wanted, recorded) == planned_objects(wanted)
    assert list(planned_objects(wanted)) == [key for key in KEYS if key in recorded]
    operations = [entry["operation"] for entry in sandbox.journal()[before:]]
    assert len(operations) == len(set(operations)), "one listing a kind"


@pytest.mark.parametrize(("key", "how", "differs"), CHANGES)
def test_every_field_changed_by_hand_is_found(
    connect: Connect, sandbox: Sandbox, key: str, how: Change, differs: dict[str, str]
) -> None:
    lk, wanted = connect(), setup()
    recorded = make(lk, wanted)
    change(sandbox, key, recorded[key], how)
    found, planned = lk.read_objects(wanted, recorded), planned_objects(wanted)
    assert found.keys() == planned.keys()
    for other in found:
        there = found[other]
        assert there is not None
        changed = {name: text for name, text in there.items() if planned[other][name] != text}
        agents = {"agent_name": "night-shift,spy" if key == FALLBACK_RULE else "receptionist,spy"}
        if other == key and there.get("agent_name", "").endswith("spy"):
            differs = {**differs, **agents}
        assert changed == (differs if other == key else {})


@pytest.mark.parametrize("key", KEYS)
def test_what_is_gone_is_none_and_the_rest_is_told(
    connect: Connect, sandbox: Sandbox, key: str
) -> None:
    lk, wanted = connect(), setup()
    recorded = make(lk, wanted)
    delete(sandbox, key, recorded[key])
    assert lk.read_objects(wanted, recorded) == {**planned_objects(wanted), key: None}


def test_only_what_is_wanted_and_recorded_is_read(connect: Connect, sandbox: Sandbox) -> None:
    lk, wanted = connect(), setup()
    recorded = make(lk, wanted)
    assert lk.read_objects(wanted, {}) == {}
    assert lk.read_objects(setup(fallback=None), recorded).keys() == {INBOUND, OUTBOUND, RULE}
    before = len(sandbox.journal())
    assert lk.read_objects(wanted, {RULE: recorded[RULE]}).keys() == {RULE}
    assert len(sandbox.journal()) == before + 1


def test_reading_writes_nothing_and_no_answer_is_not_nothing(
    connect: Connect, sandbox: Sandbox
) -> None:
    lk, wanted = connect(), setup()
    recorded = make(lk, wanted)
    written = sandbox.writes()
    lk.read_objects(wanted, recorded)
    lk.rivals(NUMBER)
    assert sandbox.writes() == written
    sandbox.fault("list_sip_dispatch_rule", "status", status=503, times=None)
    with pytest.raises(LiveKitUnavailable):
        lk.read_objects(wanted, recorded)
    sandbox.fault("list_sip_inbound_trunk", "status", status=401, times=None)
    with pytest.raises(LiveKitMisconfigured):
        lk.rivals(NUMBER)


def test_no_password_and_no_pin_is_told(connect: Connect, sandbox: Sandbox) -> None:
    lk, wanted = connect(), setup()
    recorded = make(lk, wanted)
    told = [repr(planned_objects(wanted)), repr(lk.read_objects(wanted, recorded)), repr(wanted)]
    for key in (INBOUND, OUTBOUND):
        change(sandbox, key, recorded[key], assign("auth_password", "planted-other"))
    change(sandbox, RULE, recorded[RULE], assign(f"{INDIVIDUAL}.pin", "998877"))
    told.append(repr(lk.read_objects(wanted, recorded)))
    for secret in (PASSWORD, PIN, "planted-other", "998877"):
        assert secret not in "".join(told)


@pytest.mark.parametrize("key", KEYS)
def test_what_was_changed_is_put_right_under_the_same_id(
    connect: Connect, sandbox: Sandbox, key: str
) -> None:
    """Also what carries our name, number or trunk no more, as long as its id is known."""
    lk, wanted = connect(), setup()
    recorded = make(lk, wanted)
    lost: list[Change] = [assign("name", "mine now")]
    if key in {INBOUND, OUTBOUND, FALLBACK_INBOUND}:
        lost.append(assign("numbers", ["+12025550123"]))
    else:
        lost.append(assign("trunk_ids", ["ST_other"]))
    for how in lost:
        change(sandbox, key, recorded[key], how)
    again = connect(make_attempt())
    assert wanted.inbound
    assert wanted.outbound
    assert wanted.fallback
    assert again.ensure_inbound_trunk(wanted.inbound, recorded[INBOUND]) == recorded[INBOUND]
    assert again.ensure_outbound_trunk(wanted.outbound, recorded[OUTBOUND]) == recorded[OUTBOUND]
    main = rule(recorded[INBOUND], pin=PIN)
    assert again.ensure_dispatch_rule(main, recorded[RULE]) == recorded[RULE]
    repaired = again.ensure_fallback(wanted.fallback, recorded, record=recorded.update)
    assert repaired == {each: recorded[each] for each in (FALLBACK_INBOUND, FALLBACK_RULE)}
    assert lk.read_objects(wanted, recorded) == planned_objects(wanted)
    assert (len(sandbox.inbound), len(sandbox.outbound), len(sandbox.rules)) == (2, 1, 2)


# Who else takes the calls

TAKING = {"sip_trunk_id": "ST_f", "name": "x", "numbers": ["1 (415) 555-0100", "+12025550123"]}
CHOSEN = {"allowed_numbers": ["+12025550199"]}


@pytest.mark.parametrize(
    ("trunks", "rivals"),
    [
        ([], ()),
        ([TAKING], ("ST_f",)),
        ([{**TAKING, **CHOSEN}], ()),
        ([{**TAKING, "numbers": ["+12025550123"]}], ()),
        ([{**TAKING, "numbers": [fallback_user(NUMBER)]}], ()),
        ([{"sip_trunk_id": "ST_any", "name": "x", "allowed_addresses": ["203.0.113.1"]}], ()),
        (
            [
                {"sip_trunk_id": f"ST_{n}", "name": "x", "allowed_addresses": ["203.0.113.1"]}
                for n in "ab"
            ],
            ("ST_a", "ST_b"),
        ),
        (
            [{**TAKING, **CHOSEN, "sip_trunk_id": f"ST_{n}"} for n in "ab"],
            ("ST_a", "ST_b"),
        ),
    ],
)
def test_rivals_are_those_that_make_the_import_fail(
    connect: Connect, sandbox: Sandbox, trunks: list[dict[str, object]], rivals: tuple[str, ...]
) -> None:
    sandbox.seed(inbound_trunks=trunks)
    lk = connect()
    assert lk.rivals(NUMBER) == rivals
    assert len(sandbox.journal()) == 1
    if rivals:
        with pytest.raises(TrunkConflict):
            lk.ensure_inbound_trunk(inbound())
    else:
        assert lk.ensure_inbound_trunk(inbound())
        assert lk.rivals(NUMBER) == (), "our own is none"
        assert lk.rivals(E164("+12025550100")) == ()


@pytest.mark.parametrize("more", [{}, CHOSEN])
def test_trunk_that_answers_the_same_number_shadows_ours(
    connect: Connect, sandbox: Sandbox, more: dict[str, object]
) -> None:
    lk, wanted = connect(), setup()
    recorded = make(lk, wanted)
    other = {"sip_trunk_id": "ST_g", "name": "y", "numbers": [fallback_user(NUMBER)]}
    sandbox.seed(inbound_trunks=[{**TAKING, **more}, {**other, **more}])
    found = lk.read_objects(wanted, recorded)
    main, fallback = found[INBOUND], found[FALLBACK_INBOUND]
    assert main
    assert fallback
    assert (main["shadowed_by"], fallback["shadowed_by"]) == ("ST_f", "ST_g")


def test_rules_that_take_the_trunks_calls_shadow_ours(connect: Connect, sandbox: Sandbox) -> None:
    lk, wanted = connect(), setup()
    recorded = make(lk, wanted)

    def foreign(rule_id: str, trunk: str, **more: Any) -> dict[str, Any]:
        individual = {"dispatch_rule_individual": {"pin": more.pop("pin", PIN)}}
        trunk_ids = [recorded[trunk]] if trunk else []
        about = {"sip_dispatch_rule_id": rule_id, "name": "x", "trunk_ids": trunk_ids}
        return {**about, "rule": individual, **more}

    sandbox.seed(
        dispatch_rules=[
            foreign("SDR_tie", INBOUND),
            foreign("SDR_caller", INBOUND, inbound_numbers=["+12025550123"]),
            foreign("SDR_open", INBOUND, pin="", numbers=[NUMBER]),
            foreign("SDR_later", INBOUND, pin=""),
            foreign("SDR_elsewhere", INBOUND, pin="", numbers=["+12025550123"]),
            foreign("SDR_other_pin", INBOUND, pin="0000"),
            foreign("SDR_any", ""),
            foreign("SDR_fallback", FALLBACK_INBOUND, pin="", numbers=[fallback_user(NUMBER)]),
        ]
    )
    found = lk.read_objects(wanted, recorded)
    main, fallback = found[RULE], found[FALLBACK_RULE]
    assert main
    assert fallback
    assert main["shadowed_by"] == "SDR_caller,SDR_open,SDR_tie"
    assert fallback["shadowed_by"] == "SDR_fallback"
