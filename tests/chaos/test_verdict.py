"""The judge is shown every crime, one at a time, and must name it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.verdict import Evidence, Import, Job, Number, final_states, judge

KIND = ("twilio", "webhook", "full")
MODEL, ACTIVE, FAILED, RELEASED = (f"imp_{digit * 32}" for digit in "1234")
FOREIGN = "https://pbx.example.com/voice?key=1"


def account(sid: str) -> dict[str, Any]:
    number = f"+1312555000{sid}"
    return {
        "sid": sid,
        "numbers": {number: {"phone_number": number, "voice_url": FOREIGN}},
        "trunks": {"TK0": {"friendly_name": "theirs", "origination_urls": []}},
        "released_numbers": [],
        "rules": {"unique": True},
        "zentrunk": {"uris": {}},
    }


def trunk(import_id: str) -> dict[str, Any]:
    return {"friendly_name": f"trunkline-{import_id.replace('_', '-')}", "origination_urls": [{}]}


def rule(import_id: str) -> dict[str, Any]:
    return {"name": f"trunkline:{import_id}", "trunk_ids": []}


def world() -> dict[str, Any]:
    accounts = {sid: account(sid) for sid in "1234"}
    livekit: dict[str, Any] = {"api_keys": ["k"], "inbound_trunks": {}}
    return {
        "twilio": {"accounts": accounts},
        "livekit": {**livekit, "outbound_trunks": {}, "dispatch_rules": {}},
    }


def one(sid: str, import_id: str) -> Import:
    return Import(
        key=f"key-{sid}",
        ids=frozenset({import_id}),
        number=f"+1312555000{sid}",
        account=("twilio", sid),
        kind=KIND,
    )


def job(import_id: str, state: str, kind: str = "import", job_id: str = "") -> Job:
    return Job(
        id=job_id or import_id, kind=kind, state=state, import_id=import_id, number="+13125550001"
    )


@pytest.fixture
def clean() -> Evidence:
    """Four imports: two active, one failed, one released."""
    before, after = world(), world()
    for sid, import_id in (("1", MODEL), ("2", ACTIVE)):
        ours = after["twilio"]["accounts"][sid]
        ours["trunks"][f"TK{sid}"] = trunk(import_id)
        ours["zentrunk"]["uris"]["u"] = {"trunk": f"TK{sid}"}  # named by its owner alone
        ours["numbers"][f"+1312555000{sid}"]["voice_url"] = "https://voice.trunkline.example"
        after["livekit"]["dispatch_rules"][f"SDR{sid}"] = rule(import_id)
    imports = [
        one(sid, name) for sid, name in zip("1234", (MODEL, ACTIVE, FAILED, RELEASED), strict=True)
    ]
    return Evidence(
        imports=imports,
        jobs=[
            job(MODEL, "active"),
            job(ACTIVE, "active"),
            job(FAILED, "failed"),
            job(RELEASED, "active"),
            job(RELEASED, "released", "release", "imp_9"),
        ],
        numbers=[
            Number(number="+13125550001", import_id=MODEL, status="active"),
            Number(number="+13125550002", import_id=ACTIVE, status="active"),
            Number(number="+13125550004", import_id=RELEASED, status="released"),
        ],
        keys=["key-1", "key-2", "key-3", "key-4"],
        before=before,
        after=after,
        models={KIND: MODEL},
    )


def test_nothing_is_wrong_with_a_clean_run(clean: Evidence) -> None:
    verdict = judge(clean)
    assert verdict.kept, verdict
    assert final_states(clean.jobs) == {
        "import": {"active": 3, "failed": 1},
        "release": {"released": 1},
    }


def hurt(evidence: Evidence, change: Callable[[dict[str, Any]], None]) -> Evidence:
    after = deepcopy(dict(evidence.after))
    change(after)
    return replace(evidence, after=after)


def wrong(evidence: Evidence) -> dict[str, int]:
    return {name: len(found) for name, found in vars(judge(evidence)).items() if found}


def twilio(state: dict[str, Any], sid: str) -> Any:
    return state["twilio"]["accounts"][sid]


# Duplicates


def test_a_second_object_of_one_import_is_a_duplicate(clean: Evidence) -> None:
    more = hurt(clean, lambda state: twilio(state, "2")["trunks"].update(TKx=trunk(ACTIVE)))
    assert wrong(more) == {"duplicates": 1}
    rules = hurt(clean, lambda state: state["livekit"]["dispatch_rules"].update(x=rule(ACTIVE)))
    assert wrong(rules) == {"duplicates": 1}


def test_a_second_address_in_one_trunk_is_a_duplicate(clean: Evidence) -> None:
    def double(state: dict[str, Any]) -> None:
        twilio(state, "2")["trunks"]["TK2"]["origination_urls"].append({})

    # One trunk that should not be, and one missing.
    assert wrong(hurt(clean, double)) == {"duplicates": 1, "contradictions": 1}


def test_a_number_that_is_held_twice_is_a_duplicate(clean: Evidence) -> None:
    again = Number(number="+13125550001", import_id=MODEL, status="pending")
    assert wrong(replace(clean, numbers=[*clean.numbers, again])) == {"duplicates": 1}


def test_a_key_with_two_jobs_or_two_answers_is_a_duplicate(clean: Evidence) -> None:
    assert wrong(replace(clean, keys=[*clean.keys, "key-1"])) == {"duplicates": 1}
    answered = replace(clean.imports[2], ids=frozenset({FAILED, "imp_8"}))
    assert wrong(replace(clean, imports=[*clean.imports[:2], answered, clean.imports[3]])) == {
        "duplicates": 1
    }


# Leftovers


@pytest.mark.parametrize("import_id", [FAILED, RELEASED, f"imp_{'7' * 32}"])
def test_what_an_import_that_is_not_active_left_is_a_leftover(
    clean: Evidence, import_id: str
) -> None:
    left = hurt(clean, lambda state: twilio(state, "3")["trunks"].update(TKx=trunk(import_id)))
    assert wrong(left) == {"leftovers": 1}
    at_livekit = hurt(
        clean, lambda state: state["livekit"]["inbound_trunks"].update(x=rule(import_id))
    )
    assert wrong(at_livekit) == {"leftovers": 1}


def test_what_carries_no_name_is_a_leftover(clean: Evidence) -> None:
    left = hurt(clean, lambda state: twilio(state, "3")["zentrunk"]["uris"].update(u={"x": 1}))
    assert wrong(left) == {"leftovers": 1}


# Not as it was


@pytest.mark.parametrize("sid", ["3", "4"])
def test_a_number_that_was_not_put_back_is_seen(clean: Evidence, sid: str) -> None:
    def leave(state: dict[str, Any]) -> None:
        (number,) = twilio(state, sid)["numbers"].values()
        number["voice_url"] = "https://voice.trunkline.example"

    assert wrong(hurt(clean, leave)) == {"unrestored": 1}


def test_a_number_that_was_given_away_is_seen(clean: Evidence) -> None:
    def give_away(state: dict[str, Any]) -> None:
        twilio(state, "3")["released_numbers"].append("+13125550003")
        twilio(state, "3")["numbers"].clear()

    assert "unrestored" in wrong(hurt(clean, give_away))


@pytest.mark.parametrize("sid", ["2", "3"])
def test_a_thing_of_the_customers_that_is_gone_or_changed_is_seen(
    clean: Evidence, sid: str
) -> None:
    # Also in an account whose number is ours.
    gone = hurt(clean, lambda state: twilio(state, sid)["trunks"].pop("TK0"))
    assert wrong(gone) == {"unrestored": 1}
    changed = hurt(clean, lambda state: twilio(state, sid)["rules"].update(unique=False))
    assert wrong(changed) == {"unrestored": 1}


def test_the_other_number_of_a_shared_account_is_compared(clean: Evidence) -> None:
    def share(state: dict[str, Any]) -> None:
        twilio(state, "2")["numbers"]["+13125550009"] = {"voice_url": FOREIGN}

    before = deepcopy(dict(clean.before))
    share(before)
    shared = hurt(replace(clean, before=before), share)
    assert wrong(shared) == {}

    def leave(state: dict[str, Any]) -> None:
        twilio(state, "2")["numbers"]["+13125550009"]["voice_url"] = "https://voice.example"

    assert wrong(hurt(shared, leave)) == {"unrestored": 1}


# Ends


@pytest.mark.parametrize("state", ["queued", "running", "undoing", "stuck"])
def test_a_job_that_is_not_at_its_end_is_seen(clean: Evidence, state: str) -> None:
    open_still = replace(clean.jobs[2], state=state)
    assert wrong(replace(clean, jobs=[*clean.jobs[:2], open_still, *clean.jobs[3:]])) == {
        "not_final": 1
    }


def test_an_active_import_without_its_number_or_its_objects_is_a_contradiction(
    clean: Evidence,
) -> None:
    assert "contradictions" in wrong(replace(clean, numbers=clean.numbers[:1]))
    lacking = hurt(clean, lambda state: state["livekit"]["dispatch_rules"].pop("SDR2"))
    assert wrong(lacking) == {"contradictions": 1}


def test_a_number_that_is_ours_after_its_release_is_a_contradiction(clean: Evidence) -> None:
    kept = replace(clean.numbers[2], status="active")
    assert "contradictions" in wrong(replace(clean, numbers=[*clean.numbers[:2], kept]))
